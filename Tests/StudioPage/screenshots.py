"""Pictures of the page for the documentation, of a concept that is learned quickly, and of the next.

    .venv-studio/bin/python Tests/StudioPage/screenshots.py docs/images

Writes studio-concepts.png, studio-dark.png and studio-phone.png. The others of docs/studio.md are those that the tests
take with NETI_SCREENSHOTS.
"""
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from studio import CHROMIUM, StudioProcess

WIDE, PHONE = {"width": 1180, "height": 860}, {"width": 375, "height": 800}
MINUTES = 60_000


def look(page, scheme, size):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size(size)


def start(page, address):
    page.goto(address)
    page.locator("#view section:not([hidden])").first.wait_for()


def go(page, part, shown):
    page.evaluate("part => { location.hash = part }", part)
    page.locator(shown).first.wait_for()


def learn(page, example):
    go(page, "learn/new", "#choose")
    page.get_by_role("button", name=example).click()
    page.locator(".tile img").nth(4).wait_for()
    page.locator("[value=quick]").check()
    page.get_by_role("button", name="Learn it").click()


def main():
    [to] = sys.argv[1:] or ["."]
    to = Path(to)
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        studio = StudioProcess(Path(scratch) / "studio")
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            # A phone has more points in a pixel.
            page = browser.new_context(viewport=PHONE, device_scale_factor=2, reduced_motion="reduce").new_page()
            start(page, studio.address)
            learn(page, "ginger")
            page.get_by_text("After 60 steps").wait_for(timeout=60 * MINUTES)
            look(page, "dark", PHONE)
            page.evaluate("scrollTo(0, 0)")
            page.screenshot(path=to / "studio-phone.png")
            page.get_by_role("heading", name="is learned").wait_for(timeout=60 * MINUTES)
            page.close()
            page = browser.new_context(viewport=WIDE, reduced_motion="reduce").new_page()
            start(page, studio.address)
            learn(page, "jay")
            page.get_by_text("You can close this page").wait_for(timeout=60 * MINUTES)
            look(page, "dark", WIDE)
            go(page, "generate", "#prompt")
            page.locator("#prompt").fill("a photo of a {ginger} on a beach")
            page.get_by_role("button", name="Generate", exact=True).click()
            page.locator("#gallery .tile img").nth(3).wait_for(timeout=60 * MINUTES)
            page.locator("#forming").wait_for(state="hidden")
            page.evaluate("scrollTo(0, 0)")
            page.screenshot(path=to / "studio-dark.png")
            look(page, "light", WIDE)
            go(page, "concepts", ".card")
            page.get_by_role("row", name="mini-sd").get_by_text("U-Net").wait_for()
            page.screenshot(path=to / "studio-concepts.png", full_page=True)
        finally:
            browser.close()
            studio.end()


if __name__ == "__main__":
    main()
