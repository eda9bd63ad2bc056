"""The reports in a browser: legible on a screen, in dark mode, on a phone and on paper, without any request."""

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from flows.icu_features import icu_features
from flows.quality_report import quality_report
from flows.synthetic.tables import generate
from tests.browser.conftest import opened_page, shoot
from tests.prefect.server import PrefectServer

DATES = ("2024-01-01", "2024-01-02")
# A page that is mailed or kept beside its date.
MOST_BYTES = 500_000
CONTRASTS = (Path(__file__).parent / "contrasts.js").read_text()


@pytest.fixture(scope="module")
def reports(server: PrefectServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pages of two dates that differ."""
    root = tmp_path_factory.mktemp("reports")
    for seed, date in enumerate(DATES):
        generate(root / date, 60, rows=30_000, seed=seed, catalogue_share=0.6)
        icu_features(str(root / date), str(root / "store"), date, shards=1)
    quality_report(str(root / "store"), date=DATES[1], reference=DATES[0])
    folder = root / "store/icu" / DATES[1]
    return {"quality": folder / "quality.html", "drift": folder / f"drift/{DATES[0]}.html"}


def opened(page: Page, path: Path) -> list[str]:
    """Open a report; the list is of what it asks for beside itself."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    expect(page.get_by_role("region", name="Verdict")).to_be_visible()
    return asked


def letters(page: Page) -> float:
    """The smallest letters of all plots, in pixels of the screen."""
    sizes = page.evaluate(
        "[...document.querySelectorAll('svg.plot text')].map(text => parseFloat(getComputedStyle(text).fontSize)"
        " * text.ownerSVGElement.getBoundingClientRect().width / text.ownerSVGElement.viewBox.baseVal.width)"
    )
    assert len(sizes) > 100
    return float(min(sizes))


@pytest.mark.parametrize("name", ["quality", "drift"])
def test_a_report_is_legible_everywhere_and_asks_for_nothing(reports: dict[str, Path], name: str) -> None:
    path = reports[name]
    assert path.stat().st_size < MOST_BYTES
    with opened_page() as page:
        asked = opened(page, path)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            page.set_viewport_size({"width": 1400, "height": 1000})
            assert too_faint(page) == []
            assert cut_off(page) == []
            shoot(page, f"30-{name}-{scheme}")
        page.emulate_media(color_scheme="light")
        page.set_viewport_size({"width": 390, "height": 900})
        # On a phone only tables scroll sideways, and what a row is about stays in view.
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert letters(page) >= 10
        table = page.locator(".scroll").first
        table.evaluate("node => node.scrollLeft = 200")
        assert table.evaluate("node => node.scrollLeft") > 50
        left = table.bounding_box()
        head = table.locator("tbody th").first.bounding_box()
        assert left
        assert head
        assert head["x"] >= left["x"] - 1
        shoot(page, f"31-{name}-phone")
        # An A4 page of 96 dots an inch, with margins of 1 cm. A dark screen prints on white all the same.
        page.emulate_media(media="print", color_scheme="dark")
        page.set_viewport_size({"width": 718, "height": 1000})
        assert page.evaluate("document.documentElement.scrollWidth") <= 718
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert too_faint(page) == []
        assert cut_off(page) == []
        squares = page.locator(".legend svg")
        assert squares.count() >= 8
        for square in squares.all():
            assert (square.bounding_box() or {}).get("width", 0) >= 10
            assert square.evaluate("node => getComputedStyle(node).printColorAdjust") == "exact"
        shoot(page, f"32-{name}-paper")
        assert asked == [path.as_uri()]


def cut_off(page: Page) -> list[Any]:
    """The headings of tables that are wider than their place."""
    return list(
        page.evaluate(
            "[...document.querySelectorAll('.scroll')].filter(box => box.scrollWidth > box.clientWidth)"
            ".map(box => box.innerText.slice(0, 200))"
        )
    )


def too_faint(page: Page) -> list[Any]:
    """Texts under a contrast of 4.5, and graphics under 3."""
    measured = page.evaluate(CONTRASTS)
    assert len(measured["texts"]) > 300
    faint = [each for each in measured["texts"] if each[0] < 4.5]
    return faint + [each for each in measured["graphics"] if each[0] < 3]
