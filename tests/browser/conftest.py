"""A real browser that reaches nobody: Debian's chromium, headless, with a profile of its own that is thrown away."""

import shutil

import pytest
from playwright.sync_api import sync_playwright

from fsm_miner.forensics.page import render
from tests.support.forensic_cases import CASES
from tests.support.needs import lacking

# Besides what playwright itself turns off. No name resolves: what the page might ask for, it would not get.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",
]


@pytest.fixture(scope="module")
def browser():
    """Start the browser for one file: while it is there, playwright keeps an event loop running in this thread."""
    path = shutil.which("chromium")
    if path is None:
        lacking("chromium is missing: apt install chromium")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield found
        found.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Return the file of a case's page."""
    folder = tmp_path_factory.mktemp("pages")
    written = {}

    def page_of(name):
        if name not in written:
            written[name] = folder / f"{name}.html"
            written[name].write_text(render(CASES[name]()), encoding="utf-8")
        return written[name]

    return page_of


class Opened:
    """A page in the browser, and everything that it asked for or complained about."""

    def __init__(self, page, path):
        self.page = page
        self.url = path.as_uri()
        self.requests = []
        self.complaints = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        page.goto(self.url)

    def ask(self, script, argument=None):
        return self.page.evaluate(script, argument)

    def show(self, width, scheme="light", media="screen"):
        # Low, as painting is what costs: everything is laid out all the same.
        self.page.set_viewport_size({"width": width, "height": 300})
        self.page.emulate_media(color_scheme=scheme, media=media)


@pytest.fixture(scope="module")
def opened(browser, pages):
    """Open a case's page, once: the tests only look at it, in whatever width and colours they ask for."""
    context = browser.new_context()
    found = {}

    def open_page(name):
        if name not in found:
            found[name] = Opened(context.new_page(), pages(name))
        found[name].show(1280)
        return found[name]

    yield open_page
    context.close()
    # Whatever the tests did to it, no page asked for anything but itself, or complained.
    assert {name: (page.requests, page.complaints) for name, page in found.items()} == {
        name: ([page.url], []) for name, page in found.items()
    }
