"""The documentation site, read from its folder: no server, no request to the network, on a desk and on a phone."""

import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
from playwright.sync_api import Page, expect

import clinops_prefect
from clinops_prefect import tasks
from tests.browser.conftest import opened_page, shoot

ROOT = Path(__file__).parents[2]
WIDTHS = [1400, 390]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it: any warning of MkDocs ends the build."""
    built = tmp_path_factory.mktemp("documentation") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(built)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return built


@pytest.fixture
def page() -> Iterator[Page]:
    with opened_page() as opened:
        yield opened


class _Links(HTMLParser):
    """What a page refers to, and what can be referred to in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.targets: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids |= {value for name in ("id", "name") if (value := given.get(name))}
        if tag == "a" and (target := given.get("href")):
            self.targets.append(target)
        for name in ("src", "href"):
            if tag != "a" and (target := given.get(name)):
                self.loaded.append(target)


def test_every_link_leads_somewhere_and_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    pages = {path: _Links(path.read_text(encoding="utf-8")) for path in site.rglob("*.html") if path.name != "404.html"}
    assert len(pages) > 10
    broken = []
    for path, links in pages.items():
        for target in links.targets + links.loaded:
            where, anchor = urldefrag(target)
            if "://" in where or where.startswith(("mailto:", "data:")):
                if target in links.loaded:
                    broken.append((path.name, target))
                continue
            found = (path.parent / unquote(where)).resolve() if where else path
            if not found.is_file() or (anchor and found in pages and unquote(anchor) not in pages[found].ids):
                broken.append((str(path.relative_to(site)), target))
    assert broken == []


def test_the_reference_has_every_public_name(site: Path) -> None:
    pages = [_Links(path.read_text(encoding="utf-8")).ids for path in (site / "reference").glob("*.html")]
    ids = set[str]().union(*pages)
    # The tasks of async code stand with the others.
    tasks_of_async_code = {name for name in tasks.__all__ if name.startswith("a") and name[1:] in tasks.__all__}
    tasks_of_async_code.add("await_for_step_functions_execution")
    names = {f"clinops_prefect.{name}" for name in clinops_prefect.__all__}
    names |= {f"clinops_prefect.tasks.{name}" for name in set(tasks.__all__) - tasks_of_async_code}
    assert {
        name for name in names if name not in ids and name.replace("prefect.", "prefect.errors.") not in ids
    } == set()


@pytest.mark.parametrize("width", WIDTHS)
def test_pages_fit_and_ask_the_network_for_nothing(site: Path, page: Page, width: int) -> None:
    asked: list[str] = []
    problems: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.set_viewport_size({"width": width, "height": 900})
    wide = []
    for path in sorted(site.rglob("*.html")):
        # Links of the page that stands in for a missing one begin at the site's address, which a folder has not.
        if path.name == "404.html":
            continue
        page.goto(path.as_uri())
        if page.evaluate("document.documentElement.scrollWidth") > width:
            wide.append(str(path.relative_to(site)))
    assert wide == []
    assert problems == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    page.goto((site / "index.html").as_uri())
    shoot(page, f"documentation-{width}")


@pytest.mark.parametrize("width", WIDTHS)
def test_the_search_works_from_the_folder(site: Path, page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.goto((site / "index.html").as_uri())
    page.click("input.md-search__input" if width > 1000 else "label.md-header__button[for=__search]")
    page.type("input.md-search__input", "from_definition")
    # While the word is typed, the results are those of its first letters.
    expect(page.locator(".md-search-result__link").first).to_have_attribute("href", re.compile("step-functions"))
    shoot(page, f"documentation-search-{width}")


def test_it_is_dark_where_the_system_is(site: Path, page: Page) -> None:
    page.emulate_media(color_scheme="dark")
    page.goto((site / "index.html").as_uri())
    expect(page.locator("body")).to_have_attribute("data-md-color-scheme", "slate")
    # The color may change by and by.
    page.wait_for_function("Math.max(...getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g)) < 80")
    shoot(page, "documentation-dark")
