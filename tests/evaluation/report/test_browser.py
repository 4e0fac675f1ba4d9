"""The report in a real browser: everything is drawn, nothing lies over anything else, nothing is asked for outside."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from jointkl.evaluation.report.page import report
from tests.browser import CHROMIUM, Browser, Tab, browser
from tests.evaluation.report.conftest import Make
from tests.evaluation.report.test_page import METRICS

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

MODELS = ["gan", "infogan", "vae_gan", "vi", "iwgan"]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as found:
        yield found


def opened(chromium: Browser, made: Make, name: str = "gan", width: int = 1200, scheme: str = "light") -> Tab:
    tab = chromium.tab()
    tab.resize(width, scheme=scheme)
    tab.open(report(made(name, files={"eval.json": json.dumps(METRICS)})))
    return tab


@pytest.mark.parametrize("name", MODELS)
def test_all_of_it_is_drawn_and_nothing_is_asked_for_outside(name: str, chromium: Browser, made: Make) -> None:
    tab = opened(chromium, made, name)
    assert tab.value("[...document.images].length") == 6
    assert tab.value("Promise.all([...document.images].map(i => i.decode())).then(() => true)")
    assert tab.value("[...document.images].every(i => i.complete && i.naturalWidth === 8)")
    boxes = tab.value("[...document.querySelectorAll('math')].map(m => m.getBoundingClientRect().toJSON())")
    assert len(boxes) > 20
    assert all(box["width"] > 2 and box["height"] > 2 for box in boxes)
    assert tab.value(
        "[...document.querySelectorAll('mfrac, msub, msup')].every(m => m.getBoundingClientRect().height > 8)"
    )
    assert tab.complaints == []
    assert {address.split(":")[0] for address in tab.requests} <= {"file", "data"}
    assert len([address for address in tab.requests if address.startswith("file:")]) == 1


OUTSIDE = """
[...document.querySelectorAll('.graph g')].filter(g => {
  const box = g.querySelector('rect').getBoundingClientRect();
  return [...g.querySelectorAll('text')].some(t => {
    const words = t.getBoundingClientRect();
    return words.left < box.left - 1 || words.right > box.right + 1 || words.bottom > box.bottom + 2;
  });
}).map(g => g.textContent)
"""

WIDER = """
[...document.querySelectorAll('body *')].filter(e => !e.closest('.spec, .scroll, .joints, svg, math'))
  .filter(e => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
  .map(e => e.tagName + '.' + e.className)
"""

OVER = """
(() => { const found = [];
for (const row of document.querySelectorAll('.step li > div, .losses dd, figcaption, .objective')) {
  const all = [...row.querySelectorAll('math')].map(m => m.getBoundingClientRect());
  all.forEach((a, i) => all.slice(i + 1).forEach(b => {
    const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (wide > 1 && high > 6) found.push(row.textContent);
  }));
}
return found; })()
"""


@pytest.mark.parametrize("width", [1200, 400])
@pytest.mark.parametrize("name", MODELS)
def test_nothing_runs_off_the_page_or_over_anything_else(name: str, width: int, chromium: Browser, made: Make) -> None:
    tab = opened(chromium, made, name, width)
    assert tab.value("document.documentElement.scrollWidth") <= width
    assert tab.value(WIDER) == []
    assert tab.value(OUTSIDE) == []
    assert tab.value(OVER) == []


def test_the_slider_goes_through_the_rounds(chromium: Browser, made: Make) -> None:
    tab = opened(chromium, made)
    seen = """[...document.querySelectorAll('.frame')].filter(f => getComputedStyle(f).display !== 'none')
        .map(f => f.dataset.round)"""
    assert tab.value(seen) == ["60", "60"]
    assert tab.value("document.querySelector('output').textContent") == "round 60"
    move = "(i => { i.value = 0; i.dispatchEvent(new Event('input')); })(document.querySelector('input'))"
    tab.value(move)
    assert tab.value(seen) == ["20", "20"]
    assert tab.value("document.querySelector('output').textContent") == "round 20"


def test_on_paper_every_picture_stands_there(chromium: Browser, made: Make) -> None:
    tab = opened(chromium, made)
    tab.call("Emulation.setEmulatedMedia", media="print")
    frames = "[...document.querySelectorAll('.frame')].every(f => f.getBoundingClientRect().width > 50)"
    assert tab.value(frames)
    assert tab.value("getComputedStyle(document.querySelector('.slide')).display") == "none"
    printed = base64.b64decode(tab.call("Page.printToPDF")["data"])
    assert printed.startswith(b"%PDF")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_the_paper(scheme: str, chromium: Browser, made: Make) -> None:
    """Contrast at least 4.5 to 1, as WCAG 2.1 has it (1.4.3), of all kinds of words, on their own paper."""
    tab = opened(chromium, made, scheme=scheme)
    contrasts = tab.value("""
    (() => {
      const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).map(v => v / 255)
        .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
      const paper = e => { for (; e; e = e.parentElement) {
        const c = getComputedStyle(e).backgroundColor; if (!c.endsWith(', 0)')) return c; } };
      const kinds = ['h1', '.lead', '.note', 'nav a', '.c', '.k', '.n', '.law', '.rule', '.loss .rule', '.change', 'th',
        '.objective dt', '.change math', '.role', '.place', 'footer'];
      return kinds.map(k => { const e = document.querySelector(k);
        const [a, b] = [light(getComputedStyle(e).color), light(paper(e))];
        return [k, (Math.max(a, b) + .05) / (Math.min(a, b) + .05)]; });
    })()
    """)
    assert len(contrasts) == 17
    assert [(kind, ratio) for kind, ratio in contrasts if ratio < 4.5] == []


@pytest.mark.slow
def test_a_script_that_gets_in_would_not_run(chromium: Browser, made: Make, tmp_path: Path) -> None:
    """The page's own policy stops what its writer did not write, and it is heard of."""
    path = report(made())
    text = path.read_text(encoding="utf-8")
    bad = '<script>document.title = "taken"</script><img src="http://example.invalid/x.png">'
    path.write_text(text.replace("</main>", f"{bad}</main>"), encoding="utf-8")
    tab = chromium.tab()
    tab.open(path)
    assert tab.value("document.title") == "run: report of a run"
    assert any("Content Security Policy" in words for words in tab.complaints)
