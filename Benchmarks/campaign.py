"""What kill.py, faults.py and rates.py share: places to run neti in, what a run left behind, and tables."""
import argparse, array, hashlib, http.client, json, os, platform, re, shutil, signal, struct, subprocess, sys, tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "Benchmarks/results"
# Signs of an end that neti did not choose.
CRASH_SIGNS = ("Fatal error", "Stack dump", "terminate called", "Error Domain", "Traceback", "Backtrace", "*** ",
               "Segmentation fault", "Bus error", "Aborted", "core dumped", "what():")


def arguments(description, count=None):
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    parser.add_argument("--neti", type=Path, default=ROOT / ".build/release/neti", help="the program itself, not the "
                        "script that builds it: a signal has to reach it")
    parser.add_argument("--seed", type=int, default=1)
    if count:
        parser.add_argument("--count", type=int, default=count)
    return parser


class Result:
    """How a command ended."""

    def __init__(self, code, output, error):
        self.code, self.output, self.error = code, output, error

    @property
    def line(self):
        """The one line that says what went wrong; empty where there is none, or several."""
        lines = [x for x in self.error.splitlines() if x.startswith(("neti: ", "Error: "))]
        return lines[0] if len(lines) == 1 else ""

    def problems(self, codes=(1,), says=()):
        """What is wrong with the way it ended."""
        found = []
        if self.code not in codes:
            found.append(f"exit code {self.code}")
        found += [f"“{sign}”" for sign in CRASH_SIGNS if sign in self.error]
        if self.code in (1, 64) and not self.line:
            found.append("not one line that says why")
        found += [f"“{word}” is not said" for word in says if word not in self.error]
        return found


class Place:
    """A folder with two pictures in which neti runs."""

    def __init__(self, neti):
        self.folder = Path(tempfile.mkdtemp(prefix="neti-campaign-"))
        self.neti = neti.resolve()
        (self.folder / "images").mkdir()
        for n in (1, 2):
            shutil.copy(ROOT / f"Examples/spotty/{n}.jpg", self.folder / "images")
        self.folder.chmod(0o755)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.folder, ignore_errors=True)

    def __truediv__(self, name):
        return self.folder / name

    def start(self, words, before=(), environment={}, **options):
        """Starts `neti WORDS`; `before` are the words of a program that starts it."""
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.Popen(
            [*before, str(self.neti), *map(str, words)], cwd=options.pop("cwd", self.folder),
            env={**os.environ, "NETI_SHARE": str(ROOT), "GOMP_SPINCOUNT": "5000", **environment}, **options)

    def run(self, words, **options):
        return end(self.start(words, **options))

    def shell(self, setup, words, redirect="", **options):
        """The same under a shell's `setup`, as `ulimit -n 9`, and with a redirection."""
        return self.run(words, before=["/bin/sh", "-c", f'{setup}\nexec "$0" "$@" {redirect}'], **options)

    def files(self, run="run"):
        """Hashes of the files of a run that have to be the same in every run, by their names."""
        root = self / run
        return {str(f.relative_to(root)): digest(f) for f in sorted(root.rglob("*")) if f.is_file()
                and (f.suffix in (".safetensors", ".png", ".pt", ".bin") or f.name == "config.yaml")}

    def unfinished(self, run="."):
        return [f for f in (self / run).rglob(".neti-*.tmp")]

    def steps(self, run="run"):
        """The steps that the log of a run has."""
        return [e["step"] for e in events(self / run) if e["kind"] == "step"]

    def wait(self, process, condition, seconds=600):
        """Waits until something is so; whether it came to be while the process ran."""
        end = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < end:
            if condition():
                return True
            time.sleep(0.001)
        return False


