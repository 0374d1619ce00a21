"""What a person does who never used a terminal, by clicking, in a real browser."""
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import unittest
import zipfile
from pathlib import Path

from studio import NETI, ROOT, StudioCase, StudioProcess

STEPS = "10"


class Learner(StudioCase):
    # mini-sd predicts noise; said anyway, it belongs to the line that is shown.
    arguments = ("--prediction-type", "epsilon")

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


class Story(Learner):
    def same_as_command(self, line, concept):
        """The line that the page shows learns the same, byte for byte."""
        here = self.folder / "here"
        here.mkdir()
        subprocess.run(f'neti() {{ "{NETI}" "$@"; }}; {line}', shell=True, cwd=here, check=True, capture_output=True,
                       env=dict(os.environ, GOMP_SPINCOUNT="5000"))
        self.assertEqual((here / "ginger/concept.safetensors").read_bytes(), concept.read_bytes())

    def same_as_export(self, program, download):
        """The archive holds what `neti export` writes, byte for byte."""
        [file] = (self.folder / "studio/concepts").glob("*/ginger/concept.safetensors")
        subprocess.run([NETI, "export", str(file), "--for", program], cwd=self.folder, check=True, capture_output=True)
        made = self.folder / f"ginger-{program}"
        self.assertEqual(download.suggested_filename, made.name + ".zip")
        wanted = {str(p.relative_to(self.folder)): p.read_bytes() for p in made.rglob("*") if p.is_file()}
        with zipfile.ZipFile(download.path()) as archive:
            self.assertIsNone(archive.testzip())
            self.assertEqual({name: archive.read(name) for name in archive.namelist()}, wanted)

    def test_says_how_long_it_takes_before_it_begins(self):
        page = self.page
        page.get_by_text("How long it takes is measured in the first steps").wait_for()
        page.get_by_role("button", name="ginger").click()
        page.get_by_text("A few steps are tried now").wait_for()
        measured = re.compile(r"^About \d+ (second|minute|hour)s?; up to [\d.]+ [MG]iB of memory, as measured here\.$")
        page.locator("#estimate", has_text=measured).wait_for(timeout=300_000)
        for quality in ("quick", "good", "best"):
            self.assertRegex(page.locator(f".choice:has([value={quality}])").inner_text(), r"about \d+ (second|minute|hour)")
        self.shot("estimate")
        # Nothing of the trial stays but what it measured.
        [concept] = (self.folder / "studio/concepts").iterdir()
        self.assertEqual(sorted(p.name for p in concept.iterdir()), ["concept.json", "images", "originals", "squares"])
        [entry] = json.loads((self.folder / "studio/experience.json").read_text()).values()
        page.get_by_text("More", exact=True).click()
        page.get_by_label("Training steps").fill("1000")
        times = re.match(r"About (\d+) (second|minute|hour)", page.locator("#estimate").inner_text())
        shown = int(times[1]) * {"second": 1, "minute": 60, "hour": 3600}[times[2]]
        wanted = 1000 * entry["step"] + 10 * entry["pause"]
        self.assertLess(abs(shown - wanted), 0.5 * 60 + 0.05 * wanted)
        page.reload()
        page.locator("#estimate", has_text=measured).wait_for()

    def test_by_keyboard(self):
        """From the first page to a generated image without a pointer."""
        page = self.page

        def go(to, key="Tab", most=60):
            for _ in range(most):
                if page.evaluate(f"document.activeElement?.matches({to!r})"):
                    # Whoever sees where he is knows what Enter does.
                    self.assertTrue(page.evaluate("document.activeElement.matches(':focus-visible')"), to)
                    return
                page.keyboard.press(key)
            self.fail(f"{to} is not reached")

        go("section p.row button")
        page.keyboard.press("Enter")
        self.until("document.querySelectorAll('.tile img').length == 5")
        go("#title")
        page.keyboard.press("Control+a")
        page.keyboard.type("Tiger")
        go("input[name=quality]")
        page.keyboard.press("ArrowLeft")
        self.assertTrue(page.locator("[value=quick]").is_checked())
        go("summary")
        page.keyboard.press("Enter")
        go("input[type=number]")
        page.keyboard.type("2")
        page.keyboard.press("Enter")
        self.wait_learned()
        go("button.main:not(#learn)")
        page.keyboard.press("Enter")
        page.locator("#prompt").wait_for()
        go("#generate")
        page.keyboard.press("Enter")
        self.until("document.querySelectorAll('#gallery .tile img').length == 4", 300)

    def test_news_that_come_after_the_answer(self):
        self.page.add_init_script("""
            const Source = EventSource
            window.EventSource = class extends Source {
              addEventListener(type, listener) {
                super.addEventListener(type, (event) => setTimeout(() => listener(event), 1500))
              }
            }""")
        self.page.reload()
        self.page.get_by_role("button", name="ginger").click()
        self.until("document.querySelectorAll('.tile img').length == 5")

    def test_from_pictures_to_images(self):
        page = self.page
        self.assertNotIn("token", page.url)
        self.shot("start")
        self.learn()
        page.get_by_role("heading", name="Learning ginger").wait_for()
        page.get_by_text("You can close this page").wait_for(timeout=300_000)
        page.get_by_text("of memory at most").wait_for(timeout=300_000)
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
        page.get_by_text("The best so far: step").wait_for()
        self.until("document.querySelector('.chart path').getAttribute('d')?.length > 20")
        page.get_by_text("The same on the command line").click()
        line = page.locator("code").inner_text()
        self.assertRegex(line, r"^neti train --images \S+/images --token '<ginger>' --category cat --output ginger ")
        # As the studio's model was opened, so is that of the line.
        self.assertTrue(line.endswith(" --prediction-type epsilon"), line)
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
          document.querySelector('.view').dispatchEvent(
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
        # The message goes, the way back stays.
        page.get_by_role("button", name="Delete").click()
        page.get_by_role("button", name="Bring Ginger the cat back").click()
        self.until("document.querySelector('.card input')?.value == 'Ginger the cat'")
        page.get_by_text("Models on this machine").wait_for()
        page.get_by_role("row", name="mini-sd").get_by_text("U-Net").wait_for()
        # For another program, and back from its file.
        page.get_by_text("For other programs").click()
        with page.expect_download() as download:
            page.get_by_role("button", name="diffusers", exact=True).click()
        self.assertEqual(download.value.suggested_filename, "ginger-diffusers.safetensors")
        page.locator("input[type=file]").set_input_files(
            [{"name": "theirs.safetensors", "mimeType": "application/octet-stream",
              "buffer": download.value.path().read_bytes()}])
        self.until("document.querySelectorAll('.card').length == 2")
        page.get_by_text("from a file, for").wait_for()
        page.locator("input[type=file]").set_input_files([str(ROOT / "README.md")])
        page.locator("#toast").get_by_text("README.md").wait_for()
        self.expect_problems("422", "unprocessable")
        self.shot("models")
        for program in ("diffusers", "ComfyUI"):
            with page.expect_download() as folder:
                page.get_by_role("button", name=f"{program}, all of it").last.click()
            self.same_as_export(program.lower(), folder.value)

    def test_own_pictures_and_captions(self):
        page = self.page
        pictures = [str(ROOT / f"Examples/starmug/{n}.jpg") for n in (1, 2, 3)]
        page.locator("input[type=file]").set_input_files(pictures)
        self.until("document.querySelectorAll('.tile img').length == 3")
        # The same again, and what is no picture: one line each.
        page.locator("input[type=file]").set_input_files([pictures[0], str(ROOT / "README.md")])
        page.get_by_text("1.jpg shows the same as picture 1").wait_for()
        page.get_by_text("README.md: not a JPEG, PNG or WebP").wait_for()
        page.locator("input[type=file]").set_input_files(
            [{"name": "IMG_1.HEIC", "mimeType": "image/heic", "buffer": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)}])
        page.locator("p.warn", has_text="HEIC").wait_for()
        self.shot("warnings")
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
        self.expect_problems("409 (Conflict)", "422", "conflict", "unprocessable")

    def test_square_turn_and_brush(self):
        page = self.page
        page.locator("input[type=file]").set_input_files([str(ROOT / "Examples/starmug/1.jpg")])
        self.until("document.querySelector('.tile img')?.naturalWidth == 128")
        before = page.locator(".tile img").get_attribute("src")
        page.get_by_role("button", name="Square of picture 1").click()
        self.until("document.querySelector('.stage img').naturalWidth > 0")
        page.get_by_role("button", name="Turn").click()
        frame = page.locator(".frame")
        frame.focus()
        for key in ["-"] * 6 + ["ArrowLeft"] * 5 + ["ArrowDown"] * 2:
            page.keyboard.press(key)
        page.get_by_text("179 × 179 pixels of the picture").wait_for()
        page.get_by_label("Brush: leave out").check()
        box = frame.bounding_box()
        page.mouse.move(box["x"] + 5, box["y"] + 20)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] - 5, box["y"] + 20, steps=12)
        page.mouse.up()
        page.get_by_text("what is painted red is not learned").wait_for()
        self.until("document.querySelector('.stage img').complete")
        self.shot("square")
        page.get_by_role("button", name="Keep").click()
        page.get_by_text("Parts of it are left out.").wait_for()
        self.assertNotEqual(page.locator(".tile img").get_attribute("src"), before)
        [concept] = (self.folder / "studio/concepts").iterdir()
        self.assertEqual(sorted(p.name for p in (concept / "images").iterdir()), ["1-masklabel.png", "1.png"])
        self.assertEqual((concept / "originals/1.jpg").read_bytes(), (ROOT / "Examples/starmug/1.jpg").read_bytes())
        # Opened again, it is as it was left; and back to the whole.
        page.get_by_role("button", name="Square of picture 1").click()
        page.get_by_text("what is painted red is not learned").wait_for()
        page.get_by_role("button", name="All as it was").click()
        self.until("!document.querySelector('dialog')")
        self.until("document.querySelector('.note').textContent == ''")
        self.assertEqual([p.name for p in (concept / "images").iterdir()], ["1.jpg"])

    def test_two_concepts_and_a_look_inside(self):
        page = self.page
        for example, steps in (("ginger", STEPS), ("jay", "2")):
            page.goto(page.url.split("#")[0] + "#learn/new")
            self.learn(example, steps)
            self.wait_learned()
        page.get_by_role("button", name="Look inside").click()
        page.locator("#which").wait_for()
        page.get_by_text("Show the plot").click()
        self.until("document.querySelector('img.plot').naturalWidth == 760", 120)
        page.get_by_role("button", name="Generate beside them").click()
        self.until("document.querySelectorAll('#beside td img').length == 4", 300)
        page.get_by_role("button", name="Make the strip").click()
        self.until("document.querySelectorAll('#strip td img').length == 6", 300)
        page.get_by_label("With the look of").select_option(label="ginger")
        page.get_by_role("button", name="Mix them").click()
        page.get_by_text("The look takes over from timestep 999 on.").wait_for(timeout=300_000)
        self.until("document.querySelector('#mix input[type=range]').max == 7", 300)
        page.get_by_label("Where the look takes over").press("End")
        page.get_by_text("never: the first concept alone").wait_for()
        self.until("[...document.querySelectorAll('.view img')].every(i => i.naturalWidth > 0)")
        self.shot("look", whole=True)

        page.get_by_role("link", name="Generate").click()
        page.locator("#prompt").fill("a {ginger} and a {jay} on a beach")
        page.get_by_label("How many images").fill("1")
        border = page.get_by_role("separator", name="Border between ginger and jay")
        border.focus()
        for _ in range(4):
            border.press("ArrowRight")
        self.assertEqual(border.get_attribute("aria-valuenow"), "70")
        box = border.bounding_box()
        middle = box["y"] + box["height"] / 2
        strip = page.get_by_role("group", name="Where each concept stands").bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, middle)
        page.mouse.down()
        page.mouse.move(strip["x"] + strip["width"] * 0.4, middle, steps=8)
        page.mouse.up()
        self.assertAlmostEqual(int(border.get_attribute("aria-valuenow")), 40, delta=3)
        # The hand is off.
        page.mouse.move(strip["x"] + strip["width"] * 0.8, middle)
        self.assertAlmostEqual(int(border.get_attribute("aria-valuenow")), 40, delta=3)
        page.get_by_role("button", name="Move jay to the left").click()
        self.assertEqual(page.locator("#prompt").input_value(), "a {jay} and a {ginger} on a beach")
        page.get_by_role("separator", name="Border between jay and ginger").press("ArrowLeft")
        page.get_by_role("button", name="Generate", exact=True).click()
        self.until("document.querySelectorAll('#gallery .tile:not(.wide) img').length == 1", 300)
        self.shot("regions")

        page.locator("#prompt").fill("a photo of a {ginger} on a beach")
        page.get_by_text("Compare in a table").click()
        page.get_by_label("Rows change").select_option("checkpoint")
        page.get_by_role("button", name="Make the table").click()
        self.until("document.querySelector('#gallery .sheet')?.querySelectorAll('td img').length == 8", 600)
        self.until("[...document.querySelectorAll('#gallery .sheet')[0].querySelectorAll('img')].every(i => i.naturalWidth > 0)")
        page.locator("#gallery .sheet").first.scroll_into_view_if_needed()
        self.shot("compare")
        with page.expect_download() as download:
            page.get_by_role("link", name="Save as one picture").first.click()
        self.assertEqual(download.value.path().read_bytes()[:4], b"\x89PNG")

    def test_stopped_killed_and_resumed(self):
        page = self.page
        self.learn(steps="30")
        page.get_by_text("of memory at most").wait_for(timeout=300_000)
        page.get_by_role("button", name="Stop, and keep the work").click()
        page.get_by_role("heading", name="is not finished").wait_for()
        page.get_by_role("button", name="Go on").click()
        page.get_by_text("of memory at most").wait_for(timeout=300_000)
        self.until("document.querySelector('progress').value > 0.3", 300)
        self.studio.end(signal.SIGKILL)
        page.get_by_text("The studio does not answer.").wait_for()
        # It goes on asking, and its console tells of every time.
        page.close()
        self.expect_problems("ERR_", "Failed to load")
        self.studio = StudioProcess(self.folder / "studio", self.arguments)
        self.page = page = self.open()
        page.get_by_role("link", name="Concepts").click()
        page.get_by_role("link", name="Open").click()
        page.get_by_role("heading", name="is not finished").wait_for()
        page.get_by_role("button", name="Go on").click()
        self.wait_learned()


