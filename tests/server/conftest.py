"""A server process and a browser for all tests of the page; a tab of its own, and an empty browser, for each."""

import pytest
from pages import Page, ServerProcess, open_browser


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


@pytest.fixture
def page(browser, page_server, downloads):
    """The page, with nothing written yet."""
    old = browser.window_handles
    browser.switch_to.new_window("tab")
    fresh = browser.current_window_handle
    for tab in old:
        browser.switch_to.window(tab)
        browser.close()
    browser.switch_to.window(fresh)
    everything = {"origin": page_server.url.rstrip("/"), "storageTypes": "all"}
    browser.execute_cdp_cmd("Storage.clearDataForOrigin", everything)
    browser.get_log("browser")
    page = Page(browser, page_server.url, downloads)
    page.look()
    page.open()
    yield page
    assert page.complaints() == []
