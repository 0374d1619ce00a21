"""Settings of images and of learning: typed, refused, and back from a file."""
import struct
import subprocess
import unittest
import zlib

from studio import NETI, ROOT
from test_story import Learner, Story


def png(texts, width=128, height=128):
    """A black PNG whose text chunks say how it was made."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
            + b"".join(chunk(b"tEXt", key.encode() + b"\0" + value.encode()) for key, value in texts.items())
            + chunk(b"IDAT", zlib.compress(bytes((width + 1) * height))) + chunk(b"IEND", b""))


class Settings(Learner):
    def go(self, part):
        self.page.evaluate("hash => { location.hash = hash }", part)
        self.page.wait_for_selector("#view section:not([hidden])")

    def sides(self):
        return [self.page.get_by_label(f"{side}, in pixels").input_value() for side in ("Width", "Height")]

    def generate(self, prompt, width, height):
        page = self.page
        page.locator("#prompt").fill(prompt)
        page.get_by_label("How many images").fill("1")
        page.get_by_role("spinbutton", name="Denoising steps").fill("2")
        page.get_by_label("Width, in pixels").fill(width)
        page.get_by_label("Height, in pixels").fill(height)
        page.get_by_role("button", name="Generate", exact=True).click()

    def said(self, words):
        self.page.locator("#toast").get_by_text(words).wait_for()

    def test_size(self):
        page = self.page
        self.go("generate")
        page.get_by_text("More", exact=True).click()
        self.assertEqual(self.sides(), ["128", "128"])
        for width, height, words in (
            ("100", "128", "The width is 100: a multiple of 8 from 64 to 512 pixels."),
            ("128", "4096", "The height is 4096: a multiple of 8 from 64 to 512 pixels."),
            ("-8", "128", "The width is -8: a multiple of 8 from 64 to 512 pixels."),
        ):
            self.generate("a red mug", width, height)
            self.said(words)
        self.expect_problems("422")
        self.generate("a red mug", "192", "64")
        self.until("document.querySelector('#gallery .tile img')?.naturalWidth == 192", 300)
        self.assertEqual(page.evaluate("document.querySelector('#gallery .tile img').naturalHeight"), 64)
        # Of a table, every image.
        page.get_by_text("Compare in a table").click()
        page.get_by_label("Columns change").select_option("seed")
        page.get_by_label("Its values").first.fill("1, 2")
        page.get_by_role("button", name="Make the table").click()
        self.until("document.querySelectorAll('#gallery td img').length == 2", 300)
        self.until("[...document.querySelectorAll('#gallery td img')].every(i => i.naturalWidth == 192 && i.naturalHeight == 64)")
        # Back from the page's image, and from one of the command line, whichever part of the page is shown.
        address = page.evaluate("document.querySelector('#gallery .tile:not(.wide) img').src")
        mine = page.context.request.get(address).body()
        out = self.folder / "out"
        subprocess.run([NETI, "generate", "--prompt", "a blue mug", "--width", "64", "--height", "128", "--steps", "1",
                        "--output", str(out)], check=True, capture_output=True)
        [theirs] = [f for f in out.rglob("*.png") if f.name != "sheet.png"]
        for part, data, prompt, size in (("concepts", mine, "a red mug", ["192", "64"]),
                                         ("look", theirs.read_bytes(), "a blue mug", ["64", "128"]),
                                         ("generate", mine, "a red mug", ["192", "64"])):
            self.go(part)
            self.drop(".view", ("image.png", data))
            self.said("The settings of this image are back.")
            self.until(f"document.getElementById('prompt')?.value == '{prompt}'")
            self.assertTrue(page.url.endswith("#generate"))
            self.assertEqual(self.sides(), size)
        # One that this model does not make is told.
        self.drop("footer", ("large.png", png({"prompt": "a mug"}, 1024, 100)))
        self.said("The settings of this image are back; not these: the size, 1024 × 100.")
        self.assertEqual(self.sides(), ["128", "128"])

    def test_concepts_that_are_gone(self):
        page = self.page
        self.go("generate")
        for texts, words, prompt in (
            ({"prompt": "a {ginger} by a {jay}", "names": "ginger jay", "concept": "<ginger> <jay>"},
             "The settings are back, but these concepts are not here: ginger, jay.", "a {ginger} by a {jay}"),
            ({"prompt": "a {}", "concept": "<toy>"}, "The settings are back, but the concept toy is not here.", "a {toy}"),
            ({"prompt": "a {}", "concept": "<toy>", "image": "photo.jpg", "crop": "1,2"},
             "the concept toy is not here; not these: the photo, crop.", "a {toy}"),
            ({"prompt": "a mug"}, "The settings of this image are back.", "a mug"),
        ):
            self.drop("h1", ("image.png", png(texts)))
            self.said(words)
            self.assertEqual(page.locator("#prompt").input_value(), prompt)
        # What is no image of neti says so; of several files the first is read.
        self.drop("main", ("photo.png", png({})))
        self.said("it is no image of neti.")
        self.drop("main", ("photo.jpg", (ROOT / "Examples/jay/1.jpg").read_bytes()))
        self.said("not a PNG file")
        self.expect_problems("422", "400")
        self.drop("main", ("a.png", png({"prompt": "one"})), ("b.png", png({"prompt": "two"})))
        self.said("Of 2 files only a.png was read. The settings of this image are back.")
        self.assertEqual(page.locator("#prompt").input_value(), "one")

    def test_learning_with_other_settings(self):
        page = self.page
        page.get_by_role("button", name="ginger").click()
        self.until("document.querySelectorAll('.tile img').length == 5")
        page.get_by_text("More", exact=True).click()
        # mini-sd's own are shown.
        page.get_by_text("Batch: images at a time; 2 when left empty").wait_for()
        page.get_by_text("Vectors: words that it takes in a prompt; 1 when left empty").wait_for()
        page.get_by_text("The rest is as the model likes it: 128 × 128 pixels, 4 batches a step.").wait_for()
        rate = page.get_by_label("Learning rate")
        usual = page.get_by_text("Learning rate;").inner_text()
        page.get_by_label("Training steps").fill("2")
        learn = page.get_by_role("button", name="Learn it")
        # Refused in the words of the command line.
        for field, value, words in (
            ("Learning rate", "0", "optim.learning_rate"), ("Learning rate", "-1", "optim.learning_rate"),
            ("Batch", "0", "optim.train_batch_size"), ("Batch", "5000", "optim.train_batch_size"),
            ("Vectors", "17", "--vectors 17: from 1 to 16 vectors can stand for a concept"),
            ("Batch", "1.5", "The batch must be a whole number."),
        ):
            page.get_by_label(field).fill(value)
            learn.click()
            self.said(words)
            page.get_by_label(field).fill("")
        self.expect_problems("422")
        page.get_by_label("Representation").select_option("xti")
        self.assertNotEqual(page.get_by_text("Learning rate;").inner_text(), usual)
        page.get_by_text("How long it takes with these settings").wait_for()
        rate.fill("0.004")
        page.get_by_label("Batch").fill("3")
        page.get_by_label("Vectors").fill("2")
        self.shot("more", whole=True)
        learn.click()
        self.wait_learned()
        page.get_by_text("The same on the command line").click()
        line = page.locator("code").inner_text()
        self.assertIn(" --representation xti --vectors 2 --optim.learning_rate 0.004 --optim.scale_lr false "
                      "--optim.train_batch_size 3 ", line)
        with page.expect_download() as download:
            page.evaluate("id => { location.href = `/api/concepts/${id}/file` }", page.url.split("/")[-1])
        Story.same_as_command(self, line, download.value.path())


if __name__ == "__main__":
    unittest.main()
