"""Takes the pictures of the pages of `--html` from real runs: python docs/sheets.py (with the extra `dev`, and
Chromium)."""

import base64
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from pages import Sheet, open_browser  # noqa: E402

STORY = (
    "Once upon a time there was a little girl who lived in a house near the forest. Every morning her mother gave her "
    "a theorem, and she carried it to the old captain, who counted it twice and put it in his pocket."
)


def gpt2(*arguments: str) -> None:
    command = [sys.executable, "-m", "gpt2cli", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"GPT2_MODEL": "tiny"})


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        browser = open_browser(Path(folder))

        def shoot(name: str, arguments: list[str], act: Callable[[Sheet], None], *, height: int, scheme: str) -> None:
            file = Path(folder, "sheet.html")
            gpt2(*arguments, "--html", str(file))
            page = Sheet(browser, file.as_uri())
            page.look(1120, height, scheme)
            act(page.open())
            picture = browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "optimizeForSpeed": False})
            (HERE / name).write_bytes(base64.b64decode(picture["data"]))

        def held(page: Sheet) -> None:
            page.hover(page.all(".tokens span")[21])

        try:
            shoot("score-page.png", ["score", "--alternatives", "8", STORY], held, height=620, scheme="light")
        finally:
            browser.quit()


if __name__ == "__main__":
    main()
