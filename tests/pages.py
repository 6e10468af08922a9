"""The page of `gpt2 serve`, and pages in files, in a real browser: Chromium without a window, driven by selenium."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ARGUMENTS = "--headless=new --no-sandbox --disable-dev-shm-usage --disable-gpu --disable-background-networking"
PATIENCE = 40  # seconds after which what is awaited is given up


def until(condition, what="what was awaited"):
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end, f"{what} never came"
        time.sleep(0.02)
    return found


class ServerProcess:
    """`gpt2 serve` as its users start it; it may be ended and started again at the same address."""

    def __init__(self, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._folder = folder

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/"

    def start(self, model="tiny", *more):
        names = {"GPT2_CACHE": self._folder / "cache", "HF_HOME": self._folder / "hf", "GPT2_THREADS": 1}
        own = {name: value for name, value in os.environ.items() if not name.startswith(("GPT2_", "HF_"))}
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gpt2cli", "serve", "-m", str(model), "--port", str(self.port), *more],
                env=own | {name: str(value) for name, value in names.items()},
                stdin=subprocess.DEVNULL,
                stderr=log,
            )
        until(self._answers, "the server")

    def _answers(self):
        assert self._process.poll() is None, (self._folder / "log").read_text()
        try:
            with urllib.request.urlopen(f"{self.url}health") as response:
                return response.status == 200
        except OSError:
            return False

    def stop(self):
        self._process.kill()
        self._process.wait()


def open_browser(downloads):
    selenium = pytest.importorskip("selenium.webdriver", reason="needs selenium (the extra dev)")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not program or not driver:
        pytest.skip("needs chromium and chromedriver (Debian: apt-get install chromium chromium-driver)")
    options = selenium.ChromeOptions()
    options.binary_location = program
    for argument in [*ARGUMENTS.split(), "--no-first-run"]:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    return selenium.Chrome(options=options, service=selenium.ChromeService(driver))


class Page:
    """One tab, as its reader uses it."""

    def __init__(self, browser, url, downloads=None):
        self.browser, self.url, self.downloads = browser, url, downloads
        self.tab = browser.current_window_handle

    def open(self, url=None):
        self.browser.get(url or self.url)
        self.ready()
        return self

    def ready(self):
        ready = "const d = document.documentElement.dataset; return d.ready === 'yes' && d.server === 'ready'"
        until(lambda: self.run(ready), "the page")

    def reload(self):
        self.browser.refresh()
        self.ready()

    def look(self, width=1024, height=768, scheme="light"):
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        features = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": name, "value": value} for name, value in features.items()]},
        )

    def run(self, script, *arguments):
        return self.browser.execute_script(script, *arguments)

    def find(self, selector):
        return self.browser.find_element("css selector", selector)

    def all(self, selector):
        return self.browser.find_elements("css selector", selector)

    def click(self, selector):
        until(lambda: self.all(selector), selector)
        self.find(selector).click()

    @property
    def text(self):
        return self.run("return document.getElementById('text').value")

    @property
    def status(self):
        return self.find("#status").text

    def keys(self, *keys):
        """To whatever has the focus."""
        self.browser.switch_to.active_element.send_keys(*keys)

    def type(self, *keys):
        self.find("#text").send_keys(*keys)

    def paste(self, text):
        self.run(
            "const field = document.getElementById('text'), data = new DataTransfer();"
            "data.setData('text/plain', arguments[0]); field.focus(); field.dispatchEvent("
            "new ClipboardEvent('paste', {clipboardData: data, bubbles: true, cancelable: true}))",
            text,
        )

    def caret(self, place):
        focus = "const text = document.getElementById('text'); text.focus();"
        self.run(f"{focus} text.setSelectionRange(arguments[0], arguments[0])", place)

    @property
    def busy(self):
        return self.find("#text").get_attribute("aria-busy") == "true"

    @property
    def length(self):
        return self.run("return document.getElementById('text').value.length")

    def begin(self):
        """Lets the model write; asks again where it ends the text at once, as it may after any sentence."""
        from selenium.webdriver import Keys

        before = self.length

        def begun():
            if not self.busy and self.length == before:
                self.type(Keys.CONTROL, Keys.ENTER)
            return self.length > before

        until(begun, "the model's text")

    def go_on(self):
        """Lets the model write, and returns what it wrote."""
        before = self.text
        self.begin()
        until(lambda: not self.busy, "the text's end")
        assert self.text.startswith(before)
        return self.text[len(before) :]

    def suggest(self):
        """The three continuations, as soon as they are complete."""
        from selenium.webdriver import Keys

        self.type(Keys.TAB)
        until(lambda: self.run("return document.getElementById('suggestions').ariaBusy !== 'true'"), "continuations")
        return [option.text for option in self.all("[role=option]")]

    def show(self, kind):
        """Plain text, who wrote it, or surprise."""
        self.find(f"#marks option[value={kind}]").click()

    def panel(self, name):
        if not self.find(f"#{name}").is_displayed():
            self.click(f"#open-{name}")
        return self.find(f"#{name}")

    def set(self, name, value=None):
        """A setting; without a value it is a box that is ticked."""
        from selenium.webdriver import Keys

        field = self.panel("settings").find_element("css selector", f"#set-{name}")
        if value is None:
            if not field.is_selected():
                field.click()
        else:
            field.clear()
            field.send_keys(value, Keys.TAB)

    def set_endless(self):
        """Texts that last until they are stopped."""
        self.set("max_tokens", "900")
        self.set("ignore_eos")

    def export(self, ending):
        self.panel("file")
        old = set(self.downloads.iterdir())
        self.click(f"#export-{ending}")

        def fresh():
            return [path for path in set(self.downloads.iterdir()) - old if path.suffix == f".{ending}"]

        return until(fresh, "the file")[0].read_text(encoding="utf-8")

    def take_in(self, path: Path):
        before = self.run("return location.hash")
        self.panel("file").find_element("css selector", "#import").send_keys(str(path))
        until(lambda: self.run("return location.hash") != before, "the imported text")

    def saved(self):
        """Waits until nothing lies unsaved beside the database."""
        rest = "return Object.keys(localStorage).filter(key => key.startsWith('gpt2.unsaved.')).length"
        until(lambda: self.run(rest) == 0, "the end of saving")

    def violations(self):
        """What axe-core, which has been run in the page, finds."""
        run = "const done = arguments[0]; axe.run({resultTypes: ['violations']}).then(found => done(found.violations))"
        found = self.browser.execute_async_script(run)
        return [(one["id"], [node["html"][:200] for node in one["nodes"]]) for one in found]

    def complaints(self):
        """What the browser's console holds against the page."""
        return [entry["message"] for entry in self.browser.get_log("browser") if entry["level"] == "SEVERE"]


