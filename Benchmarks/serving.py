"""What serving the studio's page costs a training step, and how soon the first page is there.

    .venv-studio/bin/python Benchmarks/serving.py --steps 400

Learns an example on mini-sd in a studio of its own. No page and three open pages take turns, some steps each, so that
what else the machine does touches both alike. `scripts/test-studio` makes the virtual environment.
"""
import argparse
import json
import statistics
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Tests/StudioPage"))
from playwright.sync_api import sync_playwright  # noqa: E402
from studio import CHROMIUM, StudioProcess  # noqa: E402

PAGES = 3
# Of each turn, steps that do not count: pages are being opened or closed.
SETTLING = 4


def events(folder):
    """The updates so far, as the run's log has them."""
    [log] = folder.glob("concepts/*/*/events.jsonl")
    lines = log.read_bytes().split(b"\n")[:-1]
    return [e for e in map(json.loads, lines) if e["kind"] == "step"]


def first_page(studio, times):
    """Seconds until the page and its modules are there, over loopback."""
    address = studio.address.split("?")[0]
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    opener.open(studio.address).read()
    seconds = []
    for _ in range(times):
        start = time.monotonic()
        opener.open(address).read()
        seconds.append(time.monotonic() - start)
    return statistics.median(seconds)


def learn(page, steps):
    page.get_by_role("button", name="ginger").click()
    page.locator(".tile img").nth(4).wait_for()  # the concept is shown
    page.get_by_text("More", exact=True).click()
    page.get_by_label("Training steps").fill(str(steps))
    page.get_by_role("button", name="Learn it").click()
    page.get_by_text("of memory at most").wait_for(timeout=600_000)


def measure(folder, browser, studio, steps, turn):
    context = browser.new_context()
    page = context.new_page()
    page.goto(studio.address)
    learn(page, steps)
    page.close()
    seconds = {False: [], True: []}
    done, with_pages, pages = len(events(folder)), False, []
    while done + turn < steps:
        start = done
        while done < start + turn:
            time.sleep(0.2)
            done = len(events(folder))
        seconds[with_pages] += [e["seconds"] for e in events(folder)[start + SETTLING:start + turn]]
        with_pages = not with_pages
        for open_page in pages:
            open_page.close()
        pages = []
        if with_pages:
            for _ in range(PAGES):
                pages.append(context.new_page())
                pages[-1].goto(studio.address.split("?")[0])
        done = len(events(folder))
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--turn", type=int, default=24, help="steps before pages are opened or closed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        folder = Path(scratch) / "studio"
        studio = StudioProcess(folder)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            print(f"first page: {1000 * first_page(studio, 50):.1f} ms (median of 50)")
            seconds = measure(folder, browser, studio, options.steps, options.turn)
        finally:
            browser.close()
            studio.end()
    # The medians: validation images and other programs stretch single steps.
    alone, watched = (statistics.median(seconds[which]) for which in (False, True))
    for name, which, median in (("no page", False, alone), (f"{PAGES} pages", True, watched)):
        print(f"{name}: {1 / median:.2f} steps a second ({len(seconds[which])} steps)")
    print(f"serving takes {100 * (watched / alone - 1):.1f} % of a step")


if __name__ == "__main__":
    main()
