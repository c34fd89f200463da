"""Use the report as a reader does, in Chromium, from its file: pointer, keyboard, filters, slider, narrow and dark."""

from __future__ import annotations

import csv
import json
import math
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_run import LONG_ERROR, METHODS, SCRIPT, made_run

from st3sweep.analysis.fronts import front, pick
from st3sweep.analysis.layer_profiles import layer_profiles
from st3sweep.analysis.report.data import report_data
from st3sweep.analysis.report.page import write_page
from st3sweep.analysis.tables import load_layers, load_trials
from st3sweep.commands.report_server import LiveReport, server
from st3sweep.runs.tables import table_path, write_table

pytestmark = pytest.mark.browser
Opened = Callable[..., Any]


def text_of(page: Any, selector: str) -> str:
    return str(page.locator(selector).inner_text())


def row_of(page: Any, trial: int) -> list[str]:
    """Return the cells of a trial's row, found by its number."""
    found = page.locator(f"#trials tbody tr:has(button[aria-label='Open trial {trial}']) > *").all_inner_texts()
    return [cell.strip() for cell in found]


def cost(gflops: float) -> str:
    """Format a cost as the page does: four significant digits."""
    digits = max(0, 3 - math.floor(math.log10(gflops)))
    text = f"{gflops:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def test_values_are_those_of_the_tables(opened: Opened, run: Path) -> None:
    page = opened()
    trials, members = load_trials(run), front(load_trials(run))
    for trial in (0, 1, 20):
        row = trials[trials["trial"] == trial].iloc[0]
        cells = row_of(page, trial)
        expected = [
            f"{100 * row['sparsity']:.2f}",
            f"{row['val_top1']:.2f}",
            f"{row['test_top1']:.2f}",
            cost(row["gflops"]),
        ]
        assert cells[3:7] == expected
    assert text_of(page, "#rows-said") == "60 of 60 trials"
    best = members.iloc[-1]
    assert f"{best['val_top1']:.2f} %" in text_of(page, "#tiles")
    assert f"The front has {len(members)} trials" in text_of(page, "#summary")
    # The download has every digit.
    page.check("#front-only")
    with page.expect_download() as started:
        page.click("#csv")
    with open(started.value.path(), encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(int(row["trial"]) for row in rows) == sorted(members["trial"])
    for row in rows:
        kept = members[members["trial"] == int(row["trial"])].iloc[0]
        for name in ("val_top1", "test_top1", "gflops", "sparsity"):
            assert float(row[name]) == kept[name]
        assert json.loads(row["params"]) == json.loads(kept["params"])


def place_of(page: Any, gflops: float, value: float) -> tuple[float, float]:
    """Return where the plot shows a point, from the labels of its ticks."""
    ticks = page.evaluate(
        """() => [...document.querySelectorAll('#front .ticks text')].map((tick) => {
          const box = tick.getBoundingClientRect();
          return {text: Number(tick.textContent), x: box.x + box.width / 2, y: box.y + box.height / 2,
                  across: tick.getAttribute('text-anchor') === 'middle'};
        })"""
    )
    across = [tick for tick in ticks if tick["across"] and tick["text"] > 0]
    up = [tick for tick in ticks if not tick["across"]]
    first, last = across[0], across[-1]
    share = math.log(gflops / first["text"]) / math.log(last["text"] / first["text"])
    low, high = up[0], up[-1]
    rise = (value - low["text"]) / (high["text"] - low["text"])
    return first["x"] + share * (last["x"] - first["x"]), low["y"] + rise * (high["y"] - low["y"])


def test_pointing_at_a_trial_tells_it_and_a_click_opens_it(opened: Opened, run: Path) -> None:
    page = opened()
    members = front(load_trials(run))
    row = members.iloc[len(members) // 2]
    page.locator("#front").scroll_into_view_if_needed()
    page.mouse.move(*place_of(page, row["gflops"], row["val_top1"]))
    tip = text_of(page, "#tip")
    assert tip.startswith(f"Trial {row['trial']} · ")
    for said in (f"{row['val_top1']:.2f} %", f"{row['test_top1']:.2f} %", f"{cost(row['gflops'])} GFLOPs", "optim.lr"):
        assert said in tip
    assert f"{100 * row['sparsity']:.2f} %" in tip
    page.mouse.click(*place_of(page, row["gflops"], row["val_top1"]))
    assert text_of(page, "#h-trial").startswith(f"Trial {row['trial']} · ")
    assert text_of(page, "#h-curve") == f"Learning curve of trial {row['trial']}"
    assert page.locator("#curve path.curve").count() == 3, "accuracy, sparsity, threshold"
    assert page.locator("#layers tbody th").all_inner_texts() == ["conv1", "stage1.0.conv1", "stage2.0.conv1", "fc"]
    usual = layer_profiles(load_layers(run), load_trials(run)).set_index(["group", "layer"])["relative"]
    layers = load_layers(run).query(f"trial == {row['trial']}")
    own = (layers["numel"] * layers["density"]).sum() / layers["numel"].sum()
    for group in ("front", "neighbours"):
        marks = page.locator(f"#layers tbody .usual.{group}")
        places = marks.evaluate_all("marks => marks.map(mark => mark.style.left)")
        expected = [100 * min(1, own * usual[group, layer]) for layer in layers["layer"]]
        assert [float(place.removesuffix("%")) for place in places] == pytest.approx(expected, rel=1e-3)
    assert page.locator("#trials tr.chosen button").first.inner_text() == str(row["trial"])
    page.mouse.move(5, 5)
    assert page.locator("#tip").is_hidden()


def test_methods_scales_and_published_points(opened: Opened, report: tuple[Path, dict[str, Any]]) -> None:
    page = opened()
    before = page.locator("#front canvas").evaluate("canvas => canvas.toDataURL()")
    ticks = page.locator("#front .ticks text").all_text_contents()
    page.locator("#legend label", has_text="GMP").locator("input").uncheck()
    assert page.locator("#front canvas").evaluate("canvas => canvas.toDataURL()") != before
    page.get_by_role("button", name="Hide all").click()
    assert text_of(page, "#front-note") == "No finished trial to show."
    page.get_by_role("button", name="Show all").click()
    page.locator("#scales label", has_text="linear").click()
    assert page.locator("#front .ticks text").all_text_contents() != ticks
    assert page.locator("#front .label").all_text_contents()[1] == "validation top-1 (%)"
    page.check("#published")
    assert page.locator("#front .label").all_text_contents()[1] == "test top-1 (%)", (
        "published points are test accuracies"
    )
    assert page.locator("#measures input:checked").get_attribute("value") == "test_top1"
    point = next(point for point in report[1]["published"] if point["method"] == "STR" and point["gflops"])
    page.locator("#scales label", has_text="logarithmic").click()
    page.mouse.move(*place_of(page, point["gflops"], point["test_top1"]))
    assert "published" in text_of(page, "#tip")
    assert point["source"] in text_of(page, "#tip")
    page.locator("#measures label", has_text="validation").click()
    assert not page.locator("#published").is_checked()


def test_the_slider_buys_what_pick_picks(opened: Opened, run: Path) -> None:
    page = opened()
    trials = load_trials(run)
    for gflops in (0.5, 1.0, 3.0):
        page.fill("#exact", str(gflops))
        best = pick(trials, max_gflops=gflops).iloc[0]
        assert text_of(page, "#bought .pick").strip().startswith(f"Trial {best['trial']} · ")
        assert text_of(page, "#bought code").startswith("st3sweep export ")
        assert text_of(page, "#bought code").endswith(f" {best['trial']}")
        assert f"{best['val_top1']:.2f} %" in text_of(page, "#bought")
        assert f"{best['test_top1']:.2f} %" in text_of(page, "#bought")
    page.focus("#slider")
    page.keyboard.press("Home")
    assert text_of(page, "#bought") == "No trial of the front is this cheap."
    page.keyboard.press("End")
    last = front(trials).iloc[-1]
    assert text_of(page, "#bought .pick").strip().startswith(f"Trial {last['trial']} · ")
    assert page.get_attribute("#slider", "aria-valuetext").startswith(f"{cost(last['gflops'])} GFLOPs: Trial ")


def test_the_table_sorts_and_filters(opened: Opened, run: Path) -> None:
    page = opened()
    trials = load_trials(run)
    page.get_by_role("button", name="val top-1 %").click()
    page.get_by_role("button", name="val top-1 %").click()
    assert page.get_attribute("#trials th[data-key=val_top1]", "aria-sort") == "descending"
    shown = [float(text) for text in page.locator("#trials tbody tr td:nth-child(5)").all_inner_texts()]
    assert shown == sorted(shown, reverse=True)
    assert shown[0] == round(trials["val_top1"].max(), 2)
    page.fill("#search", "ST-3σ")
    assert text_of(page, "#rows-said") == f"{(trials['method'] == 'ST-3σ').sum()} of 60 trials"
    page.fill("#search", "")
    page.select_option("#status", "failed")
    assert text_of(page, "#rows-said") == "1 of 60 trials"
    page.select_option("#status", "all")
    for _ in range(2):
        page.get_by_role("button", name="Next").click()
    assert page.locator("#trials tbody tr").count() == 10


def test_what_matters(opened: Opened) -> None:
    page = opened()
    cards = page.locator("#more section[aria-labelledby=h-importance] .card")
    assert cards.count() == 2
    rows = cards.nth(0).locator("tbody tr")
    assert [text.split("\t")[-2:] for text in rows.all_inner_texts()] == [
        ["0.70", "matters"],
        ["0.00", "cannot be told"],
    ]
    bars = rows.locator(".bar").evaluate_all("bars => bars.map(bar => bar.getBoundingClientRect().width)")
    track = rows.locator(".range").first.evaluate("range => range.getBoundingClientRect().width")
    assert bars[0] == pytest.approx(track * 0.7 / 0.9, abs=1)
    assert bars[1] <= 1
    assert "1 less important setting is not shown." in cards.nth(0).inner_text()
    assert "Not computed: too few trials." in cards.nth(1).inner_text()


def test_names_and_errors_are_text(opened: Opened) -> None:
    page = opened()
    assert page.title() == "resnet50 on imagenet · st3sweep report"
    assert page.locator("#legend label", has_text=SCRIPT).count() == 1
    assert page.locator("img").count() == 0
    page.click("button[aria-label='Open trial 5']")
    assert text_of(page, "#trial pre.error") == LONG_ERROR
    assert page.locator("#trial pre.error").evaluate("box => box.clientHeight") <= 160
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert len(METHODS) == page.locator("#legend input").count()
    looks = page.locator("#legend .swatch path").evaluate_all(
        "paths => paths.map(path => path.getAttribute('d') + path.getAttribute('transform') + path.className.baseVal)"
    )
    assert len(set(looks)) == len(METHODS), "each method has a look of its own"


def test_the_keyboard_reaches_everything(opened: Opened, run: Path) -> None:
    page = opened()
    members = front(load_trials(run))
    reached = set()
    for _ in range(400):
        page.keyboard.press("Tab")
        name = page.evaluate(
            "document.activeElement.id || document.activeElement.value || document.activeElement.textContent"
        )
        if name in reached and name == "theme":
            break
        reached.add(name)
        if name == "front":
            page.keyboard.press("Home")
            assert text_of(page, "#tip").startswith(f"Trial {members['trial'].iloc[0]} · ")
            page.keyboard.press("ArrowUp")
            assert text_of(page, "#tip").startswith(f"Trial {members['trial'].iloc[1]} · ")
            assert f"{members['val_top1'].iloc[1]:.2f} %" in text_of(page, "#said"), "said aloud"
            page.keyboard.press("Enter")
            assert text_of(page, "#h-trial").startswith(f"Trial {members['trial'].iloc[1]} · ")
            page.keyboard.press("End")
            page.keyboard.press("ArrowLeft")
            assert not text_of(page, "#tip").startswith(f"Trial {members['trial'].iloc[-1]} · ")
            page.keyboard.press("Escape")
            assert page.locator("#tip").is_hidden()
        if name == "csv":
            break
    assert {"theme", "front", "published", "slider", "exact", "search", "status", "front-only", "csv", "GMP"} <= reached
    page.focus("button[aria-label='Open trial 1']")
    page.keyboard.press("Enter")
    assert text_of(page, "#h-trial").startswith("Trial 1 · ")


@pytest.mark.parametrize(("width", "scheme", "look_closely"), [
    (1280, "light", True), (1280, "dark", False), (390, "light", False), (390, "dark", True),
])  # fmt: skip
def test_it_is_readable(opened: Opened, width: int, scheme: str, look_closely: bool) -> None:
    """No text is cut off at the side, and axe finds neither low contrast nor anything else against WCAG 2.2 AA."""
    page = opened(width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    shown = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert shown == ("rgb(244, 246, 248)" if scheme == "light" else "rgb(17, 21, 27)")
    if look_closely:
        page.check("#front-only")  # one row of the table is like another
        page.focus("#front")
        page.keyboard.press("Home")  # the note beside a point is looked at too
        assert problems_of(page) == {}
    page.click("#theme")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(244, 246, 248)", "chosen: light"


def problems_of(page: Any) -> dict[str, list[str]]:
    """Return what axe finds, by rule."""
    from axe_playwright_python.sync_playwright import Axe

    rules = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]
    found = Axe().run(page, options={"runOnly": rules}).response
    assert "color-contrast" in {rule["id"] for rule in found["passes"]}
    return {rule["id"]: [node["html"][:160] for node in rule["nodes"]] for rule in found["violations"]}


def test_the_live_page_follows_the_sweep(opened: Opened, tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", 12)
    (run / "resolved.yaml").write_text("objectives: []\n")
    serving = server(LiveReport([run]), 0)
    thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        page = opened(address=f"http://127.0.0.1:{serving.server_address[1]}/")
        assert text_of(page, "#rows-said") == "12 of 12 trials"
        page.click("button[aria-label='Open trial 1']")
        page.focus("#slider")
        made_run(run, 13)
        page.locator("#rows-said", has_text="13 of 13 trials").wait_for()
        assert text_of(page, "#h-trial").startswith("Trial 1 · "), "what the reader chose stays"
        assert page.evaluate("document.activeElement.id") == "slider"
        assert text_of(page, "#live") == "● live: the sweep has ended"
    finally:
        serving.shutdown()
        thread.join()
        serving.server_close()


def test_time_in_the_place_of_flops(browser: Any, run: Path, tmp_path: Path) -> None:
    rows = load_trials(run).drop(columns="run")
    rows["latency_ms"] = 1.0 + 0.1 * (7 * rows["trial"] % 60)  # so that the front differs
    shutil.copytree(run, tmp_path / "timed")
    records = rows.astype(object).where(rows.notna(), None).to_dict("records")
    write_table(table_path(tmp_path / "timed", "trials"), "trials", records)
    write_page(report_data(tmp_path / "timed", brief=True), tmp_path / "report.html")
    page = browser.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto((tmp_path / "report.html").as_uri())
    page.locator("#costs label", has_text="time").click()
    assert page.locator("#front .label").all_text_contents()[0] == "cost of one image (ms)"
    timed = load_trials(tmp_path / "timed")
    for most in (2.0, 5.0):
        page.fill("#exact", str(most))
        best = pick(timed, max_latency=most, objectives=(("val_top1", "max"), ("latency_ms", "min"))).iloc[0]
        assert text_of(page, "#bought .pick").strip().startswith(f"Trial {best['trial']} · ")
    assert "fewer than dense" not in text_of(page, "#bought")
    page.locator("#costs label", has_text="FLOPs").click()
    assert page.locator("#front .label").all_text_contents()[0] == "cost of one image (GFLOPs)"
    page.fill("#exact", "1")
    assert text_of(page, "#bought .pick").strip().startswith(f"Trial {pick(timed, max_gflops=1.0)['trial'].iloc[0]} · ")
    page.close()
    assert errors == []
