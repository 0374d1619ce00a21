#!/usr/bin/env python3
"""Puts in place what the Swift package needs: libtorch, and the system's libraries for images, text and the network.

    scripts/setup.py               find libtorch, or fetch it into .libtorch
    scripts/setup.py --from PATH   use an installed Python torch or an unpacked libtorch instead
    scripts/setup.py --check       only say whether everything is there
    scripts/setup.py --force       fetch again
    scripts/setup.py --cuda        fetch the build for NVIDIA cards, with the CUDA libraries it links to

With LIBTORCH set, libtorch is looked for there and nothing is fetched. Otherwise it comes from the
PyTorch wheel: the newest tested version whose CPU build is in the index that pip is configured with, else
in PyTorch's own CPU index. The build for NVIDIA cards (some GB) is fetched where that fails and there is
such a card, or when it is asked for. What is there already stays, whatever its version, from 2.11 on. No
Python environment is changed. A second run does nothing. Every failure is one line, and exit code 1.
"""
import argparse
import base64
import contextlib
import errno
import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

# Every test was run with these, oldest first; Runtime.testedVersions in Sources/Torch/Device.swift says the same.
TESTED = ("2.11.0", "2.13.0", "2.15.0")
# What Sources/CTorch compiles with.
OLDEST = (2, 11)
ROOT = Path(__file__).resolve().parent.parent
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
# Any Python's wheel will do, since only the C++ part is taken; this one is asked for.
PYTHON = "3.11"
SPARE_BYTES = 200 << 20
# What pkg-config calls each, and the packages of Debian and of Homebrew. Text needs a font; macOS has some.
LIBRARIES = {"libturbojpeg": (["libturbojpeg0-dev"], ["jpeg-turbo"]),
             "libpng": (["libpng-dev"], ["libpng"]), "libwebp": (["libwebp-dev"], ["webp"]),
             "pangocairo": (["libpango1.0-dev", "fonts-dejavu-core"], ["pango"]),
             "zlib": (["zlib1g-dev"], ["zlib"])}
if sys.platform != "darwin":  # macOS has CryptoKit, and a libcurl of its own
    LIBRARIES["libcrypto"] = (["libssl-dev"], ["openssl"])
    LIBRARIES["libcurl"] = (["libcurl4-openssl-dev"], ["curl"])
LIBRARY = "dylib" if sys.platform == "darwin" else "so"
ELSE = "or set LIBTORCH to an unpacked libtorch, %d.%d or newer, or run scripts/setup.py --from PATH" % OLDEST
OUT_OF_REACH = "not reachable"
FOR_CARDS = "pip's index, build for NVIDIA cards"
NETWORK = ("Retrying (", "connection", "Connection", "timed out", "name resolution", "SSLError", "ProxyError")


class Failure(Exception):
    """One line for the user."""


class Unavailable(Failure):
    """A source that does not have it; the next one may."""


class Damaged(Failure):
    """A wheel that is not whole."""


def say(line):
    print("setup: " + line, file=sys.stderr, flush=True)


# ---- what is there

def version_of(folder):
    """The version that the headers in `folder` tell, such as 2.13.0; '' when they tell none."""
    try:
        text = (folder / "include/torch/headeronly/version.h").read_text()
    except OSError:
        return ""
    parts = [re.search(r"define TORCH_VERSION_%s (\d+)" % p, text) for p in ("MAJOR", "MINOR", "PATCH")]
    return ".".join(p.group(1) for p in parts) if all(parts) else ""


def problem_with(folder):
    """What keeps `folder` from being our libtorch; None when nothing does."""
    if not (folder / "include").is_dir():
        return "has no include folder"
    if not (folder / ("lib/libtorch_cpu." + LIBRARY)).is_file():
        return "has no lib/libtorch_cpu." + LIBRARY
    found = version_of(folder)
    if not found or tuple(map(int, found.split("."))) < OLDEST:
        return "holds torch %s, and %d.%d or newer is needed" % ((found or "of an unknown version",) + OLDEST)
    return None


def installed(target):
    """The version in `target` when a set-up finished there, else None."""
    try:
        version = (target / "version").read_text().strip()
    except OSError:
        return None
    return version if version and problem_with(target) is None else None


# ---- fetching

