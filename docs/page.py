"""Takes the pictures of the page from a real run: python docs/page.py (with the extra `dev`, and Chromium)."""

import base64
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from pages import Page, ServerProcess, open_browser, until  # noqa: E402
from selenium.webdriver import Keys  # noqa: E402

TEXT = "The captain came home in the spring, when the ice had gone from the harbour."
WIDTH, HEIGHT = 1120, 720


def shoot(page: Page, name: str) -> None:
    picture = page.browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "optimizeForSpeed": False})
    (HERE / name).write_bytes(base64.b64decode(picture["data"]))


def seeded(page: Page, seed: int) -> None:
    page.panel("settings")
    page.find("#set-seed").clear()
    page.find("#set-seed").send_keys(str(seed), Keys.TAB)
    page.click("#close")
    page.click("#title")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = ServerProcess(Path(folder))
        server.start()
        browser = open_browser(Path(folder))
        try:
            page = Page(browser, server.url)
            page.look(WIDTH, HEIGHT, "light")
            page.open()
            seeded(page, 11)
            page.type(TEXT)
            page.go_on()
            page.type("\n\nNobody had expected him.")
            page.go_on()
            page.suggest()
            rest(page)
            shoot(page, "page-light.png")
            page.type(Keys.ESCAPE)
            page.look(WIDTH, HEIGHT, "dark")
            page.show("surprise")
            until(lambda: page.all("#overlay .top10"))
            page.caret(len(TEXT) + 20)
            page.type(Keys.ALT, Keys.ENTER)
            until(lambda: page.find("#why").is_displayed())
            rest(page)
            shoot(page, "page-dark.png")
        finally:
            browser.quit()
            server.stop()


def rest(page: Page) -> None:
    """The controls as they are when nobody types."""
    page.run("document.documentElement.classList.remove('writing')")


if __name__ == "__main__":
    main()
