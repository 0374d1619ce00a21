"""What serving the studio's page costs a training step, how soon the first page is there, and how late previews are.

    .venv-studio/bin/python Benchmarks/serving.py --steps 800

Learns an example on mini-sd in a studio of its own. No page, three plain connections that listen to all that pages are
told, and three pages in Chromium take turns, some steps each, so that what else the machine does touches all alike. The
connections tell what the studio itself needs; the pages add what the browser needs to show it. Each turn is compared
with the one without a page before it. `scripts/test-studio` makes the virtual environment.

How late previews are is measured afterwards, in another studio. While it draws, a plain connection listens, and another
asks anew every few milliseconds, which is answered at once: so it is known when each step's preview could be had. A
preview is late by the time from the last answer without it to the moment when the listener has it, or a newer one. That
is never too little.
"""
import argparse
import http.client
import json
import re
import socket
import statistics
import struct
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Tests/StudioPage"))
from playwright.sync_api import sync_playwright  # noqa: E402
from studio import CHROMIUM, StudioProcess  # noqa: E402

WATCHERS = 3
# Seconds between two questions of who watches previews come.
ASKING = 0.005
# Of each turn, steps that do not count: pages are being opened or closed.
SETTLING = 4
SHOWN = "#view section:not([hidden])"


def ends(folder):
    """When each step so far was done, by its number: wall time of the run's TensorBoard file."""
    times = {}
    for file in folder.glob("concepts/*/*/tensorboard/*tfevents*"):
        data, at = file.read_bytes(), 0
        while at + 16 <= len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            event = data[at + 12:at + 12 + length]
            at += 16 + length
            # Field 1 is the time, field 2 the step; the version's has none.
            if len(event) < length or length < 11 or event[0] != 0x09 or event[9] != 0x10:
                continue
            step = shift = 0
            for byte in event[10:]:
                step |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    break
            times.setdefault(step, struct.unpack_from("<d", event, 1)[0])
    return times


class Nobody:
    name = "no page"

    def close(self):
        pass


def events(studio, cookie):
    """A connection that has asked for all that pages are told."""
    host = urlsplit(studio.address)
    connection = socket.create_connection((host.hostname, host.port))
    connection.sendall(f"GET /api/events HTTP/1.1\r\nHost: {host.netloc}\r\nCookie: {cookie}\r\n\r\n".encode())
    return connection


class Sockets:
    """Connections that listen as pages do and throw away what they hear."""

    name = f"{WATCHERS} connections"

    def __init__(self, studio, cookie, _):
        self.bytes, self.sockets = 0, []
        for _ in range(WATCHERS):
            connection = events(studio, cookie)
            if not connection.recv(1 << 16).startswith(b"HTTP/1.1 200"):
                raise RuntimeError("the studio refuses to tell a plain connection anything")
            self.sockets.append(connection)
            threading.Thread(target=self.listen, args=[connection], daemon=True).start()

    def listen(self, connection):
        try:
            while heard := connection.recv(1 << 16):
                self.bytes += len(heard)
        except OSError:
            pass

    def close(self):
        for connection in self.sockets:
            connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        if not self.bytes:
            raise RuntimeError("the connections heard nothing")


class Pages:
    """Open pages in a browser."""

    name = f"{WATCHERS} pages"

    def __init__(self, studio, _, context):
        self.pages = [context.new_page() for _ in range(WATCHERS)]
        for page in self.pages:
            page.goto(studio.address.split("?")[0])

    def close(self):
        for page in self.pages:
            page.close()


def enter(studio):
    """The cookie that the address is exchanged for."""
    address = urlsplit(studio.address)
    connection = http.client.HTTPConnection(address.netloc)
    connection.request("GET", f"{address.path}?{address.query}")
    return connection.getresponse().headers["Set-Cookie"].split(";")[0]


def first_page(browser, studio, cookie, times):
    """Milliseconds until Chromium, which has nothing of it, shows the first section; and what all files of the page
    take without a browser."""
    seconds, files = [], set()
    for _ in range(times):
        context = browser.new_context()
        page = context.new_page()
        page.on("request", lambda r: files.add(r.url))
        start = time.monotonic()
        page.goto(studio.address, wait_until="commit")
        page.locator(SHOWN).first.wait_for()
        seconds.append(time.monotonic() - start)
        context.close()
    paths = sorted({p for p in (urlsplit(f).path for f in files) if re.search(r"^/(page/.*|api/studio)?$", p)})
    plain = []
    for _ in range(times):
        start = time.monotonic()
        for path in paths:
            connection = http.client.HTTPConnection(urlsplit(studio.address).netloc)
            connection.request("GET", path, headers={"Cookie": cookie})
            if connection.getresponse().read() == b"":
                raise RuntimeError(f"{path} is empty")
        plain.append(time.monotonic() - start)
    print(f"first page: {1000 * statistics.median(seconds):.0f} ms until Chromium shows it (median of {times}, "
          f"at most {1000 * max(seconds):.0f}); its {len(paths)} files, one after another without a browser, "
          f"{1000 * statistics.median(plain):.1f} ms")


def learn(page, steps):
    page.get_by_role("button", name="ginger").click()
    page.locator(".tile img").nth(4).wait_for()  # the concept is shown
    page.get_by_text("More", exact=True).click()
    page.get_by_label("Training steps").fill(str(steps))
    page.get_by_role("button", name="Learn it").click()
    page.get_by_text("of memory at most").wait_for(timeout=600_000)