def wheel_platforms():
    """pip's names for this platform, or a failure where PyTorch has no wheel for it."""
    system, machine = platform.system(), platform.machine().lower()
    if system == "Linux" and machine in ("x86_64", "amd64", "aarch64", "arm64"):
        libc, release = platform.libc_ver()
        if libc != "glibc" or tuple(map(int, release.split(".")[:2])) < (2, 28):
            raise Failure("this Linux has %s; PyTorch's libraries need glibc 2.28 or newer"
                          % (" ".join((libc, release)).strip() or "no glibc"))
        arch = "x86_64" if machine in ("x86_64", "amd64") else "aarch64"
        return ["manylinux_2_%s_%s" % (n, arch) for n in range(28, 16, -1)] + ["manylinux2014_" + arch]
    if system == "Darwin" and machine == "arm64":
        return ["macosx_14_0_arm64"]
    raise Failure("PyTorch has no build for %s on %s; Linux (x86-64, ARM) and macOS (Apple silicon) have one"
                  % (system or "this system", machine or "this processor"))


def has_nvidia_card():
    """Whether the system knows an NVIDIA card: by its driver's devices, or by its tool."""
    return any(Path("/dev").glob("nvidia*")) or shutil.which("nvidia-smi") is not None


def find_pip():
    """The command that starts pip."""
    for command in ([sys.executable, "-m", "pip"], ["pip3"], ["pip"]):
        try:
            if subprocess.run(command + ["--version"], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL).returncode == 0:
                return command
        except OSError:
            pass
    raise Failure("%s has no pip to fetch libtorch with: install it (Debian and Ubuntu: apt-get install "
                  "python3-pip), %s" % (sys.executable or "Python", ELSE))


def pip_download(pip, requirements, folder, *options):
    """The wheels of `requirements` in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    command = pip + ["download", "--dest", str(folder), "--only-binary=:all:", "--python-version", PYTHON,
                     "--implementation", "cp", "--abi", "cp" + PYTHON.replace(".", ""), "--abi", "none",
                     "--retries", "2", "--disable-pip-version-check"]
    for p in wheel_platforms():
        command += ["--platform", p]
    run = subprocess.run(
        command + list(options) + requirements, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
        stdout=sys.stderr if sys.stderr.isatty() else subprocess.DEVNULL,
        env=dict(os.environ, PIP_RESUME_RETRIES="5"))  # newer pips go on where a connection broke
    if run.returncode == 0:
        return
    text = run.stderr.decode(errors="replace")
    errors = [line[7:] for line in text.splitlines() if line.startswith("ERROR: ")]
    if "DO NOT MATCH THE HASHES" in text:
        raise Damaged("wrong checksum: the download is not what the index promises; try again")
    if "No space left" in text:
        raise OSError(errno.ENOSPC, "No space left on device")
    if any(sign in text for sign in NETWORK):
        raise Unavailable(OUT_OF_REACH)
    if "No matching distribution" in text:
        raise Unavailable("does not have it")
    raise Unavailable(errors[-1] if errors else "pip failed with code %d" % run.returncode)


def is_whole(wheel):
    """Whether a file that is there already is a zip to its end (its checksums are looked at later)."""
    try:
        with zipfile.ZipFile(wheel) as z:
            return bool(z.infolist())
    except (OSError, zipfile.BadZipFile):
        return False


def sources(versions, cuda):
    """(what it is called, pip's requirement, pip's options), the best first. A source is asked for every version
    before the next source is: a second index is often out of reach."""
    newest_first = sorted(versions, key=lambda v: tuple(map(int, v.split("."))), reverse=True)
    # On a Mac the only build is the default one. On Linux that is for NVIDIA cards, on ARM, too.
    local = "" if sys.platform == "darwin" else "+cpu"
    found = []
    if not cuda or not local:
        for name, options in (("pip's index", []), ("PyTorch's CPU index", ["--index-url", CPU_INDEX])):
            found += [(name, "torch==%s%s" % (v, local), options) for v in newest_first]
    if local and (cuda or has_nvidia_card()):
        found += [(FOR_CARDS, "torch==" + v, []) for v in newest_first]
    return found


def wheels_of(requirement, name, cache):
    """The wheels in `cache` that answer pip's `requirement` to the source `name`. As for pip, 2.15.0 admits
    2.15.0+cu130, too. The build for the CPU is none for cards."""
    wanted, found = requirement.split("==")[1], []
    for wheel in sorted(cache.glob("torch-*-*.whl")):
        version = wheel.name.split("-")[1]
        public, _, local = version.partition("+")
        if wanted in (version, public) and not (name == FOR_CARDS and local.startswith("cpu")):
            found.append(wheel)
    return found


def fetch_wheel(partial, versions, cuda):
    """The PyTorch wheel of one of these versions, from the first source that has one; and the pip that fetched it."""
    cache = partial / "wheels"
    choices, reasons = sources(versions, cuda), {}
    for name, requirement, _ in choices:
        for kept in wheels_of(requirement, name, cache):
            if is_whole(kept):
                return kept, None
            say("%s was only half there; fetching it again" % kept.name)
            kept.unlink()
    wheel_platforms()
    pip = find_pip()
    for name, requirement, options in choices:
        if reasons.get(name) == OUT_OF_REACH:
            continue
        try:
            say("fetching %s from %s" % (requirement, name))
            # Else pip would prefer 2.15.0+cpu to 2.15.0, where it sees both.
            but = ",!=%s+cpu" % requirement.split("==")[1] if name == FOR_CARDS else ""
            pip_download(pip, [requirement + but], cache, "--no-deps", *options)
        except Unavailable as e:
            reasons[name] = str(e)
            continue
        found = wheels_of(requirement, name, cache)
        if not found:
            others = ", ".join(sorted(w.name for w in cache.glob("*.whl"))) or "nothing"
            raise Failure("%s, asked for %s, gave %s: not what is needed; %s"
                          % (name, requirement, others, ELSE.replace("or set", "set", 1)))
        return found[0], pip
    hint = "" if FOR_CARDS in reasons or sys.platform == "darwin" else (
        "; --cuda fetches the build for NVIDIA cards, which runs without one, too (some GB)")
    raise Failure("cannot fetch libtorch (%s): check the network, %s%s"
                  % ("; ".join("%s: %s" % r for r in reasons.items()), ELSE, hint))


# ---- unpacking

def checksums(z):
    """The wheel's RECORD: sha256 digests by file name."""
    names = [n for n in z.namelist() if n.endswith(".dist-info/RECORD") and n.count("/") == 1]
    if len(names) != 1:
        raise Damaged("has no RECORD")
    table = {}
    for line in z.read(names[0]).decode().splitlines():
        parts = line.rsplit(",", 2)
        if len(parts) == 3 and parts[1].startswith("sha256="):
            digest = parts[1][len("sha256="):]
            table[parts[0]] = base64.urlsafe_b64decode(digest + "=" * (-len(digest) % 4))
    return table


