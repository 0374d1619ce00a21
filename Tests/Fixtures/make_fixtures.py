#!/usr/bin/env python3
"""Makes the golden data of the tests from the reference implementations, or checks it.

    python3 Tests/Fixtures/make_fixtures.py              make everything
    python3 Tests/Fixtures/make_fixtures.py unet vae     make these sections
    python3 Tests/Fixtures/make_fixtures.py --check      make into a temporary folder and compare

Each section is a module in sections/ with `make(out: Path)`; it writes small files into data/SECTION.
The reference versions are pinned in requirements.txt; a virtual environment with them is made in
.venv-fixtures on first use.
"""
import argparse, hashlib, importlib.util, json, os, subprocess, sys, tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def environment(requirements: str) -> Path:
    """The Python of a virtual environment with the pinned packages, made when it is missing."""
    file = HERE / requirements
    key = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    folder = ROOT / f".venv-fixtures-{key}"
    python = folder / "bin/python"
    if not (folder / "ready").exists():
        print(f"installing {requirements} into {folder.name}", flush=True)
        subprocess.check_call([sys.executable, "-m", "venv", str(folder)])
        subprocess.check_call([str(python), "-m", "pip", "-q", "install", "-r", str(file)])
        (folder / "ready").touch()
    return python


def load(section: str):
    spec = importlib.util.spec_from_file_location(section, HERE / "sections" / f"{section}.py")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(HERE / "sections"))
    spec.loader.exec_module(module)
    return module


def compare(made: Path, kept: Path) -> list[str]:
    """What differs: tensors to 1e-4 of their largest value, 8-bit ones (pictures) to 2 in 99.5 % of the values, which
    is what processors differ by; everything else exactly."""
    problems = []
    names = sorted({str(p.relative_to(d)) for d in (made, kept) for p in d.rglob("*") if p.is_file()})
    for name in names:
        a, b = made / name, kept / name
        if not a.exists() or not b.exists():
            problems.append(f"{name}: only in {'the repository' if b.exists() else 'the new data'}")
        elif a.read_bytes() == b.read_bytes():
            continue
        elif name.endswith(".safetensors"):
            import torch
            from safetensors.torch import load_file
            x, y = load_file(a), load_file(b)
            if x.keys() != y.keys():
                problems.append(f"{name}: other tensors")
                continue
            for k in x:
                if x[k].shape != y[k].shape:
                    problems.append(f"{name}: {k} has another shape")
                elif x[k].dtype != y[k].dtype:
                    problems.append(f"{name}: {k} is {x[k].dtype}")
                elif x[k].dtype == torch.uint8 and x[k].numel():
                    near = ((x[k].int() - y[k].int()).abs() <= 2).float().mean().item()
                    if near < 0.995:
                        problems.append(f"{name}: {k} has {100 * near:.2f} % of its values within 2")
                elif x[k].numel():
                    e = (x[k].double() - y[k].double()).abs().max() / max(float(y[k].double().abs().max()), 1e-30)
                    if e > 1e-4:
                        problems.append(f"{name}: {k} differs by {float(e):.1e}")
        else:
            problems.append(f"{name}: differs")
    return problems


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("sections", nargs="*")
    p.add_argument("--check", action="store_true", help="compare instead of writing")
    p.add_argument("--inside", help=argparse.SUPPRESS)
    a = p.parse_args()
    every = sorted(f.stem for f in (HERE / "sections").glob("*.py") if not f.stem.startswith("_"))
    if a.inside:
        out = Path(a.inside)
        out.mkdir(parents=True, exist_ok=True)
        load(a.sections[0]).make(out)
        return
    bad = 0
    for s in a.sections or every:
        if s not in every:
            sys.exit(f"no section {s}; there are {', '.join(every)}")
        python = os.environ.get("NETI_FIXTURE_PYTHON_REQUIREMENTS") or environment("requirements.txt")
        run = lambda out: subprocess.check_call([str(python), str(HERE / "make_fixtures.py"), s, "--inside", str(out)])
        if a.check:
            with tempfile.TemporaryDirectory() as d:
                run(d)
                code = f"import sys; sys.path.insert(0, {str(HERE)!r}); import make_fixtures as m, json; from pathlib import Path; print(json.dumps(m.compare(Path({d!r}), Path({str(HERE / 'data' / s)!r}))))"
                problems = json.loads(subprocess.check_output([str(python), "-c", code]).splitlines()[-1])
            print(f"{s}: " + ("as in the repository" if not problems else "; ".join(problems)))
            bad += bool(problems)
        else:
            run(HERE / "data" / s)
            print(f"{s}: made")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