def measure(folder, context, studio, cookie, steps, turn):
    """For each round, the seconds from step to step of each watcher's turn."""
    page = context.new_page()
    page.goto(studio.address)
    learn(page, steps)
    page.close()
    rounds = []
    done = max(ends(folder))
    while done + 3 * turn < steps:
        seconds = {}
        for kind in (Nobody, Sockets, Pages):
            watcher = kind() if kind is Nobody else kind(studio, cookie, context)
            start = max(ends(folder))
            while max(ends(folder)) < start + turn:
                time.sleep(0.5)
            times = ends(folder)
            watcher.close()
            numbers = range(start + SETTLING, start + turn)
            seconds[kind] = [times[n + 1] - times[n] for n in numbers]
        rounds.append(seconds)
        done = max(ends(folder))
    return rounds


def work(connection):
    """What the studio tells of its work, each time as soon as it is here: the time, and the event's JSON."""
    heard = b""
    while piece := connection.recv(1 << 16):
        now = time.monotonic()
        *whole, heard = (heard + piece).split(b"\n\n")
        for event in whole:
            # The first comes behind the response's head, which ends in its own empty line: "\r\n\r\n".
            head, _, data = event.rpartition(b"\ndata: ")
            if head.endswith(b"event: work"):
                yield now, data


def draw(studio, cookie, images, steps, seed):
    """Has images generated; returns what a listener heard meanwhile, and the answers to who asked anew, each with the
    time when it was asked for."""
    heard, asked = [], []
    listener = events(studio, cookie)

    def listen():
        try:
            heard.extend(work(listener))
        except OSError:
            pass

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    host = urlsplit(studio.address)
    connection = http.client.HTTPConnection(host.netloc)
    order = {"prompt": "a photo of a cat", "seeds": list(range(seed, seed + images)), "steps": steps}
    connection.request("POST", "/api/generations", json.dumps(order), {
        "Cookie": cookie, "Origin": f"http://{host.netloc}", "Content-Type": "application/json"})
    answer = json.loads(connection.getresponse().read())
    mine = f'"generating":"{answer["id"]}"'.encode()
    began = False
    while True:
        start = time.monotonic()
        with events(studio, cookie) as connection:
            _, data = next(work(connection))
        asked.append((start, data))
        if began and mine not in data:
            break
        began = began or mine in data
        time.sleep(ASKING)
    time.sleep(1)
    listener.shutdown(socket.SHUT_RDWR)
    thread.join()
    listener.close()
    return heard, asked


def lateness(heard, asked, steps):
    """Seconds that each step's preview is late, and seconds of a step."""
    def previews(data):
        job = json.loads(data).get("generateJob")
        return None if job is None else tuple(job["previews"])

    # When each preview was not there for the last time, in the order of the steps.
    order, before = {}, asked[0][0]
    for start, data in asked:
        shown = previews(data)
        if shown and shown not in order:
            order[shown] = (len(order), before)
        before = start
    if len(order) < 0.9 * steps:
        raise RuntimeError(f"only {len(order)} of {steps} previews were seen: steps are too short to be told apart")
    since = [start for _, start in order.values()]
    late, newest = [], 0
    for now, data in heard:
        shown = previews(data)
        # Once the images are there, no preview is waited for.
        if shown is None:
            reached = len(order) if now > since[-1] else newest
        else:
            reached = order[shown][0] + 1 if shown in order else newest
        for start in since[newest:reached]:
            late.append(now - start)
        newest = max(newest, reached)
    if newest < len(order):
        raise RuntimeError("the listener was not told the end")
    return late, statistics.median(b - a for a, b in zip(since, since[1:]))


def measure_previews(studio, cookie, images, orders, steps):
    draw(studio, cookie, images, steps, 0)  # The first makes what previews are computed with.
    late, each = [], []
    for i in range(orders):
        seconds, step = lateness(*draw(studio, cookie, images, steps, 100 * (i + 1)), steps)
        late += seconds
        each.append(step)
    step = statistics.median(each)
    middle, worst = statistics.median(late), max(late)
    soon = sum(s <= step for s in late) / len(late)
    print(f"previews of {images} image{'s' * (images > 1)} at once, {1000 * step:.0f} ms a step: late by "
          f"{1000 * middle:.0f} ms, {middle / step:.2f} steps (median of {len(late)}); at most {1000 * worst:.0f} ms, "
          f"{worst / step:.2f} steps; {100 * soon:.0f} % within a step")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--turn", type=int, default=24, help="steps before others listen")
    options = parser.parse_args()
    if options.steps < 4 * options.turn:
        parser.error(f"--steps {options.steps}: at least four turns of {options.turn}")
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        folder = Path(scratch) / "studio"
        studio = StudioProcess(folder)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            cookie = enter(studio)
            first_page(browser, studio, cookie, 20)
            rounds = measure(folder, browser.new_context(), studio, cookie, options.steps, options.turn)
        finally:
            browser.close()
            studio.end()
    with tempfile.TemporaryDirectory() as scratch:
        studio = StudioProcess(Path(scratch) / "studio")
        try:
            cookie = enter(studio)
            for images in (1, 8):
                measure_previews(studio, cookie, images, 5, 50)
        finally:
            studio.end()
    # Medians: validation images between steps and other programs stretch single ones.
    for kind in (Nobody, Sockets, Pages):
        each = statistics.median(s for seconds in rounds for s in seconds[kind])
        print(f"{kind.name}: {1000 * each:.0f} ms from step to step, {1 / each:.2f} steps a second")
    for kind, what in ((Sockets, "the studio's serving"), (Pages, "serving and the browser")):
        shares = [statistics.median(s[kind]) / statistics.median(s[Nobody]) - 1 for s in rounds]
        low, middle, high = statistics.quantiles(shares, n=4) if len(shares) > 1 else shares * 3
        print(f"{what}: {100 * middle:+.1f} % of a step (quartiles {100 * low:+.1f} to {100 * high:+.1f} of {len(shares)} rounds)")


if __name__ == "__main__":
    main()
