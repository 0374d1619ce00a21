"""What serving the studio's page costs a training step, how soon the first page is there, and how late previews are.

    .venv-studio/bin/python Benchmarks/serving.py --steps 800

Learns an example on mini-sd in a studio of its own. No page, three plain connections that listen to all that pages are
told, and three pages in Chromium take turns, some steps each, so that what else the machine does touches all alike. The
connections tell what the studio itself needs; the pages add what the browser needs to show it. Each turn is compared
with the one without a page before it. `scripts/test-studio` makes the virtual environment.

How late previews are is measured afterwards, in another studio, by a plain connection that listens while images are
drawn and disturbs nothing. What it hears shows the newest preview and says how many steps are done: what came between
two of them was overtaken. A preview that is not overtaken comes before the next step is done: it is less than one step
late. One that is counts one more for each step until a newer one came.
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
    """What the studio tells of its work, each time as soon as it is here: the time, and what was told."""
    heard = b""
    while piece := connection.recv(1 << 16):
        now = time.monotonic()
        *whole, heard = (heard + piece).split(b"\n\n")
        for event in whole:
            # The first comes behind the response's head.
            head, _, data = event.rpartition(b"\ndata: ")
            if head.endswith(b"event: work"):
                yield now, json.loads(data)


def draw(studio, cookie, images, steps, seed):
    """Has images generated; returns when a listener heard of each preview, and how many steps were done then."""
    host = urlsplit(studio.address)
    connection = http.client.HTTPConnection(host.netloc)
    order = {"prompt": "a photo of a cat", "seeds": list(range(seed, seed + images)), "steps": steps}
    connection.request("POST", "/api/generations", json.dumps(order), {
        "Cookie": cookie, "Origin": f"http://{host.netloc}", "Content-Type": "application/json"})
    id = json.loads(connection.getresponse().read())["id"]
    times, numbers, shown = [], [], []
    with events(studio, cookie) as listener:
        for now, told in work(listener):
            if not any(item["id"] == id for item in told["queue"]):
                break
            job = told.get("generateJob")
            if told.get("generating") != id or not job["previews"] or job["previews"] == shown:
                continue
            shown = job["previews"]
            times.append(now)
            # It may have been told before the step was counted.
            numbers.append(max(job["step"] // images, numbers[-1] + 1 if numbers else 1))
    return times, numbers


def measure_previews(studio, cookie, images, orders, steps):
    draw(studio, cookie, images, steps, 0)  # The first makes what previews are computed with.
    late, milliseconds, paces, came = [], [], [], 0
    for i in range(orders):
        times, numbers = draw(studio, cookie, images, steps, 100 * (i + 1))
        came += len(times)
        paces.append((times[-1] - times[0]) / (numbers[-1] - numbers[0]))
        for k in range(1, len(times)):
            between = numbers[k] - numbers[k - 1]
            late += range(1, between + 1)
            milliseconds += [1000 * n * (times[k] - times[k - 1]) / between for n in range(1, between + 1)]
    print(f"previews of {images} image{'s' * (images > 1)} at once, {1000 * statistics.median(paces):.0f} ms a step: "
          f"{came} of {orders * steps} came before the next step was done; late by less than "
          f"{statistics.median(late):g} steps, {statistics.median(milliseconds):.0f} ms (median), and "
          f"{max(late)} steps, {max(milliseconds):.0f} ms (worst)")


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
