#!/usr/bin/env python3
"""What goes wrong around a program: full disks, lost files, signals, closed streams, limits. No run is lost by it.

    python3 Benchmarks/faults.py [NAME]... [--count 5]

`--list` names the faults; without a name all are tried, `--count` times where their moment is random. For each: no
stack trace, no signal as the cause of death, one line that says why, an exit code, and a resume to the concept of a
run that nothing disturbed. What this machine does not allow is skipped, and the table says so. As root it works in a
mount namespace of its own, so that nobody else sees its disks. Needs `swift build -c release --product neti`. Writes
Benchmarks/results/faults.md.
"""
import ctypes, json, os, pty, random, shutil, signal, struct, subprocess, sys, time
from pathlib import Path
from campaign import ROOT, Page, Place, Result, arguments, end, machine, resume, table, train, write

STEPS = 6
MODEL_FILE = "unet/diffusion_pytorch_model.safetensors"
AS_OTHERS = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]
FAULTS = {}


class Skipped(Exception):
    """The machine does not allow a fault."""


def fault(title):
    """Registers a fault: a function of a Bench and a random generator that yields (case, result, problems)."""
    def register(function):
        FAULTS[function.__name__] = (title, function)
        return function
    return register


class Bench:
    """A place, and what an undisturbed run gives there."""

    def __init__(self, neti, count):
        self.neti, self.count = neti, count
        with Place(neti) as place:
            begin = time.monotonic()
            result = place.run(train(steps=STEPS))
            self.seconds = time.monotonic() - begin
            if result.code != 0:
                sys.exit(f"the undisturbed run failed: {result.error}")
            self.concept = place.files()["concept.safetensors"]

    def place(self):
        return Place(self.neti)

    def resumed(self, place, run="run", words=None):
        """What is wrong with what a resume makes of a run."""
        result = place.run(words or (resume(run) if (place / run / "config.yaml").exists() else
                                     train("--resume", steps=STEPS, output=run)))
        if result.code != 0:
            return [f"the resume ended with {result.code}: {result.line or result.error[-300:]}"]
        return self.compared(place, run)

    def compared(self, place, run="run"):
        files = place.files(run)
        found = [] if files.get("concept.safetensors") == self.concept else ["the concept is another one"]
        return found + [f"{f.name} was left" for f in place.unfinished(run)]


def after_step(place, process, step, run="run"):
    """Waits until a step is logged."""
    if not place.wait(process, lambda: step in place.steps(run)):
        raise RuntimeError(f"step {step} was not seen: {end(process).error}")


def need(program):
    if not shutil.which(program):
        raise Skipped(f"{program} is not there")


def mounted(place, name, options):
    """A small disk."""
    if os.geteuid() != 0:
        raise Skipped("only root can mount a small disk")
    (place / name).mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", place / name], capture_output=True, text=True)
    if done.returncode != 0:
        raise Skipped(done.stderr.strip())
    return place / name


def unmounted(folder):
    subprocess.run(["umount", "-l", folder], check=True)


# ---- disks


@fault("disk full from the start")
def full_disk(bench, random_):
    for size in ("64k", "1m", "6m"):
        with bench.place() as place:
            disk = mounted(place, "disk", f"size={size}")
            result = place.run(train(steps=STEPS, output="disk/run"))
            yield f"training, {size}", result, result.problems(says=["free there"])
            unmounted(disk)
    with bench.place() as place:
        disk = mounted(place, "disk", "size=64k")
        place.run(train(steps=1))
        for words in (["convert", "run/concept.safetensors", "disk/c.safetensors"],
                      ["generate", "--prompt", "a cat", "--steps", "1", "--output", "disk", "--width", "512"]):
            result = place.run(words)
            yield words[0], result, result.problems(says=["No space left on device"]) + (
                ["something was left"] if any(disk.iterdir()) else [])
        unmounted(disk)