def unpack(wheel, place):
    """Writes the wheel's files to where `place(name)` says (None: left out), checking each one's sha256."""
    try:
        with zipfile.ZipFile(wheel) as z:
            table = checksums(z)
            chosen = [(i, place(i.filename)) for i in z.infolist() if not i.is_dir()]
            chosen = [(i, path) for i, path in chosen if path is not None]
            for i, path in chosen:
                parts = i.filename.split("/")
                if ".." in parts or "" in parts or "\\" in i.filename:
                    raise Damaged("holds a file with the unsafe name %r" % i.filename)
                path.parent.mkdir(parents=True, exist_ok=True)
                digest = hashlib.sha256()
                with z.open(i) as source, open(path, "wb") as out:
                    for block in iter(lambda: source.read(1 << 20), b""):
                        digest.update(block)
                        out.write(block)
                if digest.digest() != table.get(i.filename):
                    raise Damaged("wrong checksum for %s" % i.filename)
            return len(chosen)
    except (zipfile.BadZipFile, EOFError, ValueError, KeyError, NotImplementedError) as e:
        raise Damaged("is not a whole wheel (%s)" % e)


def need_space(folder, wheel):
    """Fails before the disk is full rather than after."""
    try:
        with zipfile.ZipFile(wheel) as z:
            need = sum(i.file_size for i in z.infolist() if i.filename.startswith(("torch/include/", "torch/lib/")))
    except zipfile.BadZipFile as e:
        raise Damaged("is not a whole wheel (%s)" % e)
    if shutil.disk_usage(folder).free < need + SPARE_BYTES:
        raise OSError(errno.ENOSPC, "%d MB are needed" % ((need + SPARE_BYTES) >> 20))


