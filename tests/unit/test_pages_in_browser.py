"""Reports in a real browser: no request, no message, no sideways scrolling, folds by keyboard."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browser
import packages
import pytest
from test_loop_page import AT, HOURS, of_turn, states
from test_maps import described, largest, with_map
from test_render import LOSSES, PLANNED, RUNS
from test_report import NASTY, nasty, reported
from test_status_text import metrics

from runbook.errors import ExitCode
from runbook.events.render.report import loop, page

#: Of fleets those that run are folded.
HIDDEN = "path => !path.getClientRects().length && !path.closest('.instance:not([open])')"
LONG = f"{NASTY}{'x' * 10_000}"


def looped(found: dict[str, Any], **failed: str) -> str:
    places = {host: {"map": described()} for host in found}
    return page.loop_page(loop.content("labeller3", AT, found, failed, 60, places))


FULL = of_turn(metrics=metrics(None, 0.61, None, 0.72, 0.84), hours=HOURS)
# One browser for all of them.
pytestmark = pytest.mark.xdist_group("browser")

PAGES = {
    "planned": lambda: page.page(reported(PLANNED)),
    "losses": lambda: page.page(reported(LOSSES)),
    "failed": lambda: page.page(reported(RUNS["failed"], ExitCode.INVALID, "no bucket b\nmake it")),
    "nasty": lambda: page.page(reported(nasty(LONG), ExitCode.FAILED, LONG)),
    "map": lambda: page.page(reported(with_map(described()))),
    "largest": lambda: page.page(reported(with_map(largest()))),
    "loop": lambda: looped({"labeller3": FULL}),
    "nothing": lambda: looped({"labeller3": of_turn(metrics=[])}),
    "fleet": lambda: looped({**states("mapping", "failed", "locked"), LONG: FULL}, gone=LONG),
}


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Browser]:
    if browser.program() is None:
        if os.environ.get("CI"):
            pytest.fail("there is no browser: .ci/apt installs one")
        pytest.skip("there is no browser")
    with browser.running(tmp_path_factory.mktemp("profile")) as started:
        yield started


def photographed(chromium: browser.Browser, path: Path) -> None:
    """With RUNBOOK_PICTURES=FOLDER leave pictures of a page there, for people to look at."""
    folder = os.environ.get("RUNBOOK_PICTURES")
    for width, dark in itertools.product((360, 1280, 3840) if folder else (), (False, True)):
        shown = chromium.page()
        shown.open(path, width=width, dark=dark)
        shown.picture(Path(str(folder)) / f"{path.stem}-{width}{'-dark' * dark}.png")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_in_a_browser(chromium: browser.Browser, tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.html"
    path.write_text(PAGES[name](), encoding="utf-8")
    photographed(chromium, path)
    shown = chromium.page()
    shown.open(path, width=360)
    assert shown.value("document.documentElement.scrollWidth") == 360
    # No style hides what is drawn.
    assert (
        shown.value(f"[...document.querySelectorAll('figure path')].filter({HIDDEN}).length") == 0
    )
    # Each fold is reached and opened by keys alone.
    folds = shown.value("document.querySelectorAll('details').length")
    stops = shown.value("document.querySelectorAll('summary, [tabindex]').length")
    for _ in range(stops + folds):
        shown.press("Tab")
        if shown.value("document.activeElement.matches('details:not([open]) > summary')"):
            shown.press("Enter")
    assert shown.value("document.querySelectorAll('details[open]').length") == folds
    assert shown.value("document.documentElement.scrollWidth") == 360
    assert (shown.requests, shown.said) == ([path.as_uri()], [])


#: A page of --watch has no script, so it is loaded anew each minute.
AXE = "{rules: {'meta-refresh': {enabled: false}}}"


@pytest.mark.campaign
def test_axe_finds_no_barrier(chromium: browser.Browser, tmp_path: Path) -> None:
    axe = (packages.npm("axe-core", "4.14.1") / "axe-core/axe.min.js").read_text()
    for (name, made), dark in itertools.product(PAGES.items(), (False, True)):
        path = tmp_path / f"{name}.html"
        path.write_text(made(), encoding="utf-8")
        shown = chromium.page()
        shown.open(path, width=1280, dark=dark)
        shown.value(f"{axe};0")
        found = shown.value(
            f"axe.run({AXE}).then(done => done.violations.map(each => "
            "`${each.id}: ${each.nodes.map(node => node.html.slice(0, 200))}`))"
        )
        assert found == [], (name, dark)


def in_print(found: str) -> str:
    return f"getComputedStyle(document.querySelector('{found}'))"


@pytest.mark.parametrize("name", ["planned", "map", "loop", "fleet"])
def test_a_page_on_paper(chromium: browser.Browser, tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.html"
    path.write_text(PAGES[name](), encoding="utf-8")
    shown = chromium.page()
    shown.open(path, width=1280, dark=True)
    # What each closed fold holds is in print, whole.
    folds = shown.value(
        "[...document.querySelectorAll('details:not([open])')].map(fold => {"
        "const found = fold.cloneNode(true);"
        "found.querySelectorAll('summary, svg').forEach(each => each.remove());"
        "return found.textContent })"
    )
    pdf = shown.printed()
    text = browser.text_of(pdf)
    assert len(folds) >= 1
    for fold in folds:
        for word in re.findall(r"[A-Za-z0-9.]{3,40}", fold):
            assert word in text, word
    # Light, whatever the screen is, and nothing in a box that scrolls: no page break divides it.
    shown.call(
        "Emulation.setEmulatedMedia", media="print",
        features=[{"name": "prefers-color-scheme", "value": "dark"}],
    )  # fmt: skip
    assert shown.value(f"{in_print('body')}.backgroundColor") == "rgb(255, 255, 255)"
    assert shown.value(f"{in_print('body')}.color") == "rgb(28, 32, 36)"
    assert shown.value(f"{in_print(':root')}.colorScheme") == "light"
    scrolling = "each => getComputedStyle(each).overflowX != 'visible'"
    assert (
        shown.value(
            f"[...document.querySelectorAll('main *')].filter({scrolling}).filter(each => each.localName != 'svg').length"
        )
        == 0
    )


@pytest.mark.parametrize("dark", [False, True])
def test_colours_follow_the_readers_scheme(
    chromium: browser.Browser, tmp_path: Path, dark: bool
) -> None:
    path = tmp_path / "page.html"
    path.write_text(PAGES["loop"](), encoding="utf-8")
    shown = chromium.page()
    shown.open(path, width=1280, dark=dark)
    ground = shown.value("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(20, 23, 26)" if dark else "rgb(251, 251, 249)")


def test_a_browser_would_report_a_request_and_a_script(
    chromium: browser.Browser, tmp_path: Path
) -> None:
    path = tmp_path / "page.html"
    made = PAGES["planned"]().replace("</main>", '<img src="x.png"><script>1</script></main>')
    path.write_text(made, encoding="utf-8")
    shown = chromium.page()
    shown.open(path, width=360)
    assert any("violates" in said and "img-src" in said for said in shown.said)
    assert any("violates" in said and "script-src" in said for said in shown.said)