class Sheet(Page):
    """A page in a file, which needs no server."""

    def ready(self):
        until(lambda: self.run("return document.documentElement.dataset.ready === 'yes'"), "the page")

    def hover(self, node):
        from selenium.webdriver import ActionChains

        ActionChains(self.browser).move_to_element(node).perform()

    @property
    def now(self):
        """The current token, and what is told of it."""
        return self.find(".now").text, self.find(".details").text

    @property
    def loaded(self):
        """What it has asked for."""
        return self.run("return performance.getEntriesByType('resource').map(one => one.name)")


# Fixtures: a server process and a browser for all tests of the page; a tab of its own, and an empty browser, for each.


@pytest.fixture(scope="session")
def page_server(tmp_path_factory):
    server = ServerProcess(tmp_path_factory.mktemp("page"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def downloads(tmp_path_factory):
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="session")
def browser(downloads):
    browser = open_browser(downloads)
    yield browser
    browser.quit()


@pytest.fixture(scope="session")
def axe(tmp_path_factory):
    """axe-core, which looks for what people with disabilities stumble over."""
    npm = shutil.which("npm")
    if not npm:
        pytest.skip("needs npm, which fetches axe-core")
    folder = tmp_path_factory.mktemp("axe")
    done = subprocess.run(
        [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder), "axe-core@4"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.returncode:
        pytest.skip(f"npm cannot fetch axe-core: {done.stderr.strip().splitlines()[-1]}")
    return (folder / "node_modules/axe-core/axe.min.js").read_text(encoding="utf-8")


@pytest.fixture
def tab(browser):
    """The browser, with a fresh tab alone."""
    old = browser.window_handles
    browser.switch_to.new_window("tab")
    fresh = browser.current_window_handle
    for tab in old:
        browser.switch_to.window(tab)
        browser.close()
    browser.switch_to.window(fresh)
    browser.get_log("browser")
    return browser


@pytest.fixture
def page(tab, page_server, downloads):
    """The page, with nothing written yet."""
    everything = {"origin": page_server.url.rstrip("/"), "storageTypes": "all"}
    tab.execute_cdp_cmd("Storage.clearDataForOrigin", everything)
    page = Page(tab, page_server.url, downloads)
    page.look()
    page.open()
    yield page
    assert page.complaints() == []


@pytest.fixture
def sheet(tab, tmp_path):
    """sheet(text): a page that is a file; it has asked for nothing, and its browser holds nothing against it."""
    opened = []

    def call(text):
        file = tmp_path / "sheet.html"
        file.write_text(text, encoding="utf-8")
        opened.append(Sheet(tab, file.as_uri()))
        opened[-1].look()
        return opened[-1].open()

    yield call
    assert [(one.loaded, one.complaints()) for one in opened] == [([], [])] * len(opened)