def filled(place, disk, process, step):
    """Fills a disk at a step; what filled it."""
    after_step(place, process, step, "disk/run")
    filler = disk / "filler"
    with open(filler, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    return filler


@fault("disk that fills up during a run")
def filling_disk(bench, random_):
    for _ in range(bench.count):
        with bench.place() as place:
            disk = mounted(place, "disk", "size=64m")
            process = place.start(train(steps=STEPS, output="disk/run"))
            filler = filled(place, disk, process, step := random_.randint(1, STEPS - 2))
            result = end(process)
            found = result.problems(says=["No space left on device", "is saved"])
            filler.unlink()
            yield f"after step {step}", result, found + bench.resumed(place, "disk/run")
            unmounted(disk)


@fault("disk that fills up, and has room again")
def refilled_disk(bench, random_):
    with bench.place() as place:
        disk = mounted(place, "disk", "size=64m")
        process = place.start(train(steps=STEPS, output="disk/run"))
        filler = filled(place, disk, process, 1)
        after_step(place, process, 3, "disk/run")
        filler.unlink()
        result = end(process)
        yield "from step 1 to 3", result, result.problems((0,), ["is not saved"]) + bench.compared(place, "disk/run")
        unmounted(disk)


@fault("no inodes left")
def no_inodes(bench, random_):
    with bench.place() as place:
        for count in (2, 5, 8):
            disk = mounted(place, "disk", f"size=64m,nr_inodes={count}")
            result = place.run(train(steps=STEPS, output="disk/run"))
            yield f"{count} inodes", result, result.problems((0, 1))
            unmounted(disk)


@fault("a limit of file sizes (ulimit -f), as a quota")
def quota(bench, random_):
    for blocks in (1, 64, 2000, 6000):
        with bench.place() as place:
            result = place.shell(f"ulimit -f {blocks}", train(steps=STEPS))
            # The concept may fit where no checkpoint does.
            found = result.problems((0, 1), ["File too large"])
            found += bench.compared(place) if result.code == 0 else []
            yield f"{blocks} blocks", result, found + bench.resumed(place)


@fault("read-only disk")
def read_only(bench, random_):
    with bench.place() as place:
        disk = mounted(place, "disk", "size=64m,ro")
        place.run(train(steps=1))
        for words in (train(steps=STEPS, output="disk/run"),
                      ["convert", "run/concept.safetensors", "disk/c.safetensors"],
                      ["generate", "--prompt", "a cat", "--steps", "1", "--output", "disk/out"],
                      ["inspect", "run/concept.safetensors", "--plot", "disk/plot.png"]):
            result = place.run(words)
            yield words[0], result, result.problems(says=["disk"])
        unmounted(disk)


# ---- permissions and folders


def others():
    """Words before a command that obeys permissions."""
    if os.geteuid() != 0:
        return []
    need("setpriv")
    return AS_OTHERS


@fault("permission")
def permission(bench, random_):
    before = others()
    with bench.place() as place:
        (place / "locked").mkdir()
        place.run(train(steps=1))
        (place / "locked").chmod(0o555)
        for words in (train(steps=STEPS, output="locked/run"),
                      ["convert", "run/concept.safetensors", "locked/c.safetensors"],
                      ["generate", "--prompt", "a cat", "--steps", "1", "--output", "locked/out"]):
            result = place.run(words, before=before)
            yield f"{words[0]} into a locked folder", result, result.problems(says=["ermission"])
        # One picture of several is left out with a warning.
        for name, code, word in (("images/1.jpg", 0, "no permission to read it"), ("images", 1, "images")):
            (place / name).chmod(0)
            result = place.run(train(steps=STEPS, output="other"), before=before)
            yield f"{name} not readable", result, result.problems((code,), [word])
            (place / name).chmod(0o755)


@fault("permission that is taken away during a run")
def permission_lost(bench, random_):
    before = others()
    for folders in (["run/checkpoints"], ["run/checkpoints", "run"]):
        with bench.place() as place:
            process = place.start(train(steps=STEPS), before=before)
            after_step(place, process, 2)
            for f in folders:
                (place / f).chmod(0o555)
            result = end(process)
            for f in folders:
                (place / f).chmod(0o755)
            found = result.problems((len(folders) - 1,), ["ermission"])
            yield " and ".join(folders), result, found + bench.resumed(place)


@fault("the run's folder removed or moved during a run")
def folder_removed(bench, random_):
    for name, act in (("removed", lambda p: shutil.rmtree(p / "run")),
                      ("moved", lambda p: (p / "run").rename(p / "elsewhere")),
                      ("checkpoints removed", lambda p: shutil.rmtree(p / "run/checkpoints"))):
        for _ in range(bench.count):
            with bench.place() as place:
                process = place.start(train(steps=STEPS))
                after_step(place, process, random_.randint(1, STEPS - 2))
                for _ in range(100):  # files come while they are removed
                    try:
                        act(place)
                        break
                    except OSError:
                        continue
                result = end(process)
                yield name, result, result.problems((0,)) + bench.compared(place) + bench.resumed(place)


@fault("the pictures, the model or the current folder removed during a run")
def inputs_removed(bench, random_):
    for name in ("images", "model", "here"):
        with bench.place() as place:
            shutil.copytree(ROOT / "Models/mini-sd", place / "model")
            (place / "here").mkdir()
            words = [place / w if w in ("images", "run") else w
                     for w in train("--model", place / "model", steps=STEPS)]
            process = place.start(words, cwd=place / "here")
            after_step(place, process, 2)
            shutil.rmtree(place / name)
            result = end(process)
            found = result.problems((0,))
            files = place.files()
            yield name, result, found + ([] if "concept.safetensors" in files else ["there is no concept"])


def mapped_model(place):
    """mini-sd with a U-Net in fp32, which is not copied but read from the file as long as it is used."""
    shutil.copytree(ROOT / "Models/mini-sd", place / "model")
    file = place / "model" / MODEL_FILE
    data = file.read_bytes()
    start = 8 + struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:start])
    for name, entry in header.items():
        if name != "__metadata__":
            entry.update(dtype="F32", data_offsets=[2 * n for n in entry["data_offsets"]])
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    count = (len(data) - start) // 2
    numbers = struct.pack(f"<{count}f", *struct.unpack(f"<{count}e", data[start:]))
    file.write_bytes(struct.pack("<Q", len(text)) + text + numbers)
    return file


