"""One file that asks nothing of any server and lets nobody else write in it."""

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from loadtest.report.document import Document
from loadtest.report.html import to_html
from loadtest.report.report import report
from loadtest.results import Flag
from tests.unit.loadtest.report.findings import engine, run_with

pytestmark = pytest.mark.slow

HOSTILE = "503 </td><script>alert('x')</script> \"quoted\" & `code` {{ 7 * 7 }} <img src=http://evil.example/x>"
CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="module")
def document() -> Document:
    """An invalid run with failures whose texts are an attack."""
    flag = Flag(kind="client", severity="invalid", fact=f"late: {HOSTILE}", hint=HOSTILE)
    run = run_with(engine(replica=HOSTILE), rate=6, failed=8, flags=[flag])
    run.total.counts.errors = {HOSTILE: 8}
    run.environment.host = {"cpu": HOSTILE}
    run.environment.models[0].options = {"served_model_name": HOSTILE}
    return report([run])


@pytest.fixture(scope="module")
def page(document: Document) -> str:
    return to_html(document)


class Elements(HTMLParser):
    """Every tag with its attributes, and all text outside of style."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_nothing_is_fetched(page: str) -> None:
    for tag, attributes in Elements(page).tags:
        assert tag not in {"script", "img", "iframe", "object", "embed"}
        for name in ("src", "href", "xlink:href", "data", "action"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
    assert not re.search(r"@import|url\((?!#)", page)
    assert "default-src 'none'" in page


def test_hostile_texts_are_text(page: str) -> None:
    elements = Elements(page)

    assert HOSTILE in elements.text
    assert "49" not in re.findall(r"\{\{.{0,9}\}\}", page)
    assert "<script" not in page
    assert "onerror" not in page


def test_the_reasons_for_invalid_stand_at_the_top(page: str) -> None:
    text = Elements(page).text

    assert text.index("INVALID") < text.index("Key numbers")
    assert "INVALID: these numbers say nothing about the server" in text


def test_every_section_can_be_reached_from_the_top(page: str) -> None:
    elements = Elements(page)
    ids = {attributes["id"] for tag, attributes in elements.tags if tag == "section"}
    links = {(attributes["href"] or "").removeprefix("#") for tag, attributes in elements.tags if tag == "a"}

    assert ids == links
    assert {"key-numbers", "errors", "flags", "time-line", "how-to-repeat-it"} <= ids


def test_tags_are_balanced(page: str) -> None:
    for tag in ("div", "table", "tr", "td", "th", "section", "figure", "details", "ul", "ol", "li", "dl"):
        assert len(re.findall(rf"<{tag}[ >]", page)) == page.count(f"</{tag}>"), tag


def test_commands_in_advice_are_code(page: str) -> None:
    assert "<code>vllmstack logs</code>" in page or "<code>vllmstack status</code>" in page or "timed out" in page


@pytest.mark.skipif(not CHROMIUM.is_file(), reason="/usr/bin/chromium is not installed")
def test_a_browser_shows_it_wide_and_narrow_without_a_request(page: str, tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    file = tmp_path / "report.html"
    file.write_text(page, encoding="utf-8")
    asked: list[str] = []
    said: list[str] = []
    with playwright.sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1400, "height": 900})
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("console", lambda message: said.append(message.text))
        tab.goto(file.as_uri())
        for width in (1400, 800, 420):
            tab.set_viewport_size({"width": width, "height": 900})
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
            shown = tab.evaluate("[...document.querySelectorAll('figure svg')].filter(s => s.clientWidth).length")
            assert shown == tab.locator("figure").count() > 6
        browser.close()
    assert asked == [file.as_uri()]
    assert said == []


def test_the_templates_are_where_they_are_looked_for() -> None:
    assert shutil.which("python3")
    assert (Path(to_html.__code__.co_filename).parent / "templates" / "style.css").is_file()