class Phone(Story):
    """Narrow and dark."""

    size = {"width": 375, "height": 800}
    scheme = "dark"
    suffix = "-phone"

    def fits(self, what):
        self.assertLessEqual(self.page.evaluate("document.documentElement.scrollWidth - innerWidth"), 0, what)

    def test_from_pictures_to_images(self):
        page = self.page
        for part in ("learn", "generate", "look", "concepts"):
            page.goto(page.url.split("#")[0] + "#" + part)
            page.wait_for_selector("#view section:not([hidden])")
            self.fits(part)
        page.goto(page.url.split("#")[0] + "#learn")
        page.get_by_role("button", name="ginger").click()
        self.until("document.querySelectorAll('.tile img').length == 5")
        self.fits("learn")
        self.shot("pictures")

    test_own_pictures_and_captions = test_stopped_killed_and_resumed = test_by_keyboard = None
    test_says_how_long_it_takes_before_it_begins = None


class Dark(Story):
    """The same in the dark."""

    scheme = "dark"
    suffix = "-dark"
    test_own_pictures_and_captions = test_stopped_killed_and_resumed = test_from_pictures_to_images = None
    test_says_how_long_it_takes_before_it_begins = test_by_keyboard = None


def in_single(file):
    """Makes the half-precision numbers of a safetensors file single."""
    data = file.read_bytes()
    end = 8 + struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:end])
    body = data[end:]
    numbers = struct.unpack(f"<{len(body) // 2}e", body)
    for name, entry in header.items():
        if name != "__metadata__":
            entry.update(dtype="F32", data_offsets=[2 * at for at in entry["data_offsets"]])
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write_bytes(struct.pack("<Q", len(text)) + text + struct.pack(f"<{len(numbers)}f", *numbers))


