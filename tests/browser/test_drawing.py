"""Check what the report draws with (drawing.js) by values computed by hand, in Chromium."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from st3sweep.analysis.report.page import asset

pytestmark = pytest.mark.browser
Evaluate = Callable[[str], Any]


@pytest.fixture(scope="module")
def evaluate(browser: Any) -> Iterator[Evaluate]:
    """Return a function that evaluates an expression where the functions of drawing.js are known."""
    page = browser.new_page()
    code = asset("values.js") + asset("drawing.js")
    yield lambda expression: page.evaluate(f"() => {{ {code}\nreturn {expression}; }}")
    page.close()


@pytest.mark.parametrize(("limits", "about", "ticks"), [
    ("[30, 47]", 6, [30, 32, 34, 36, 38, 40, 42, 44, 46]),  # 17 / 6 = 2.8 is by its factor nearer to 2 than to 5
    ("[30, 47]", 5, [30, 35, 40, 45]),  # 3.4 is nearer to 5
    ("[0, 1]", 4, [0, 0.2, 0.4, 0.6, 0.8, 1]),
    ("[0.6, 3 * 0.3]", 3, [0.6, 0.7, 0.8, 0.9]),  # 3 * 0.3 is a rounding error below 0.9
    ("[-0.5, 129.3]", 10, [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120]),
])  # fmt: skip
def test_linear_ticks_are_round(evaluate: Evaluate, limits: str, about: int, ticks: list[float]) -> None:
    assert evaluate(f"linearScale({limits}, [0, 1]).ticks({about})") == ticks


@pytest.mark.parametrize(("limits", "most", "ticks"), [
    ("[0.15, 3.1]", 10, [0.15, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3]),
    ("[0.15, 3.1]", 8, [0.2, 0.5, 1, 2]),
    ("[0.02, 4000]", 8, [0.1, 1, 10, 100, 1000]),
    ("[4.1, 4.9]", 4, [4.2, 4.4, 4.6, 4.8]),  # too close for powers of ten
])  # fmt: skip
def test_log_ticks_are_plain(evaluate: Evaluate, limits: str, most: int, ticks: list[float]) -> None:
    assert evaluate(f"logScale({limits}, [0, 1]).ticks({most})") == ticks


def test_scales_lead_there_and_back(evaluate: Evaluate) -> None:
    assert evaluate("[30, 38.5, 47].map(linearScale([30, 47], [500, 100]))") == [500, 300, 100]
    assert evaluate("[0.01, 0.1, 10].map(logScale([0.01, 10], [0, 300]))") == pytest.approx([0, 100, 300])
    for scale in ("linearScale([30, 47], [500, 100])", "logScale([30, 47], [54, 700])"):
        there = f"range(0, 18).map((i) => 30 + i).map((value) => {scale}.invert({scale}(value)))"
        assert evaluate(there) == pytest.approx(list(range(30, 48)), rel=1e-12)


def test_marks_have_the_area_asked_for(evaluate: Evaluate) -> None:
    """Counted by the browser: pixels inside the path."""
    count = """(name) => {
      const context = new OffscreenCanvas(1, 1).getContext("2d"), path = new Path2D(markPath(name, 6400));
      let inside = 0;
      for (let x = -99.5; x < 100; x++) for (let y = -99.5; y < 100; y++) inside += context.isPointInPath(path, x, y);
      return inside;
    }"""
    names = evaluate("['circle', ...Object.keys(OUTLINES)]")
    assert len(names) == 7
    for name, area in zip(names, evaluate(f"['circle', ...Object.keys(OUTLINES)].map({count})"), strict=True):
        assert area == pytest.approx(6400, rel=0.02), name


def test_lines_have_gaps_and_steps(evaluate: Evaluate) -> None:
    assert evaluate("linePath([[0, 1], [2, 3.00049], null, [4, 5], [6, 7]])") == "M0 1L2 3M4 5L6 7"
    assert evaluate("linePath([[0, 1], [2, 3], [4, 0]], true)") == "M0 1H2V3H4V0"


def test_numbers_of_a_list(evaluate: Evaluate) -> None:
    assert evaluate("extent([null, 3, undefined, -1, 2])") == [-1, 3]
    assert evaluate("extent([null]).every((value) => value === undefined)")
    assert evaluate("[0, 0.25, 0.5, 1].map((share) => quantile([1, 2, 4, 10], share))") == [1, 1.75, 3, 10]
    assert evaluate("[0.25, 1].map((share) => quantile([7], share))") == [7, 7]


def test_the_nearest_point_within_the_radius(evaluate: Evaluate) -> None:
    xs, ys = [0, 10, 13, 100], [0, 0, 4, 100]
    expected = []
    asked = [(6, 0), (4, 0), (12, 3), (50, 50), (100, 128), (100, 128.1)]
    for x, y in asked:
        distances = [math.hypot(a - x, b - y) for a, b in zip(xs, ys, strict=True)]
        expected.append(distances.index(min(distances)) if min(distances) <= 28 else None)
    assert expected == [1, 0, 2, None, 3, None]
    given = [list(pair) for pair in asked]
    assert evaluate(f"{given}.map(([x, y]) => nearestPoint({xs}, {ys}, x, y, 28))") == expected
    assert evaluate("nearestPoint([], [], 1, 2, 28)") is None