@fault("a model file cut short while it is mapped")
def truncated(bench, random_):
    words = train("--model", "model", steps=STEPS)
    with bench.place() as place:
        file = mapped_model(place)
        whole = file.read_bytes()
        place.run(words)
        concept = place.files()["concept.safetensors"]
        for _ in range(bench.count):
            shutil.rmtree(place / "run")
            process = place.start(words)
            after_step(place, process, step := random_.randint(1, STEPS - 2))
            os.truncate(file, random_.randrange(1, len(whole) // 2))
            result = end(process)
            found = result.problems(says=[MODEL_FILE, "is saved"])
            file.write_bytes(whole)
            found += [] if place.run(resume()).code == 0 and place.files().get("concept.safetensors") == concept else \
                ["the resume does not end in the same concept"]
            yield f"training, after step {step}", result, found
        for _ in range(bench.count):
            process = place.start(["generate", "--model", "model", "--prompt", "a cat", "--steps", "300",
                                   "--threads", "1"])
            place.wait(process, lambda: "model/unet" in Path(f"/proc/{process.pid}/maps").read_text())
            time.sleep(random_.uniform(0, 2))
            os.truncate(file, random_.randrange(0, len(whole) // 2))
            result = end(process)
            file.write_bytes(whole)
            yield "generation", result, result.problems(says=[MODEL_FILE])


@fault("two runs in one folder")
def two_runs(bench, random_):
    for _ in range(bench.count):
        with bench.place() as place:
            processes = [place.start(train("--resume", steps=STEPS)) for _ in range(2)]
            results = [end(p) for p in processes]
            found = []
            for r in results:
                found += r.problems((0, 1), [] if r.code == 0 else ["another process trains in"])
            if all(r.code for r in results):
                found.append("none went on")
            yield "at once", max(results, key=lambda r: r.code), found + bench.compared(place)


# ---- limits


def until_it_works(bench, setup, values):
    """Trains under limits that get wider, until one is wide enough."""
    for value in values:
        with bench.place() as place:
            result = place.shell(setup.format(value), train(steps=STEPS))
            # What the system's loader and libtorch's own start say is said before neti begins.
            loader = result.code == 127 or "std::bad_alloc" in result.error and "learning" not in result.error
            found = [] if loader else result.problems((0, 1))
            if result.code == 1 and not loader:
                found += bench.resumed(place)
            yield str(value), result, found + (bench.compared(place) if result.code == 0 else [])
            if result.code == 0:
                return


@fault("no memory (ulimit -v, MiB)")
def no_memory(bench, random_):
    yield from until_it_works(bench, "ulimit -v $(({} * 1024))", range(600, 4000, 100))


class Group:
    """A control group of version 1 or 2 with a limit; what a shell has to do to be in it."""
    LIMITS = {"memory": ("memory.limit_in_bytes", "memory.max"), "pids": ("pids.max", "pids.max")}

    def __init__(self, controller, value):
        old = Path("/sys/fs/cgroup") / controller
        self.folder = (old if old.is_dir() else old.parent) / f"neti-faults-{os.getpid()}"
        try:
            self.folder.mkdir()
        except OSError as error:
            raise Skipped(f"no control group can be made: {error.strerror}")
        try:
            (self.folder / self.LIMITS[controller][not old.is_dir()]).write_text(str(value))
        except OSError as error:
            self.folder.rmdir()
            raise Skipped(f"a control group has no limit of {controller} here: {error.strerror}")

    def __enter__(self):
        return f"echo $$ > {self.folder}/cgroup.procs"

    def __exit__(self, *_):
        self.folder.rmdir()


@fault("a control group's memory, MiB")
def group(bench, random_):
    """The kernel kills without a word. So a training is refused before, and who generates is warned."""
    for value in range(96, 1024, 32):
        with bench.place() as place, Group("memory", value << 20) as setup:
            result = place.shell(setup, train(steps=STEPS))
            found = result.problems((0, 1))
            if result.code == 1:
                found += [] if "are free" in result.line else ["it is not said how much is free"]
                found += bench.resumed(place)
            yield f"training, {value}", result, found + (bench.compared(place) if result.code == 0 else [])
            if result.code == 0:
                break
    for value in range(64, 1024, 32):
        with bench.place() as place, Group("memory", value << 20) as setup:
            result = place.shell(setup, ["generate", "--prompt", "a cat", "--steps", "1", "--threads", "1"])
            warned = "are free: the system may end neti" in result.error
            found = result.problems((0, 1, *((-9,) if warned else ())))
            yield f"generating, {value}{', warned' if warned else ''}", result, found
            if result.code == 0 and not warned:
                return


@fault("file descriptors used up (ulimit -n)")
def no_descriptors(bench, random_):
    yield from until_it_works(bench, "ulimit -n {}", range(4, 60, 2))


@fault("no threads (a control group's)")
def no_threads(bench, random_):
    """Root has no limit of threads (ulimit -u), and of another user it would count what else that runs."""
    for value in range(1, 40):
        with bench.place() as place, Group("pids", value) as setup:
            process = place.start(train(steps=STEPS), before=["/bin/sh", "-c", f'{setup}\nexec "$0" "$@"'])
            try:
                result, found = end(process, 40 * bench.seconds), []
            except subprocess.TimeoutExpired:
                process.kill()
                result, found = end(process), ["it hangs"]
            found += result.problems((0, 1))
            if result.code != 0:
                found += bench.resumed(place)
            yield str(value), result, found + (bench.compared(place) if result.code == 0 else [])
            if result.code == 0:
                return


# ---- signals, streams, terminals


@fault("signals at random moments")
def signals(bench, random_):
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        for _ in range(bench.count):
            with bench.place() as place:
                process = place.start(train(steps=STEPS))
                moment = random_.uniform(0, bench.seconds)
                time.sleep(moment)
                process.send_signal(number)
                result = end(process)
                began = (place / "run").exists()
                # Before neti runs, while libraries are loaded, a signal is the system's.
                found = result.problems((0, 128 + number, *(() if began else (-number,))))
                told = any(words in result.error for words in ("Go on with", "Begin again"))
                if result.code == 128 + number and not told:
                    found.append("how to go on is not said")
                yield signal.Signals(number).name, result, found + bench.resumed(place)


@fault("signals to generate, convert and evaluate, at random moments")
def other_signals(bench, random_):
    with bench.place() as place:
        place.run(train(steps=1))
        (place / "prompts.txt").write_text("a photo of a {}\na {} on a beach\n")
        concept = ["--concept", "run/concept.safetensors", "--steps", "4", "--threads", "1", "--output", "out"]
        commands = [
            ["generate", *concept, "--seed", "0-7", *(w for n in range(4) for w in ("--prompt", f"a {{}}, {n}"))],
            ["convert", "run/concept.safetensors", "out/kohya.safetensors", "--format", "kohya", "--timestep", "500"],
            ["evaluate", *concept, "--images", "images", "--prompts", "prompts.txt", "--seeds", "2"],
        ]
        for words in commands:
            def clear():
                shutil.rmtree(place / "out", ignore_errors=True)
                if words[0] == "convert":
                    (place / "out").mkdir()
            clear()
            begin = time.monotonic()
            result = place.run(words)
            seconds, whole = time.monotonic() - begin, place.files("out")
            if result.code != 0 or not whole:
                raise RuntimeError(f"{words[0]} failed undisturbed: {result.error}")
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                # The first images are kept, and that is said.
                for begun in [False] * bench.count + [True] * (words[0] == "generate"):
                    clear()
                    begin = time.monotonic()
                    process = place.start(words)
                    if begun:
                        place.wait(process, lambda: any((place / "out").glob("*.png")))
                    else:
                        time.sleep(random_.uniform(0, seconds))
                    if process.poll() is not None:  # the machine is faster than it was before
                        seconds = 0.9 * min(seconds, time.monotonic() - begin)
                    process.send_signal(number)
                    result = end(process)
                    found = result.problems((128 + number,) if begun else (0, 128 + number, -number))
                    if begun and not (" finished: out" in result.error and list((place / "out").glob("*.png"))):
                        found.append(f"what is finished is not said, or not there: {result.error}")
                    # A sheet of fewer images is another one, and whole.
                    half = [n for n, d in place.files("out").items() if n != "sheet.png" and d != whole.get(n)]
                    found += [f"{n} is not that of the undisturbed command" for n in half]
                    if words[0] != "evaluate":  # which goes on; the others begin anew
                        clear()
                    again = place.run(words)
                    if again.code != 0 or place.files("out") != whole:
                        found.append(f"given again it ends with {again.code}, and other files: {again.line}")
                    yield f"{words[0]}, {signal.Signals(number).name}", result, found


@fault("SIGHUP under nohup")
def nohup(bench, random_):
    with bench.place() as place:
        process = place.start(train(steps=STEPS), before=["nohup"])
        after_step(place, process, 2)
        process.send_signal(signal.SIGHUP)
        result = end(process)
        yield "after step 2", result, result.problems((0,)) + bench.compared(place)


@fault("standard streams that are closed, full or no longer read")
def streams(bench, random_):
    for redirect in ("| head -c 1", "2>&1 | head -c 1", ">&-", "2>&-", ">&- 2>&-", "<&-", "<&- >&- 2>&-", ">/dev/full",
                     "2>/dev/full"):
        with bench.place() as place:
            if "|" in redirect:
                setup = f'{{ "$0" "$@"; echo $? >code; }} {redirect} >/dev/null; exit $(cat code)'
                result = place.run(train(steps=STEPS), before=["/bin/sh", "-c", setup])
            else:
                result = place.shell("", train(steps=STEPS), redirect)
            silent = "2>" in redirect
            found = [f"exit code {result.code}"] if result.code not in (0, 1) else []
            if result.code == 1 and not silent:
                found += result.problems(says=["standard output cannot be written"])
            yield redirect, result, found + bench.compared(place) + bench.resumed(place)


@fault("a terminal that closes")
def terminal(bench, random_):
    for _ in range(bench.count):
        with bench.place() as place:
            words = [str(w) for w in train(steps=STEPS)]
            pid, master = pty.fork()
            if pid == 0:
                os.chdir(place.folder)
                os.environ.update(NETI_SHARE=str(ROOT), GOMP_SPINCOUNT="5000")
                os.execv(str(place.neti), [str(place.neti), *words])
            step = random_.randint(1, STEPS - 2)
            os.set_blocking(master, False)
            limit, status = time.monotonic() + 600, None
            while time.monotonic() < limit and step not in place.steps():
                try:
                    os.read(master, 65536)
                except OSError:
                    time.sleep(0.001)
            os.close(master)
            _, status = os.waitpid(pid, 0)
            code = os.waitstatus_to_exitcode(status)
            result = Result(code, "", "")
            # In the moment between a step and its checkpoint the last one may be done.
            found = [] if code in (129, 0) else [f"exit code {code}"]
            done = max((int(f.stem[5:]) for f in (place / "run/checkpoints").glob("step-*")), default=0)
            found += [] if done >= step else [f"step {step} was done, and {done} is saved"]
            yield f"after step {step}", result, found + bench.resumed(place)


CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
// Sets the clock back by ten years after its first 200 readings.
static long shift(void) { static int n; return __atomic_add_fetch(&n, 1, __ATOMIC_RELAXED) > 200 ? 315360000L : 0; }
int clock_gettime(clockid_t id, struct timespec *t) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
  int r = real(id, t);
  if (id == CLOCK_REALTIME) t->tv_sec -= shift();
  return r;
}
int gettimeofday(struct timeval *t, void *z) {
  struct timespec s;
  int r = clock_gettime(CLOCK_REALTIME, &s);
  t->tv_sec = s.tv_sec, t->tv_usec = s.tv_nsec / 1000;
  return r;
}
time_t time(time_t *t) {
  struct timespec s;
  clock_gettime(CLOCK_REALTIME, &s);
  if (t) *t = s.tv_sec;
  return s.tv_sec;
}
"""


@fault("a clock that is set back ten years during a run")
def clock(bench, random_):
    need("cc")
    with bench.place() as place:
        (place / "clock.c").write_text(CLOCK)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", "clock.so", "clock.c"], cwd=place.folder, check=True)
        back = {"LD_PRELOAD": str(place / "clock.so")}
        process = place.start(train(steps=STEPS), environment=back)
        after_step(place, process, 3)
        process.send_signal(signal.SIGTERM)
        result = end(process)
        found = result.problems((143, 0))
        result = place.run(resume(), environment=back)
        found += result.problems((0,)) + bench.compared(place)
        # TensorBoard reads them in the order of their names.
        files = sorted((place / "run/tensorboard").iterdir())
        if len(files) < 2 or files != sorted(files, key=lambda f: f.stat().st_mtime_ns):
            found.append(f"the event files do not sort as they were written: {[f.name for f in files]}")
        yield "stopped after step 3, and resumed", result, found


@fault("the studio: a disk that fills up")
def studio_disk(bench, random_):
    with bench.place() as place:
        disk = mounted(place, "disk", "size=2m")
        process = place.start(["studio", "--folder", "disk/studio", "--port", "0", "--threads", "1"])
        page = Page(process)
        with open(disk / "filler", "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
        found = []
        status, line = page.ask("POST", "/api/concepts", {"example": "spotty"})
        if status != 422 or not any(words in line for words in ("No space left", "the disk's room")):
            found.append(f"{status} {line}")
        if page.news()["concepts"]:
            found.append("half a concept is there")
        (disk / "filler").unlink()
        status, _ = page.ask("POST", "/api/concepts", {"example": "spotty"})
        if status != 200 or len(page.news()["concepts"][0]["pictures"]) < 3:
            found.append("it does not go on when there is room")
        process.send_signal(signal.SIGINT)
        result = end(process)
        yield "an example", result, found + result.problems((130,), ["the studio is closed"])
        unmounted(disk)


@fault("the studio: a folder that cannot be made")
def studio_folder(bench, random_):
    with bench.place() as place:
        (place / "file").write_text("")
        (place / "locked").mkdir(mode=0o555)
        for folder, before in (("file/studio", []), ("locked/studio", others())):
            result = place.run(["studio", "--folder", folder, "--port", "0"], before=before)
            yield folder, result, result.problems(says=["the folder cannot be made"])
        (place / "locked").chmod(0o755)


@fault("the studio: a port that needs permission")
def studio_port(bench, random_):
    free = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if free.exists() and int(free.read_text()) <= 80:
        raise Skipped("this system gives every port to everybody")
    drop = [f"--{set}=-net_bind_service" for set in ("bounding-set", "inh-caps")]
    before = []
    if os.geteuid() == 0:
        need("setpriv")
        before = ["setpriv", *drop]
    with bench.place() as place:
        result = place.run(["studio", "--folder", "studio", "--port", "80"], before=before)
        found = result.problems(says=["port 80 needs permission"])
        yield "80", result, found + (["a folder was made"] if (place / "studio").exists() else [])


def namespaced():
    """Goes on in a mount namespace, so that disks vanish with the process."""
    if os.geteuid() != 0:
        return
    unshare = ctypes.CDLL(None, use_errno=True).unshare if hasattr(ctypes.CDLL(None), "unshare") else None
    if unshare and unshare(0x00020000) == 0:  # CLONE_NEWNS
        subprocess.run(["mount", "--make-rprivate", "/"], check=False)


def main():
    parser = arguments(__doc__, count=5)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("names", nargs="*", choices=[[], *FAULTS], metavar="name")
    options = parser.parse_args()
    if options.list:
        for name, (title, _) in FAULTS.items():
            print(f"{name:20} {title}")
        return
    namespaced()
    bench = Bench(options.neti, options.count)
    rows, problems = [], []
    for name in options.names or FAULTS:
        title, function = FAULTS[name]
        cases, codes, bad, said = 0, {}, 0, ""
        try:
            for case, result, found in function(bench, random.Random(f"{options.seed} {name}")):
                cases += 1
                codes[result.code] = codes.get(result.code, 0) + 1
                said = result.line or said
                bad += bool(found)
                print(f"{name}, {case}: {result.code} {result.line[:200]} {found or ''}", flush=True)
                if found:
                    print(f"    {result.error[-600:]!r}")
                problems += [f"- {title}, {case}: {'; '.join(found)}"] if found else []
            outcome = ", ".join(f"{n} × {c}" for c, n in sorted(codes.items()))
            rows.append([title, cases, outcome, bad])
        except Skipped as why:
            print(f"{name}: skipped: {why}", flush=True)
            rows.append([title, cases, f"skipped: {why}", bad])
        write("faults", f"Faults, seed {options.seed}, {machine()}", [
            *table(["fault", "cases", "exit codes", "problems"], rows), *([""] + problems if problems else [])])
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
