"""What a person does who never used a terminal, by clicking, in a real browser."""
import os
import signal
import subprocess
import unittest

from studio import NETI, ROOT, StudioCase, StudioProcess

STEPS = "10"


class Story(StudioCase):
    def learn(self, example="ginger", steps=STEPS):
        page = self.page
        page.get_by_role("button", name=example).click()
        self.until("document.querySelectorAll('.tile img').length == 5")
        self.until("[...document.querySelectorAll('.tile img')].every(i => i.naturalWidth == 128)")
        if steps:
            page.get_by_text("More", exact=True).click()
            page.get_by_label("Training steps").fill(steps)
        page.get_by_role("button", name="Learn it").click()

    def wait_learned(self, timeout=600_000):
        self.page.get_by_role("heading", name="is learned").wait_for(timeout=timeout)

    def same_as_command(self, line, concept):
        """The line that the page shows learns the same, byte for byte."""
        here = self.folder / "here"
        here.mkdir()
        subprocess.run(f'neti() {{ "{NETI}" "$@"; }}; {line}', shell=True, cwd=here, check=True, capture_output=True,
                       env=dict(os.environ, GOMP_SPINCOUNT="5000"))
        self.assertEqual((here / "ginger/concept.safetensors").read_bytes(), concept.read_bytes())

    def test_from_pictures_to_images(self):
        page = self.page
        self.assertNotIn("token", page.url)
        self.shot("start")
        self.learn()
        page.get_by_role("heading", name="Learning ginger").wait_for()
        page.get_by_text("left. You can close this page").wait_for(timeout=300_000)
        self.shot("learning")
        # Generating comes between two steps, and changes nothing of what is learned.
        learning = page.evaluate("location.hash")
        page.get_by_role("link", name="Generate").click()
        page.locator("#prompt").fill("a photo of a red mug")
        page.get_by_label("How many images").fill("1")
        page.get_by_role("button", name="Generate", exact=True).click()
        self.until("document.querySelectorAll('.tiles.large img').length == 1", 300)
        page.get_by_role("button", name="Delete").click()
        self.until("document.querySelectorAll('.tiles.large img').length == 0")
        page.evaluate("hash => { location.hash = hash }", learning)
        self.wait_learned()
        self.until("[...document.querySelectorAll('.tiles img')].every(i => i.naturalWidth > 0)")
        # Back in time.
        page.get_by_label("How it looked after so many steps").press("Home")
        page.get_by_text("After 5 steps").wait_for()
        page.get_by_text("The loss", exact=True).click()
        self.until("document.querySelector('.chart path').getAttribute('d')?.length > 50")
        page.get_by_text("The same on the command line").click()
        line = page.locator("code").inner_text()
        self.assertRegex(line, r"^neti train --images \S+/images --token '<ginger>' --category cat --output ginger ")
        self.shot("learned")

        with page.expect_download() as download:
            page.evaluate("id => { location.href = `/api/concepts/${id}/file` }", page.url.split("/")[-1])
        self.same_as_command(line, download.value.path())

        page.get_by_role("button", name="Generate with it").click()
        self.assertIn("{ginger}", page.locator("#prompt").input_value())
        page.get_by_label("How many images").fill("2")
        page.get_by_role("button", name="Generate", exact=True).click()
        page.wait_for_selector("#forming img")
        self.shot("forming")
        self.until("document.querySelectorAll('.tiles.large img').length == 2")
        # The dial, by keyboard: it draws anew by itself, from the same noise.
        page.locator("#dial").focus()
        page.keyboard.press("Home")
        self.until("document.querySelectorAll('.tiles.large img').length == 4")
        page.get_by_text("dial 1)").first.wait_for()
        self.shot("generate")

        # A saved image gives its settings back when it is dropped on the page.
        page.locator("#prompt").fill("something else")
        page.evaluate("""async () => {
          const address = document.querySelector('.tiles.large img').src
          const blob = await (await fetch(address)).blob()
          const data = new DataTransfer()
          data.items.add(new File([blob], 'image.png', { type: 'image/png' }))
          document.getElementById('view').dispatchEvent(
            new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }))
        }""")
        self.until("document.getElementById('prompt').value == 'a photo of a {ginger} on a beach'")
        self.assertEqual(page.locator("#dial").input_value(), "1")

        page.get_by_role("link", name="Concepts").click()
        page.get_by_label("Name").fill("Ginger the cat")
        page.get_by_label("Name").press("Tab")
        with page.expect_download() as download:
            page.get_by_role("link", name="Save the file").click()
        self.assertEqual(download.value.suggested_filename, "ginger.safetensors")
        self.assertGreater(download.value.path().stat().st_size, 100_000)
        self.shot("concepts")
        page.get_by_role("button", name="Delete").click()
        page.get_by_text("There is none yet.").wait_for()
        page.get_by_role("button", name="Undo").click()
        self.until("document.querySelector('.card input')?.value == 'Ginger the cat'")

    def test_own_pictures_and_captions(self):
        page = self.page
        pictures = [str(ROOT / f"Examples/starmug/{n}.jpg") for n in (1, 2, 3)]
        page.locator("input[type=file]").set_input_files(pictures)
        self.until("document.querySelectorAll('.tile img').length == 3")
        # The same again, and what is no picture: one line each.
        page.locator("input[type=file]").set_input_files([pictures[0], str(ROOT / "README.md")])
        page.get_by_text("1.jpg shows the same as picture 1").wait_for()
        page.get_by_text("README.md: not a JPEG, PNG or WebP").wait_for()
        page.get_by_text("Describe it").first.click()
        caption = page.get_by_label("What the picture shows").first
        caption.fill("a mug on a table")
        page.get_by_text("Write {} where the thing itself belongs.").wait_for()
        caption.fill("a {} on a table")
        caption.press("Tab")
        page.wait_for_timeout(300)
        page.reload()
        page.get_by_text("Describe it").first.click()
        self.assertEqual(page.get_by_label("What the picture shows").first.input_value(), "a {} on a table")
        page.get_by_role("button", name="Remove picture 2").click()
        self.until("document.querySelectorAll('.tile img').length == 2")
        # Refused before anything is begun, in plain words.
        page.get_by_role("button", name="Learn it").click()
        page.get_by_text("The name is missing.").wait_for()
        self.problems.clear()  # The browser's console tells of every refusal.

    def test_stopped_killed_and_resumed(self):
        page = self.page
        self.learn(steps="30")
        page.get_by_text("left. You can close this page").wait_for(timeout=300_000)
        page.get_by_role("button", name="Stop, and keep the work").click()
        page.get_by_role("heading", name="is not finished").wait_for()
        page.get_by_role("button", name="Go on").click()
        page.get_by_text("left. You can close this page").wait_for(timeout=300_000)
        self.until("document.querySelector('progress').value > 0.3", 300)
        self.studio.end(signal.SIGKILL)
        page.get_by_text("The studio does not answer.").wait_for()
        # It goes on asking, and its console tells of every time.
        page.close()
        self.problems.clear()
        self.studio = StudioProcess(self.folder / "studio")
        self.page = page = self.open()
        page.get_by_role("link", name="Concepts").click()
        page.get_by_role("link", name="Open").click()
        page.get_by_role("heading", name="is not finished").wait_for()
        page.get_by_role("button", name="Go on").click()
        self.wait_learned()


class Phone(Story):
    """Narrow and dark."""

    size = {"width": 390, "height": 800}
    scheme = "dark"

    def test_from_pictures_to_images(self):
        page = self.page
        for part in ("learn", "generate", "concepts"):
            page.goto(page.url.split("#")[0] + "#" + part)
            page.wait_for_selector("#view section:not([hidden])")
            wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            self.assertLessEqual(wide, 0, part)
        page.goto(page.url.split("#")[0] + "#learn")
        page.get_by_role("button", name="ginger").click()
        self.until("document.querySelectorAll('.tile img').length == 5")
        self.assertLessEqual(page.evaluate("document.documentElement.scrollWidth - innerWidth"), 0)
        self.shot("phone")

    test_own_pictures_and_captions = test_stopped_killed_and_resumed = None


if __name__ == "__main__":
    unittest.main()