def add_cuda(wheel, pip, partial, lib):
    """Adds the CUDA libraries that the wheel depends on, where it depends on any."""
    with zipfile.ZipFile(wheel) as z:
        name = next(n for n in z.namelist() if n.endswith(".dist-info/METADATA") and n.count("/") == 1)
        needs = [line.split(":", 1)[1].strip() for line in z.read(name).decode().splitlines()
                 if re.match(r"Requires-Dist: (nvidia|cuda)-", line) and "extra ==" not in line]
    if not needs:
        return
    say("fetching the CUDA libraries that this build links to (some GB)")
    cache = partial / "cuda"
    for kept in list(cache.glob("*.whl")):
        if not is_whole(kept):
            kept.unlink()
    try:
        pip_download(pip or find_pip(), needs, cache)
    except Unavailable as e:
        raise Failure("cannot fetch the CUDA libraries (%s): run again, %s" % (e, ELSE))
    for other in sorted(cache.glob("*.whl")):
        take(other, lambda n: lib / n.rsplit("/", 1)[1] if re.search(r"/lib/[^/]+\.so[^/]*$", n) else None)


def take(wheel, place):
    """`unpack`; a wheel that is damaged goes, so that the next run fetches it anew."""
    try:
        return unpack(wheel, place)
    except Damaged as e:
        wheel.unlink()
        raise Failure("%s: %s; it was removed, run again to fetch it anew" % (wheel.name, e))


def inside(name):
    """Where a file of the PyTorch wheel goes in .libtorch; None for what is not needed there."""
    if name.startswith(("torch/include/", "torch/lib/")):
        return name[len("torch/"):]
    licence = re.match(r"torch-[^/]+\.dist-info/(licenses/.+)", name)
    return licence.group(1) if licence else None


def fetch(root, versions=TESTED, cuda=False):
    """Fills root/.libtorch with the newest of these versions that is to be had; returns it."""
    target, partial = root / ".libtorch", root / ".libtorch.partial"
    wheel, pip = fetch_wheel(partial, versions, cuda)
    version = wheel.name.split("-")[1]
    new = partial / "new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    try:
        need_space(partial, wheel)
    except Damaged as e:
        wheel.unlink()
        raise Failure("%s: %s; it was removed, run again to fetch it anew" % (wheel.name, e))
    say("unpacking and checking " + wheel.name)
    take(wheel, lambda n: new / inside(n) if inside(n) else None)
    add_cuda(wheel, pip, partial, new / "lib")
    problem = problem_with(new)
    if not problem and version_of(new) != version.split("+")[0]:
        problem = "holds torch " + version_of(new)
    if problem:
        raise Failure("%s %s" % (wheel.name, problem))
    put(new, target, version)
    return version


def put(new, target, version):
    """Moves a finished folder to its place in one step."""
    (new / "version").write_text(version + "\n")
    old = new.parent / "old"
    shutil.rmtree(old, ignore_errors=True)
    if target.is_symlink() or target.is_file():
        target.unlink()
    elif target.exists():
        os.rename(target, old)
    os.rename(new, target)
    shutil.rmtree(new.parent, ignore_errors=True)


def use(path, root):
    """Links root/.libtorch to an installed Python torch or an unpacked libtorch; returns the version."""
    path = Path(path).expanduser()
    if not path.is_dir():
        raise Failure("--from %s: there is no such folder" % path)
    inside = [path, path / "torch", path / "libtorch", *sorted(path.glob("lib/python3*/site-packages/torch"))]
    found = next((p.resolve() for p in inside if (p / "lib").is_dir() and (p / "include").is_dir()), None)
    problem = problem_with(found) if found else "holds no include and lib folders of libtorch"
    if problem:
        raise Failure("--from %s: %s" % (path, problem))
    partial = root / ".libtorch.partial"
    new = partial / "new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    for name in ("include", "lib"):
        (new / name).symlink_to(found / name)
    version = version_of(found)
    put(new, root / ".libtorch", version)
    return version


# ---- the system's libraries

def missing_libraries():
    if shutil.which("pkg-config") is None:
        return list(LIBRARIES)
    def has(name):
        return subprocess.run(["pkg-config", "--exists", name], stderr=subprocess.DEVNULL).returncode == 0
    return [] if has(" ".join(LIBRARIES)) else [name for name in LIBRARIES if not has(name)]


