#!/usr/bin/env python3
"""kill -9 at random moments: every resume ends in the files of an undisturbed run, and no half file is read as whole.

    python3 Benchmarks/kill.py [training|checkpoint|manifest|conversion|studio]... [--count 100]

Five campaigns of `--count` kills each; without a name all run in this order.

    training    anywhere in `neti train` and its `--resume`, with validation images
    checkpoint  within 30 ms of the moment at which a file begins to be written
    manifest    anywhere in `neti train --manifest` of three concepts
    conversion  while `neti convert` writes a file, from the authors' format and into it
    studio      anywhere in `neti studio`, which learns two concepts and generates images meanwhile; after each kill
                all that it had agreed to is listed

After each kill every file that has its final name must be, bit for bit, the file of that name in a run that nothing
disturbed. The command is then given again, until it is done; that starts anew in an empty folder. Needs
`swift build -c release --product neti`. Writes Benchmarks/results/kill.md.
"""
import http.client, json, os, random, shutil, signal, subprocess, sys, threading, time
from campaign import ROOT, Page, Place, arguments, digest, end, events, machine, resume, table, tensors, train, write

STEPS = 6
PREVIEWS = ["--validate-every", "3", "--validation-prompt", "a {}", "--eval.num_validation_images", "1",
            "--eval.num_denoising_steps", "1"]
AUTHORS = ROOT / "Tests/Fixtures/authors/default/mapper-steps-5.pt"


class Training:
    """One training; what an undisturbed run leaves is `whole`."""
    words = train(*PREVIEWS, steps=STEPS)
    folder = "run"

    def __init__(self, neti):
        self.place = Place(neti)
        self.prepare()
        begin = time.monotonic()
        result = self.place.run(self.words)
        self.seconds = time.monotonic() - begin
        if result.code != 0:
            sys.exit(f"the undisturbed run failed: {result.error}")
        self.whole = self.place.files(self.folder)
        self.clear()

    def prepare(self):
        pass

    def clear(self):
        shutil.rmtree(self.place / self.folder)

    def command(self):
        # A process that was killed before it wrote its settings leaves nothing to resume.
        return resume() if (self.place / "run/config.yaml").exists() else self.words

    def problems(self, done):
        """What is wrong with what lies there now."""
        there = self.place.files(self.folder)
        found = [f"{name} is not that of the undisturbed run" for name in there if there[name] != self.whole.get(name)]
        if done:
            found += [f"{name} is missing" for name in self.whole if name not in there]
            found += [f"{f.name} was left" for f in self.place.unfinished(self.folder)]
        for log in (self.place / self.folder).rglob("events.jsonl"):
            steps = [e["step"] for e in events(log.parent) if e["kind"] == "step"]
            if steps != sorted(set(steps)):
                found.append(f"the log has the steps {steps}")
        return found

    def is_all(self, words):
        """Whether a command that came to its end leaves nothing to do."""
        return True

    def moment(self, process, random_):
        """Waits until it is time to strike."""
        time.sleep(random_.uniform(0, self.seconds))


class Checkpoint(Training):
    """Strikes while a file is being written."""

    def moment(self, process, random_):
        seen = set()
        wanted = random_.randint(1, 4)

        def begun():
            seen.update(f.name for f in self.place.unfinished())
            return len(seen) >= wanted
        self.place.wait(process, begun)
        time.sleep(random_.uniform(0, 0.03))


class Manifest(Training):
    words = ["train", "--manifest", "list.jsonl", "--output", "out", "--threads", "1", "--log.save_steps", "1",
             "--optim.gradient_accumulation_steps", "1"]
    folder = "out"

    def prepare(self):
        lines = [f'{{"images": "images", "token": "<{n}>", "category": "monster", "steps": 3, "seed": {i}}}\n'
                 for i, n in enumerate(("one", "two", "three"))]
        (self.place / "list.jsonl").write_text("".join(lines))

    def command(self):
        return self.words