class Page:
    """What a browser asks of a studio, over a connection for each question."""

    def __init__(self, process):
        """Waits for the address that `neti studio` prints. Raises OSError where it ends before."""
        found = None
        while not found:
            line = process.stdout.readline().decode()
            if not line:
                raise OSError("the studio has no address")
            found = re.search(r"http://127\.0\.0\.1:(\d+)/(\S+)", line)
        self.port = int(found[1])
        self.cookie = self.open("GET", "/" + found[2], {}).getheader("Set-Cookie").split(";")[0]

    def open(self, method, path, headers, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        connection.request(method, path, body, {"Origin": f"http://127.0.0.1:{self.port}", **headers})
        return connection.getresponse()

    def ask(self, method, path, value=None):
        """(status, what came): JSON that was read where it is a success, else a line."""
        body = json.dumps(value or {}) if method != "GET" else None
        answer = self.open(method, path, {"Cookie": self.cookie, "Content-Type": "application/json"}, body)
        data = answer.read().decode()
        return answer.status, json.loads(data) if answer.status == 200 else data.strip()

    def news(self):
        """The concepts, the images and the work, as pages are told of them."""
        answer = self.open("GET", "/api/events", {"Cookie": self.cookie})
        found, name = {}, None
        while len(found) < 3:
            line = answer.readline().decode()
            if not line:
                raise OSError("the studio is gone")
            if line.startswith("event: "):
                name = line[7:].strip()
            elif line.startswith("data: "):
                found[name] = json.loads(line[6:])
        answer.close()
        return found


def end(process, seconds=900):
    """Waits for the end of a process."""
    output, error = process.communicate(timeout=seconds)
    return Result(process.returncode, (output or b"").decode(errors="replace"), (error or b"").decode(errors="replace"))


def train(*more, steps=6, output="run"):
    """Words of a training that is over soon, with a checkpoint after each step."""
    return ["train", "--images", "images", "--token", "<toy>", "--category", "monster", "--steps", steps, "--output",
            output, "--threads", "1", "--optim.gradient_accumulation_steps", "1", "--log.save_steps", "1", *more]


def resume(output="run"):
    return ["train", "--resume", "--output", output, "--threads", "1"]


def digest(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


def events(run):
    """The lines of a run's log that are whole."""
    try:
        lines = (run / "events.jsonl").read_bytes().split(b"\n")[:-1]
    except OSError:
        return []
    return [json.loads(line) for line in lines]


def tensors(file):
    """(name, type, bytes) of a safetensors file. Raises ValueError where it is not whole."""
    data = file.read_bytes()
    if len(data) < 8:
        raise ValueError(f"{file.name}: {len(data)} bytes")
    start = 8 + struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    if start + max(t["data_offsets"][1] for t in header.values()) != len(data):
        raise ValueError(f"{file.name}: cut short")
    return [(name, t["dtype"], data[start + t["data_offsets"][0]:start + t["data_offsets"][1]])
            for name, t in header.items()]


def not_finite(file):
    """Names of the tensors that hold a NaN or an infinity."""
    found = []
    for name, kind, data in tensors(file):
        width, mask = {"F32": ("I", 0x7F800000), "BF16": ("H", 0x7F80), "F16": ("H", 0x7C00)}.get(kind, (None, 0))
        if width and any(x & mask == mask for x in array.array(width, data)):
            found.append(name)
    return found


def table(head, rows):
    """Lines of a Markdown table."""
    cells = [[str(c).replace("|", "\\|").replace("\n", " ") for c in row] for row in [head, *rows]]
    lines = ["| " + " | ".join(c) + " |" for c in cells]
    return [lines[0], "|" + "---|" * len(head), *lines[1:]]


def write(name, title, lines):
    """Prints a result and keeps it in Benchmarks/results."""
    RESULTS.mkdir(exist_ok=True)
    text = "\n".join([title, "", *lines]) + "\n"
    (RESULTS / f"{name}.md").write_text(text)
    print("\n" + text)


def machine():
    return f"{platform.system()} {platform.release().split('-')[0]}, {platform.machine()}"
