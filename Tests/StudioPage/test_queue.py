"""What is being done and what waits; pictures that are dropped; a page that is closed."""
import signal
import time
import unittest

from studio import ROOT, StudioProcess
from test_story import Learner


class Queue(Learner):
    def lines(self):
        return self.page.evaluate("[...document.querySelectorAll('#queue li a')].map(a => a.textContent)")

    def generate(self, prompt, count, steps):
        page = self.page
        page.locator("#prompt").fill(prompt)
        page.get_by_label("How many images").fill(count)
        page.get_by_role("spinbutton", name="Denoising steps").fill(steps)
        page.get_by_role("button", name="Generate", exact=True).click()

    def test_order_and_taking_out(self):
        page = self.page
        queue = page.get_by_role("complementary", name="What is being done, and what waits")
        self.assertFalse(queue.is_visible())
        self.learn(steps="400")
        page.get_by_text("of memory at most").wait_for(timeout=300_000)
        page.evaluate("() => { location.hash = 'learn/new' }")
        page.get_by_role("button", name="ginger").wait_for()
        self.learn("jay", "2")
        page.get_by_role("heading", name="jay waits for its turn").wait_for()
        page.get_by_text("It begins when what is being learned is done.").wait_for()
        page.get_by_role("link", name="Generate").click()
        page.get_by_text("More", exact=True).click()
        self.generate("a red mug", "16", "200")
        page.wait_for_selector("#forming img", timeout=300_000)
        self.generate("a blue mug", "1", "2")
        self.generate("a green mug", "1", "2")
        wanted = ["Generating “a red mug”", "Learning ginger", "Generate “a blue mug”", "Generate “a green mug”", "Learn jay"]
        self.until(f"document.querySelectorAll('#queue li').length == {len(wanted)}")
        self.assertEqual(self.lines(), wanted)
        for part in ("Learn", "Look inside", "Concepts", "Generate"):
            page.get_by_role("navigation").get_by_role("link", name=part).click()
            queue.get_by_text("Generating “a red mug”; Learning ginger; 3 more wait").wait_for()
        # By keyboard, as a screen reader names it.
        page.locator("#queue summary").focus()
        page.keyboard.press("Enter")
        queue.get_by_role("progressbar", name="How far it is: Learning ginger").wait_for()
        queue.get_by_text("of 400").wait_for()
        self.shot("queue")
        button = queue.get_by_role("button", name="Take out: Generate “a blue mug”")
        button.focus()
        page.keyboard.press("Enter")
        page.locator("#toast").get_by_text("Taken out: Generate “a blue mug”.").wait_for()
        self.until("document.querySelectorAll('#queue li').length == 4")
        self.assertEqual(page.evaluate("document.activeElement.getAttribute('aria-label')"), "Take out: Generate “a green mug”")
        queue.get_by_role("button", name="Take out: Learn jay").click()
        self.until("![...document.querySelectorAll('#queue li a')].some(a => a.textContent == 'Learn jay')")
        queue.get_by_role("button", name="Stop: Generating “a red mug”").click()
        page.get_by_alt_text("a green mug", exact=True).wait_for(timeout=300_000)
        queue.get_by_role("button", name="Stop: Learning ginger").click()
        self.until("document.getElementById('queue').hidden", 300)
        self.assertEqual(page.get_by_alt_text("a blue mug", exact=True).count(), 0)
        # Nothing of what was taken out is learned.
        self.assertEqual(list((self.folder / "studio/concepts").glob("*/jay/concept.safetensors")), [])

    def test_closed_while_it_learns(self):
        page = self.page
        self.learn(steps="40")
        page.get_by_text("You can close this page: learning goes on.").wait_for(timeout=300_000)
        address = page.url
        [log] = (self.folder / "studio/concepts").glob("*/ginger/events.jsonl")
        page.close()
        before = log.read_text().count('"step"')
        end = time.monotonic() + 300
        while log.read_text().count('"step"') < before + 5:
            self.assertLess(time.monotonic(), end)
            time.sleep(0.2)
        self.page = page = self.open()
        page.goto(address)
        self.wait_learned()