class Conversion(Training):
    """The authors' checkpoint into one file, and that into the authors' two. It is over in no time: it strikes when
    one of the three files has begun."""
    folder = "out"

    def prepare(self):
        (self.place / "out").mkdir()
        self.words = ["convert", AUTHORS, "out/ours.safetensors"]
        self.place.run(["convert", AUTHORS, "source.safetensors"])
        self.place.run(["convert", "source.safetensors", "out/theirs/"])

    def clear(self):
        super().clear()
        (self.place / "out").mkdir()

    def command(self):
        if not (self.place / "out/ours.safetensors").exists():
            return self.words
        # Their folder of two files is not gone on with: what is in it is kept, and another is asked for.
        shutil.rmtree(self.place / "out/theirs", ignore_errors=True)
        return ["convert", "source.safetensors", "out/theirs/"]

    def is_all(self, words):
        return words is not self.words

    def problems(self, done):
        mapper, row = (any((self.place / "out/theirs").glob(p)) for p in ("mapper-*.pt", "learned_embeds-*.bin"))
        # The mapper is what is opened, so that it comes last.
        half = ["the mapper lies there without its embedding"] if mapper and not row else []
        return super().problems(done) + half

    def moment(self, process, random_):
        seen = set()
        # They are one and two: now and then a command comes to its end.
        wanted = random_.randint(1, 3)
        while process.poll() is None and len(seen) < wanted:
            for folder in (self.place / "out", self.place / "out/theirs"):
                try:
                    seen.update(n for n in os.listdir(folder) if n.startswith(".neti-"))
                except OSError:
                    pass
        time.sleep(random_.choice((0, random_.uniform(0, 0.002))))


class Studio:
    """Two concepts that are learned in a studio, with images between their steps."""
    names = ("one", "two")
    words = ["studio", "--folder", "studio", "--port", "0", "--threads", "1"]

    def __init__(self, neti):
        self.place = Place(neti)
        self.agreed = {}
        self.problems = []
        begin = time.monotonic()
        process = self.start()
        if not self.live(process, draws=False):
            sys.exit(f"the undisturbed studio failed: {end(process).error}")
        self.seconds = time.monotonic() - begin
        process.kill()
        end(process)
        self.whole = self.concepts()
        self.clear()

    def clear(self):
        shutil.rmtree(self.place / "studio")
        self.agreed = {}

    def concepts(self):
        return {f.parent.name: digest(f) for f in (self.place / "studio/concepts").glob("*/*/concept.safetensors")}

    def start(self):
        """A studio, and what the one before it had written down."""
        waiting = self.place / "studio/waiting.json"
        self.before = json.loads(waiting.read_text()) if waiting.exists() else {}
        return self.place.start(self.words)

    def live(self, process, draws=True):
        """What a person does; whether both concepts are learned. False where the studio ends before."""
        try:
            page = Page(process)
            news = page.news()
            states = {c["id"]: c["progress"]["state"] for c in news["concepts"]}
            self.check(self.before, states, news["work"])
            for item in news["work"]["queue"]:
                if item["isBrokenOff"]:
                    page.ask("POST", f"/api/generations/{item['id']}/resume")
            for name in self.names:
                if name not in self.agreed.values():
                    status, made = page.ask("POST", "/api/concepts", {"example": "spotty"})
                    if "id" not in made:
                        self.problems.append(f"an example is refused: {made}")
                        return False
                    self.learn(page, made["id"], name)
            draw = seed = 0
            while True:
                news = page.news()
                states = {c["id"]: c["progress"]["state"] for c in news["concepts"]}
                for id, name in self.agreed.items():
                    if states[id] == "stopped":
                        page.ask("POST", f"/api/concepts/{id}/resume")
                    elif states[id] == "pictures":
                        self.learn(page, id, name)
                if all(states[id] == "learned" for id in self.agreed):
                    return True
                if draws and not news["work"].get("generating"):
                    seed += 2
                    page.ask("POST", "/api/generations",
                             {"prompt": "a red mug", "seeds": [seed, seed + 1], "steps": 2})
                time.sleep(0.1)
        except (OSError, http.client.HTTPException, ValueError):
            # A kill cuts an answer short, too.
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                if not self.struck:
                    raise
            return False

    struck = False

    def learn(self, page, id, name):
        status, line = page.ask("POST", f"/api/concepts/{id}/learn",
                                {"title": name, "kind": "monster", "quality": "quick", "steps": 6, "seed": 1})
        if status == 200:
            self.agreed[id] = name
        else:
            self.problems.append(f"learning is refused: {line}")

    def check(self, before, states, work):
        """What the studio that was killed had agreed to is there."""
        lost = []
        for id in self.agreed:
            if id not in states:
                self.problems.append("a concept is not listed")
                lost.append(id)
            elif states[id] == "pictures" and any((self.place / f"studio/concepts/{id}").glob("*/config.yaml")):
                self.problems.append("a run is not offered")
        for id in lost:
            del self.agreed[id]
        for id in before.get("learn", []):
            if states.get(id) == "pictures":
                self.problems.append("what waited to be learned does not wait any more")
        offered = {item["id"] for item in work["queue"]}
        if any(item["id"] not in offered for item in before.get("brokenOff", [])):
            self.problems.append("what was being generated is not offered")

    def half(self):
        """Files with their final names that are not whole."""
        found = []
        for file in (self.place / "studio").rglob("*"):
            try:
                if file.suffix == ".safetensors":
                    tensors(file)
                elif file.suffix == ".json":
                    json.loads(file.read_text())
                elif file.suffix == ".png" and not file.read_bytes().endswith(b"IEND\xaeB`\x82"):
                    raise ValueError(f"{file.name}: cut short")
            except ValueError as error:
                if not file.name.startswith(".neti-"):
                    found.append(f"{file.name} is not whole: {error}")
        return found


