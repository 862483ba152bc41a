"""The report in a real browser: at the width of a phone and of a desk, light and dark."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

import browser
from desk import desk
from snnlab.report.write import write

#: Contrast of text and what is behind it (WCAG 2.1, 1.4.3), of each kind of text that is shown.
CONTRAST = """(() => {
  const light = c => c.map(v => v / 255).map(v => v <= .03928 ? v / 12.92 :
    ((v + .055) / 1.055) ** 2.4).reduce((s, v, k) => s + v * [.2126, .7152, .0722][k], 0);
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const behind = e => { for (; e; e = e.parentElement) {
    const c = rgb(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] > 0) return c.slice(0, 3); } return [255, 255, 255]; };
  const found = {};
  const kinds = 'h1,h2,h3,p,a,li,th,td,dt,code,summary,figcaption,svg text';
  for (const e of document.querySelectorAll(kinds)) {
    if (!e.textContent.trim() || !e.checkVisibility()) continue;
    const style = getComputedStyle(e);
    const ink = e.namespaceURI.endsWith('svg') ? style.fill : style.color;
    let ground = behind(e);
    if (e.classList.contains('on')) {  // of a cell of the confusion matrix
      const cell = getComputedStyle(e.previousElementSibling), part = +cell.fillOpacity;
      ground = rgb(cell.fill).map((v, k) => v * part + ground[k] * (1 - part));
    }
    const [a, b] = [light(rgb(ink).slice(0, 3)), light(ground)];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    const kind = e.tagName + '.' + e.classList;
    found[kind] = Math.min(found[kind] ?? 99, ratio);
  }
  return found;
})()"""
#: What reaches beyond the window, but for what is hidden from the eye.
BEYOND = """[...document.querySelectorAll('body *')].filter(e => {
  const r = e.getBoundingClientRect(), c = e.closest('thead');
  return r.width && (r.right > innerWidth + 1 || r.left < -1) && !e.closest('.skip') &&
    !(c && getComputedStyle(c).position === 'absolute');
}).map(e => e.tagName + ' ' + e.textContent.slice(0, 40))"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home, out = tmp_path_factory.mktemp("desk"), tmp_path_factory.mktemp("out") / "page.html"
    write([str(path) for path in desk(home)], out, command="snnlab report " + "a" * 300)
    return out


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Page]:
    if not browser.find()[0]:
        pytest.skip("no headless Chromium: `make browser`, or set SNNLAB_BROWSER to one")
    with browser.page(tmp_path_factory.mktemp("profile")) as made:
        yield made


def test_the_page_is_readable_at_every_width_and_in_both_themes(
    window: browser.Page, report: Path, tmp_path: Path
) -> None:
    backgrounds, heights = set(), {}
    for width in (375, 1280):
        for theme in ("light", "dark"):
            window.open(report, width, theme)
            for folded in (True, False):
                if not folded:
                    window.value("document.querySelectorAll('details').forEach(d => d.open = true)")
                assert window.value("document.documentElement.scrollWidth") == width
                assert window.value(BEYOND) == []
                cell = "getComputedStyle(document.querySelector('.table:not(.pairs) td')).display"
                assert window.value(cell) == ("flex" if width == 375 else "table-cell")
                poor = {k: c for k, c in window.value(CONTRAST).items() if c < 4.5}
                assert not poor, (width, theme)
            below = "t.caption.getBoundingClientRect().top < t.tHead.getBoundingClientRect().top"
            pairs = f"[...document.querySelectorAll('.pairs table')].map(t => {below})"
            assert set(window.value(pairs)) == {True}
            backgrounds.add(window.value("getComputedStyle(document.body).backgroundColor"))
            heights[width, theme] = window.value("document.documentElement.scrollHeight")
    assert len(backgrounds) == 2
    assert heights[375, "light"] > heights[1280, "light"]
    assert window.requests() == []
    assert window.complaints() == []
    window.save(tmp_path / "page.png")
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_has_what_a_screen_reader_needs(window: browser.Page, report: Path) -> None:
    window.open(report, 1280, "light")
    window.value("document.querySelectorAll('details').forEach(d => d.open = true)")
    levels = window.value("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    ids = window.value("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(set(ids)) == len(ids)
    links = window.value("[...document.querySelectorAll('a')].map(a => a.getAttribute('href'))")
    assert {link.removeprefix("#") for link in links} <= set(ids)
    assert window.value("document.documentElement.lang") == "en"
    for without in (
        "img:not([alt]), img[alt='']", "table:not(:has(> caption))", "svg:not([aria-label])",
        "svg:not([role=img])", "th:not([scope])", "section:not([aria-labelledby])",
    ):  # fmt: skip
        assert window.value(f"document.querySelectorAll({without!r}).length") == 0, without
    shown = "[...document.images].map(i => i.complete && i.naturalWidth > 0)"
    assert window.value(shown) == [True] * 4
    assert window.value("document.querySelectorAll('svg').length") > 10
