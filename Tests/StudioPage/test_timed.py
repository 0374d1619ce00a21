"""How long it takes a new person to get from nothing to an image, with the model that comes with neti."""
import time
import unittest

from test_story import Learner


class Timed(Learner):
    arguments = ()

    def setUp(self):
        self.start = time.monotonic()
        super().setUp()

    def test_quick_to_an_image(self):
        page = self.page
        page.get_by_role("button", name="ginger").click()
        self.until("document.querySelectorAll('.tile img').length == 5")
        page.locator("[value=quick]").check()
        page.get_by_role("button", name="Learn it").click()
        self.wait_learned()
        learned = time.monotonic() - self.start
        page.get_by_role("button", name="Generate with it").click()
        page.get_by_label("How many images").fill("1")
        page.get_by_role("button", name="Generate", exact=True).click()
        self.until("document.querySelector('#gallery .tile img')?.naturalWidth == 128", 300)
        seconds = time.monotonic() - self.start
        print(f"\nfrom the start of neti studio to a learned concept {learned:.0f} s, to an image of it {seconds:.0f} s")
        self.assertLess(seconds, 600)


if __name__ == "__main__":
    unittest.main()