def studio_campaign(name, options):
    random_ = random.Random(f"{options.seed} {name}")
    work = Studio(options.neti)
    kills = amid = finished = attempts = told = 0
    with work.place as place:
        while (kills < options.count or work.agreed) and attempts < 20 * options.count + 5:
            attempts += 1
            work.struck = False
            process = work.start()

            delay, waits, over = random_.uniform(0, work.seconds), random_.random() < 0.5, threading.Event()

            def strike():
                """After some time, and half of them when the next file is being written."""
                if over.wait(delay):
                    return
                while waits and not over.is_set() and not place.unfinished("studio"):
                    pass
                if not over.is_set():
                    work.struck = True
                    process.send_signal(signal.SIGKILL)
            thread = threading.Thread(target=strike)
            if kills < options.count:
                thread.start()
            done = work.live(process)
            over.set()
            if thread.ident:
                thread.join()
            process.kill()
            result = end(process)
            if result.code != -signal.SIGKILL:
                work.problems.append(f"exit code {result.code}: {result.line or result.error[-300:]}")
            kills += work.struck
            amid += work.struck and bool(place.unfinished("studio"))
            work.problems += work.half()
            if done:
                finished += 1
                if work.concepts() != work.whole:
                    work.problems.append("a concept is not that of the undisturbed studio")
                work.clear()
            for problem in work.problems[told:]:
                print(f"  {name}: {problem}", flush=True)
            told = len(work.problems)
            print(f"{name}: {kills} kills, {amid} amid a file, {finished} finished, {len(work.problems)} problems",
                  flush=True)
    return [name, kills, amid, finished, len(work.problems)], sorted(set(work.problems))


def campaign(name, kind, options):
    if kind is Studio:
        return studio_campaign(name, options)
    random_ = random.Random(f"{options.seed} {name}")
    work = kind(options.neti)
    kills = amid = finished = attempts = 0
    found = []
    with work.place as place:
        while kills < options.count and attempts < 20 * options.count:
            attempts += 1
            begin = time.monotonic()
            words = work.command()
            process = place.start(words)
            work.moment(process, random_)
            if process.poll() is not None:  # the machine is faster than it was before
                work.seconds = min(work.seconds, 0.9 * (time.monotonic() - begin))
            process.send_signal(signal.SIGKILL)
            result = end(process)
            if result.code not in (0, -signal.SIGKILL):
                found.append(f"exit code {result.code}: {result.line or result.error[-300:]}")
            kills += result.code != 0
            amid += result.code != 0 and bool(place.unfinished())
            done = result.code == 0 and work.is_all(words)
            found += work.problems(done)
            if done:
                finished += 1
                work.clear()
            if attempts % 10 == 0:
                print(f"{name}: {kills} kills, {amid} amid a file, {finished} finished, {len(found)} problems",
                      flush=True)
        # What was killed last goes on to its end, too.
        done = False
        while not done:
            words = work.command()
            result = place.run(words)
            done = result.code != 0 or work.is_all(words)
            found += work.problems(done) if result.code == 0 else [f"exit code {result.code}: {result.line}"]
        finished += 1
    for problem in sorted(set(found)):
        print(f"  {name}: {problem}")
    return [name, kills, amid, finished, len(found)], sorted(set(found))


def main():
    kinds = {"training": Training, "checkpoint": Checkpoint, "manifest": Manifest, "conversion": Conversion, "studio": Studio}
    parser = arguments(__doc__, count=100)
    parser.add_argument("campaigns", nargs="*", choices=[[], *kinds], metavar="campaign")
    options = parser.parse_args()
    rows, problems = [], []
    for name in options.campaigns or kinds:
        row, found = campaign(name, kinds[name], options)
        rows.append(row)
        problems += [f"- {name}: {p}" for p in found]
        write("kill", f"kill -9, seed {options.seed}, {machine()}", [
            *table(["campaign", "kills", "amid a file", "runs brought to their end", "problems"], rows),
            *([""] + problems if problems else [])])
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