class BrokenOff(Queue):
    test_order_and_taking_out = test_closed_while_it_learns = None

    def kill(self):
        """Kills the studio; returns the list of the next one's page."""
        self.studio.end(signal.SIGKILL)
        self.page.get_by_text("The studio does not answer.").wait_for()
        # It goes on asking, and its console tells of every time.
        self.page.close()
        self.expect_problems("ERR_", "Failed to load")
        self.studio = StudioProcess(self.folder / "studio", self.arguments)
        self.page = self.open()
        return self.page.get_by_role("complementary", name="What is being done, and what waits")

    def tiles(self, count):
        self.until(f"document.querySelectorAll('#gallery .tile').length == {count}", 300)

    def test_the_missing_images_are_made(self):
        self.page.get_by_role("link", name="Generate").click()
        self.page.get_by_text("More", exact=True).click()
        self.generate("a red mug", "16", "60")
        # Those that are denoised together.
        self.tiles(8)
        queue = self.kill()
        queue.get_by_text("1 was broken off").wait_for()
        queue.get_by_text("the studio ended; what was done is kept").wait_for()
        self.shot("broken-off")
        self.page.get_by_role("link", name="Generate").first.click()
        self.tiles(8)
        button = queue.get_by_role("button", name="Make the missing images: “a red mug” was broken off")
        button.focus()
        self.page.keyboard.press("Enter")
        queue.get_by_text("Generating “a red mug”").first.wait_for()
        self.until("document.activeElement.textContent == 'Stop'")
        self.tiles(16)
        self.until("document.getElementById('queue').hidden")
        seeds = self.page.evaluate("""[...document.querySelectorAll('#gallery .tile p')].map((p) => Number(/seed (\\d+)/.exec(p.textContent)[1]))""")
        self.assertEqual(sorted(seeds), list(range(16)))

    def test_dismissing(self):
        self.page.get_by_role("link", name="Generate").click()
        self.page.get_by_text("More", exact=True).click()
        self.generate("a blue mug", "1", "200")
        self.page.wait_for_selector("#forming img", timeout=300_000)
        queue = self.kill()
        queue.get_by_role("button", name="Dismiss: “a blue mug” was broken off").click()
        self.until("document.getElementById('queue').hidden")
        self.page.reload()
        self.page.wait_for_selector("#view section:not([hidden])")
        self.assertFalse(queue.is_visible())


class Drops(Learner):
    def test_pictures(self):
        page = self.page
        def picture(n):
            return f"{n}.jpg", (ROOT / f"Examples/starmug/{n}.jpg").read_bytes()
        self.drop(".drop", picture(1), picture(2))
        self.until("document.querySelectorAll('.tile img').length == 2")
        # Beside the box they are taken, too.
        self.drop("footer", picture(3), ("notes.txt", b"no picture"))
        self.until("document.querySelectorAll('.tile img').length == 3")
        page.get_by_text("notes.txt: not a JPEG, PNG or WebP").wait_for()
        # The same picture, saved anew: it is taken, and said.
        data = page.evaluate("""async () => {
          const image = await createImageBitmap(await (await fetch(document.querySelector('.tile img').src)).blob())
          const canvas = new OffscreenCanvas(96, 96)
          canvas.getContext('2d').drawImage(image, 0, 0, 96, 96)
          return [...new Uint8Array(await (await canvas.convertToBlob({ type: 'image/jpeg', quality: 0.5 })).arrayBuffer())]
        }""")
        self.drop(".drop", ("again.jpg", bytes(data)))
        note = page.get_by_text("looks the same as picture 1; another one teaches more")
        note.wait_for()
        self.assertEqual(note.count(), 1)
        self.shot("twins")
        # Without the other one it is like none.
        page.get_by_role("button", name="Remove picture 1").click()
        note.wait_for(state="detached")
        page.get_by_label("A name for it").fill("mug")
        page.get_by_label("What kind of thing it is").fill("mug")
        page.get_by_text("More", exact=True).click()
        page.get_by_label("Training steps").fill("1")
        page.get_by_role("button", name="Learn it").click()
        self.wait_learned()
        self.drop("footer", picture(4))
        page.locator("#toast").get_by_text("These pictures stay as they are.").wait_for()
        self.expect_problems("422")


if __name__ == "__main__":
    unittest.main()
