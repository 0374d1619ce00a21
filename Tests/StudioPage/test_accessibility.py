"""What axe-core finds on the page against WCAG 2.2, A and AA: names, roles, contrast, structure, sizes of targets."""
import unittest

from axe_playwright_python.sync_playwright import Axe
from test_story import Learner

RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}}
LOOKS = {
    "light": ("light", {"width": 1180, "height": 860}),
    "light, on a phone": ("light", {"width": 375, "height": 800}),
    "dark": ("dark", {"width": 1180, "height": 860}),
    "dark, on a phone": ("dark", {"width": 375, "height": 800}),
}


class Accessibility(Learner):
    def looks(self):
        """Shows the page in each look, with everything open that can be opened."""
        for name, (scheme, size) in LOOKS.items():
            self.page.emulate_media(color_scheme=scheme)
            self.page.set_viewport_size(size)
            self.page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true })")
            yield name

    def check(self, what):
        with self.subTest(what):
            # It comes in by the browser's tools, which the page's policy against foreign scripts leaves alone.
            found = Axe().run(self.page, options=RULES).response
            self.assertEqual([(v["id"], n["html"], n["failureSummary"]) for v in found["violations"] for n in v["nodes"]], [])
            # Nothing can be said against a page without contents.
            self.assertLessEqual({"button-name", "color-contrast"}, {v["id"] for v in found["passes"]})
            self.assertLessEqual(self.page.evaluate("document.documentElement.scrollWidth - innerWidth"), 0)

    def audit(self, what):
        for look in self.looks():
            self.check(f"{what}, {look}")

    def go(self, view, shown):
        self.page.evaluate("hash => { location.hash = hash }", view)
        self.page.locator(shown).first.wait_for()

    def test_views(self):
        page = self.page
        self.audit("an empty studio")
        page.get_by_role("button", name="ginger").click()
        self.until("document.querySelectorAll('.tile img').length == 5")
        self.until("[...document.querySelectorAll('.tile img')].every(i => i.naturalWidth == 128)")
        self.audit("pictures")
        page.get_by_role("button", name="Square of picture 1").click()
        self.until("document.querySelector('.stage img').naturalWidth > 0")
        for look in self.looks():
            box = page.locator(".frame").bounding_box()
            page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
            page.mouse.down()
            page.mouse.move(box["x"] + box["width"] / 2 + 9, box["y"] + box["height"] / 2 + 9)
            self.check(f"a picture's square while it is dragged, {look}")
            page.mouse.up()
        page.keyboard.press("Escape")
        self.until("!document.querySelector('dialog')")
        page.get_by_label("Training steps").fill("400")
        page.get_by_role("button", name="Learn it").click()
        page.get_by_text("of memory at most").wait_for(timeout=300_000)
        self.audit("learning")
        # It was running all the time.
        page.get_by_role("button", name="Stop, and keep the work").click()
        page.get_by_role("heading", name="is not finished").wait_for(timeout=300_000)
        self.audit("stopped")
        self.go("learn/new", "#choose")
        self.learn("jay", "2")
        self.wait_learned()
        self.audit("learned")
        page.get_by_role("button", name="Look inside").click()
        page.locator("#which").wait_for()
        self.audit("look inside")
        self.go("concepts", ".card")
        [learned] = (self.folder / "studio/concepts").glob("*/*/concept.safetensors")
        page.locator("input[type=file]").set_input_files(str(learned))
        page.get_by_text("from a file, for").wait_for()
        self.go("generate", "#prompt")
        page.locator("#prompt").fill("")
        for n in (0, 1):
            page.locator(".chip").nth(n).click()
        page.get_by_role("separator").wait_for()
        page.get_by_label("How many images").fill("1")
        page.get_by_role("button", name="Generate", exact=True).click()
        self.until("document.querySelectorAll('#gallery .tile img').length == 1", 300)
        self.audit("generate")
        self.go("concepts", ".card")
        page.get_by_role("row", name="mini-sd").get_by_text("U-Net").wait_for()
        self.audit("concepts and models")
        page.get_by_role("button", name="Delete").first.click()
        page.get_by_role("button", name="Undo").wait_for()
        self.audit("a message")


if __name__ == "__main__":
    unittest.main()