class CutShort(Learner):
    """A model's file that loses its end while the studio learns on it."""

    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="neti-model-")
        self.addCleanup(scratch.cleanup)
        self.model = Path(scratch.name) / "mini-sd"
        shutil.copytree(ROOT / "Models/mini-sd", self.model)
        # In fp32 the weights are not copied: they are read from the file in each step.
        self.weights = self.model / "unet/diffusion_pytorch_model.safetensors"
        in_single(self.weights)
        self.arguments = ("--model", str(self.model))
        super().setUp()

    def test_ends_with_one_line_and_what_it_learned(self):
        page = self.page
        self.learn(steps="60")
        page.get_by_text("of memory at most").wait_for(timeout=300_000)
        whole = self.weights.read_bytes()
        os.truncate(self.weights, len(whole) // 8)
        line = page.locator("#connection")
        line.get_by_text("The studio is closed: a part of").wait_for(timeout=120_000)
        self.assertRegex(line.inner_text(), r"diffusion_pytorch_model.safetensors is gone: .*; step \d+ of what was being learned is saved\.$")
        self.studio.process.wait(timeout=30)
        self.assertEqual(self.studio.end(), 1)
        self.assertEqual(self.studio.log.read_text().count("the studio is closed"), 1)
        page.wait_for_timeout(2000)
        self.assertIn("The studio is closed: a part of", line.inner_text())
        page.close()
        # The file is put back: it goes on from the step that was saved.
        self.weights.write_bytes(whole)
        self.studio = StudioProcess(self.folder / "studio", self.arguments)
        self.page = page = self.open()
        page.goto(page.url.split("#")[0] + "#concepts")
        page.get_by_role("link", name="Open").click()
        kept = page.get_by_text("is kept. It can go on from there").inner_text()
        self.assertGreater(int(re.search(r"Step (\d+) of 60", kept)[1]), 0)

    def test_ends_with_one_line_while_it_generates(self):
        page = self.page
        page.get_by_role("link", name="Generate").click()
        page.locator("#prompt").fill("a red mug")
        page.get_by_label("How many images").fill("16")
        page.get_by_role("button", name="Generate", exact=True).click()
        page.wait_for_selector("#forming img")
        os.truncate(self.weights, 100_000)
        page.locator("#connection").get_by_text("The studio is closed: a part of").wait_for()
        self.studio.process.wait(timeout=30)
        self.assertEqual(self.studio.end(), 1)
        self.assertIn("is gone: the file was cut short while it was read", self.studio.log.read_text())


class Password(StudioCase):
    """For others on the network."""

    def setUp(self):
        secret = tempfile.NamedTemporaryFile("w", suffix=".txt")
        self.addCleanup(secret.close)
        secret.write("open sesame\n")
        secret.flush()
        self.arguments = ("--password-file", secret.name)
        super().setUp()

    def enter(self, page):
        page.get_by_label("Password").fill("open simsim")
        page.get_by_role("button", name="Open").click()
        page.get_by_label("Password").fill("open sesame")
        page.get_by_role("button", name="Open").click()

    def test_opens_with_the_password(self):
        self.page.get_by_role("button", name="ginger").wait_for()
        self.expect_problems("401")


if __name__ == "__main__":
    unittest.main()