def install_libraries(missing):
    """Installs the development files of what is missing with the system's package manager."""
    def packages(system):
        return [p for name in missing for p in LIBRARIES[name][system]]
    if platform.system() == "Darwin" and shutil.which("brew"):
        steps = [["brew", "install", "pkgconf"] + packages(1)]
    elif shutil.which("apt-get"):
        steps = [["apt-get", "install", "-y", "-q", "--no-install-recommends", "pkg-config"] + packages(0)]
        # A fresh machine has no package lists yet.
        steps += [["apt-get", "update", "-q"], steps[0]]
        if os.geteuid() != 0:
            if shutil.which("sudo") is None:
                raise Failure("%s missing: as root, run: %s" % (", ".join(missing), " ".join(steps[0])))
            sudo = ["sudo"] if sys.stdin and sys.stdin.isatty() else ["sudo", "-n"]
            steps = [sudo + s for s in steps]
    else:
        raise Failure("%s missing: install pkg-config, and the development files of libjpeg-turbo (with its "
                      "TurboJPEG API), libpng, libwebp, libcurl and Pango with Cairo" % ", ".join(missing))
    say("installing the system's libraries that are missing: " + " ".join(steps[0]))
    for step in steps:
        done = subprocess.run(step, stdin=None if sys.stdin and sys.stdin.isatty() else subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL if len(steps) > 1 else None,
                              env=dict(os.environ, DEBIAN_FRONTEND="noninteractive")).returncode == 0
        if done and not missing_libraries():
            return
    raise Failure("could not install %s: run this and look at what it says: %s"
                  % (", ".join(missing_libraries() or missing), " ".join(steps[0])))


# ---- the command

@contextlib.contextmanager
def alone(root):
    """One set-up at a time: a second one waits."""
    descriptor = os.open(str(root), os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def libtorch(a, root):
    """Finds or fetches libtorch; returns what to say about it, and whether anything was done."""
    given = os.environ.get("LIBTORCH")
    if given:
        # Swift's build runs in other folders than this one.
        problem = problem_with(Path(given)) if os.path.isabs(given) else "is not an absolute path"
        if problem:
            raise Failure("LIBTORCH=%s %s" % (given, problem))
        if a.source:
            raise Failure("LIBTORCH is set (to %s), so --from would have no effect: unset it" % given)
        return "libtorch %s is at LIBTORCH=%s" % (version_of(Path(given)), given), False
    version = installed(root / ".libtorch")
    if a.check and not version:
        raise Failure("libtorch is not set up: run scripts/setup.py")
    if a.check or (version and not a.force and not a.source and not a.cuda):
        return "libtorch %s is in .libtorch" % version, False
    with alone(root):
        # Another set-up may have finished while this one waited.
        version = installed(root / ".libtorch")
        if not version or a.force or a.source or a.cuda:
            version = use(a.source, root) if a.source else fetch(root, cuda=a.cuda)
    return "libtorch %s is now in .libtorch" % version, True


def main(arguments=None, root=ROOT):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--from", dest="source", metavar="PATH", help="an installed torch or an unpacked libtorch")
    p.add_argument("--check", action="store_true", help="change nothing")
    p.add_argument("--force", action="store_true", help="fetch again")
    p.add_argument("--cuda", action="store_true", help="fetch the build for NVIDIA cards (some GB)")
    p.add_argument("--quiet", action="store_true", help="say nothing when there is nothing to do")
    a = p.parse_args(arguments)
    try:
        line, changed = libtorch(a, root)
        missing = missing_libraries()
        if missing and a.check:
            raise Failure("libraries of the system are missing: %s: run scripts/setup.py" % ", ".join(missing))
        if missing:
            install_libraries(missing)
            changed = True
        if changed or not a.quiet:
            say(line + ("" if changed or a.check else ", nothing to do"))
        return 0
    except Failure as e:
        say(" ".join(str(e).split()))
    except OSError as e:
        if e.errno == errno.ENOSPC:
            say("no space left on the disk of %s (%s)" % (root, e.strerror))
        else:
            say("%s: %s" % (e.filename or root, e.strerror or e))
    except KeyboardInterrupt:
        say("stopped; run again to go on")
        return 130
    return 1


if __name__ == "__main__":
    if sys.version_info < (3, 8):
        sys.exit("setup: Python 3.8 or newer is needed, this is " + platform.python_version())
    sys.exit(main())
