"""A studio that is started for a test, and a browser to look at it with."""
import base64
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[2]
NETI = os.environ.get("NETI", str(ROOT / ".build/release/neti"))
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# Where to keep pictures of the page; none are kept when it is not set.
SCREENSHOTS = os.environ.get("NETI_SCREENSHOTS")


class StudioProcess:
    """`neti studio` in a folder."""

    def __init__(self, folder, arguments=()):
        environment = dict(os.environ, GOMP_SPINCOUNT="5000", NETI_COMMAND="neti")
        self.log = Path(f"{folder}.log")
        # A file: a pipe that nobody reads fills up, and the studio would wait.
        with self.log.open("a") as notices:
            self.process = subprocess.Popen([NETI, "studio", "--folder", str(folder), "--port", "0", *arguments],
                                            stdout=subprocess.PIPE, stderr=notices, env=environment, text=True)
        self.address = None
        for line in self.process.stdout:
            found = re.search(r"http://\S+", line)
            if found:
                self.address = found.group(0)
                break
        if not self.address:
            raise RuntimeError("the studio did not start: " + self.log.read_text())

    def end(self, how=signal.SIGINT):
        """Ends it; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        code = self.process.wait(timeout=30)
        self.process.stdout.close()
        return code


class StudioCase(unittest.TestCase):
    """A test with a folder, a studio and a browser of its own."""

    arguments = ()
    size = {"width": 1180, "height": 860}
    scheme = "light"

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="neti-studio-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.studio = StudioProcess(self.folder / "studio", self.arguments)
        self.addCleanup(lambda: self.studio.end())
        playwright = sync_playwright().start()
        self.addCleanup(playwright.stop)
        self.browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        self.addCleanup(self.browser.close)
        self.problems = []
        self.page = self.open()

    def open(self, **options):
        """A page of the studio; whatever its console complains of fails the test."""
        options = {"viewport": self.size, "color_scheme": self.scheme, "reduced_motion": "reduce", **options}
        page = self.browser.new_context(**options).new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda m: self.problems.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: self.problems.append(str(e)))
        page.goto(self.studio.address)
        self.enter(page)
        page.wait_for_selector("#view section:not([hidden])")
        return page

    def enter(self, page):
        """What a person does before the page is there."""

    def expect_problems(self, *words):
        """The browser's console tells of every refusal; anything else fails the test."""
        for text in self.problems[:]:
            if any(word in text for word in words):
                self.problems.remove(text)

    def tearDown(self):
        self.assertEqual(self.problems, [])

    def until(self, expression, timeout=60):
        """Waits until a JavaScript expression is true. (The page's policy forbids playwright's own way, eval.)"""
        end = time.monotonic() + timeout
        while not self.page.evaluate(expression):
            self.assertLess(time.monotonic(), end, expression)
            time.sleep(0.05)

    def drop(self, selector, *files):
        """Drags files, (name, bytes) each, onto an element; no browser may take them as a page to go to."""
        files = [(name, base64.b64encode(data).decode()) for name, data in files]
        taken = self.page.evaluate("""([selector, files]) => {
          const data = new DataTransfer()
          for (const [name, text] of files) data.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name))
          return ['dragenter', 'dragover', 'drop'].map((name) => !document.querySelector(selector).dispatchEvent(
            new DragEvent(name, { dataTransfer: data, bubbles: true, cancelable: true })))
        }""", [selector, files])
        self.assertEqual(taken, [True, True, True])

    def shot(self, name, whole=False):
        if SCREENSHOTS:
            self.page.screenshot(path=str(Path(SCREENSHOTS) / f"{name}{self.suffix}.png"), full_page=whole)

    suffix = ""
