"""Test the report's data, page and live server, without a browser; tests/browser looks at the page itself."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import re
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from made_run import LONG_ERROR, SCRIPT, made_run

import st3sweep
import st3sweep.analysis.report
from st3sweep.analysis.fronts import OBJECTIVES, front
from st3sweep.analysis.layer_profiles import layer_profiles
from st3sweep.analysis.report import histories
from st3sweep.analysis.report.data import report_data
from st3sweep.analysis.report.notebook import run_html
from st3sweep.analysis.report.page import SCRIPTS, asset, in_script, render
from st3sweep.analysis.report.settings_that_matter import importance_in_words, importance_of
from st3sweep.analysis.tables import load_epochs, load_layers, load_trials
from st3sweep.commands.report import watch_report, write_report
from st3sweep.commands.report_server import LiveReport, server
from st3sweep.util.errors import ResultsError, UserError

RUN = Path(__file__).parents[1] / "data" / "run_0_1"


class Page(HTMLParser):
    """Collects the scripts, styles, addresses and inline handlers of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.content: dict[str, list[str]] = {"script": [], "style": []}
        self.attributes: list[tuple[str, str, str]] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag in self.content:
            self._inside = tag
            self.content[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.content[self._inside][-1] += data


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_run(tmp_path_factory.mktemp("runs") / "made")


@pytest.fixture(scope="module")
def data(made: Path) -> dict[str, Any]:
    return report_data(made, brief=True)


def test_numbers_are_those_of_the_tables(made: Path, data: dict[str, Any]) -> None:
    trials, shown = load_trials(made), data["trials"]
    for name in ("trial", "status", "method", "seed", "sparsity", "val_top1", "test_top1", "gflops", "wall_seconds"):
        expected = [None if value is None or value != value else value for value in trials[name].astype(object)]
        assert shown[name] == expected, name
    members = [shown["trial"][row] for row, member in enumerate(shown["on_front"]) if member]
    assert sorted(members) == sorted(front(trials)["trial"])
    assert shown["params"] == [json.loads(text) for text in trials["params"]]


def test_curves_and_layers_are_found_by_their_starts(made: Path, data: dict[str, Any]) -> None:
    curves, layers = data["curves"], data["layers"]
    every_epoch, every_layer = load_epochs(made), load_layers(made)
    for row, trial in enumerate(data["trials"]["trial"]):
        epochs = every_epoch[every_epoch["trial"] == trial]
        own = slice(curves["start"][row], curves["start"][row + 1])
        assert curves["epoch"][own] == epochs["epoch"].tolist()
        assert curves["value"][own] == pytest.approx(epochs["val_top1"].tolist(), abs=6e-4)
        assert curves["threshold"][own] == pytest.approx(epochs["threshold"].tolist(), rel=6e-3)
        table = every_layer[every_layer["trial"] == trial]
        own = slice(layers["start"][row], layers["start"][row + 1])
        assert [layers["names"][number][0] for number in layers["layer"][own]] == table["layer"].tolist()
        assert layers["density"][own] == pytest.approx(table["density"].tolist(), rel=1e-3)
    usual = layer_profiles(every_layer, load_trials(made)).set_index(["group", "layer"])["relative"]
    assert list(layers["profiles"]) == ["front", "neighbours"]
    for group, values in layers["profiles"].items():
        assert values == pytest.approx([usual[group, name] for name, *_ in layers["names"]], rel=1e-3)


def test_too_many_epochs_leave_out_curves_that_are_not_of_the_front(
    made: Path, data: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    members = sum(data["trials"]["on_front"])
    monkeypatch.setattr(histories, "MOST_EPOCHS", 12 * (members + 2))
    found = histories.curves_of([made], load_trials(made), "val_top1")
    lengths = np.diff(found["start"])
    assert all(length == 12 for length, member in zip(lengths, data["trials"]["on_front"], strict=True) if member)
    assert (lengths > 0).sum() == members + 2
    assert found["left_out"] == 59 - (members + 2), "the failed trial has no epoch"


def test_seeds_are_counted_over_trials_that_differ_in_nothing_else(data: dict[str, Any]) -> None:
    shown = data["trials"]
    assert (shown["seed_count"][4], shown["seed_count"][8], shown["seed_count"][0]) == (2, 2, 1)
    assert shown["seed_mean"][4] == pytest.approx((shown["val_top1"][4] + shown["val_top1"][8]) / 2)
    assert shown["seed_count"][3] is None, "stopped early"
    assert shown["front_probability"][8] is None, "a replicate is on no front"


def test_the_summary_says_what_happened(tmp_path: Path) -> None:
    text = "\n".join(report_data(made_run(tmp_path / "run", 30), brief=True)["summary"])
    assert " of resnet50 on imagenet: 27 finished, 1 stopped early, 1 failed and 1 not ended." in text
    assert text.startswith(
        "30 trials of </script><script>document.title = 'run by a name'</script><i…, GMP, ST-3 and ST-3σ"
    )
    assert "1 of them repeats another trial with a new seed." in text
    assert "no dense trial was trained" in text
    assert "Trials are selected by validation accuracy" in text
    trials = load_trials(tmp_path / "run")
    members = front(trials)
    assert f"The front has {len(members)} trials, from trial {members['trial'].iloc[0]} (" in text
    cheapest = members[members["val_top1"] >= members["val_top1"].max() - 1].iloc[0]
    said = f"{cheapest['val_top1']:.2f} % validation accuracy ({cheapest['test_top1']:.2f} % test)"
    assert f"The cheapest within 1 point of the best is trial {cheapest['trial']} (" in text
    assert said in text


def test_a_run_without_a_finished_trial_and_one_without_tables(tmp_path: Path) -> None:
    made_run(tmp_path / "run", 1)
    rows = load_trials(tmp_path / "run").assign(status="running", val_top1=np.nan, gflops=np.nan)
    rows.drop(columns="run").to_parquet(tmp_path / "run" / "trials.parquet")
    with pytest.raises(ResultsError, match="schema version none"):
        report_data(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ResultsError, match=r"trials\.parquet: not found"):
        report_data(tmp_path / "empty")
    nothing = report_data(tmp_path / "empty", missing_ok=True)
    assert nothing["summary"] == ["No trial has begun yet."]
    assert nothing["trials"]["trial"] == []
    render(nothing)


def test_what_matters_in_words(tmp_path: Path) -> None:
    trials = load_trials(made_run(tmp_path / "run", 12))
    groups = importance_of(trials, OBJECTIVES)
    assert [group["of"] for group in groups] == ["validation top-1", "cost", "validation top-1 at equal cost"]
    assert all(group["why_none"] and not group["settings"] for group in groups), "too few trials"
    assert importance_in_words(groups) == ""
    known = {"of": "validation top-1 at equal cost", "r2": 0.426, "why_none": ""}
    settings = [{"setting": name, "verdict": "matters"} for name in ("a", "b")]
    told = importance_in_words([groups[0], {**known, "settings": settings}])
    explained = "the settings explain 43 % of the variance of trials held out."
    assert told == f"For validation top-1 at equal cost, a, b matter; {explained}"
    none = importance_in_words([{**known, "settings": [{"setting": "a", "verdict": "cannot be told"}]}])
    assert none == "For validation top-1 at equal cost, no searched setting can be told from noise."


def test_no_name_or_error_becomes_part_of_the_page(data: dict[str, Any]) -> None:
    assert LONG_ERROR in data["trials"]["error"]
    page = Page(render(data))
    assert len(page.content["script"]) == 2, "the data and the page's own"
    assert json.loads(page.content["script"][0]) == json.loads(json.dumps(data))
    assert not [one for one in page.attributes if one[1].startswith("on") or one[0] == "img"]
    assert SCRIPT not in render(data)
    hostile = Page(render({**data, "title": SCRIPT, "summary": [SCRIPT]}))
    assert len(hostile.content["script"]) == 2


@example(SCRIPT)
@example("<!-- <script> & \u2028\u2029")
@settings(max_examples=40)
@given(st.recursive(st.text() | st.floats(allow_nan=False, allow_infinity=False), st.lists, max_leaves=5))
def test_data_survive_in_a_script_element(value: Any) -> None:
    text = in_script(value)
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text.encode(errors="backslashreplace")) == value


def test_numbers_that_are_not_finite_become_null() -> None:
    assert json.loads(in_script({"a": [float("nan"), 1.0]})) == {"a": [None, 1.0]}


@pytest.mark.parametrize("live", [False, True])
def test_the_page_runs_its_own_scripts_only_and_names_no_other_place(data: dict[str, Any], live: bool) -> None:
    page = Page(render(data, live=live))
    policy = next(value for tag, name, value in page.attributes if tag == "meta" and name == "content")
    assert "default-src 'none'" in policy
    assert f"connect-src {chr(39)}{'self' if live else 'none'}{chr(39)}" in policy
    for text in [*page.content["script"][1:], *page.content["style"]]:
        assert f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" in policy
    addresses = [value for _, name, value in page.attributes if name in ("src", "href", "action", "data")]
    assert addresses == ["#main"]
    assert not re.search(r"url\(|@import", page.content["style"][0])


def test_the_page_holds_no_third_party_code(data: dict[str, Any]) -> None:
    """Its one script is the package's files, each put in, each readable and without a licence of others."""
    page = render(data)
    _, *scripts = Page(page).content["script"]
    assert scripts == [f'"use strict";\n(() => {{\n{"".join(map(asset, SCRIPTS))}}})();\n']
    folder = resources.files(st3sweep.analysis.report).joinpath("assets")
    assert {file.name for file in folder.iterdir()} == {*SCRIPTS, "style.css", "page.html"}
    assert max(map(len, scripts[0].splitlines())) < 400, "nothing is minified"
    assert not re.search(r"licen[cs]e|copyright|\(c\)", scripts[0] + asset("style.css"), re.IGNORECASE)
    assert "This file holds no third-party code" in page
    assert len(page) - len(in_script(data)) < 90_000


def test_no_two_scripts_of_the_page_declare_one_name() -> None:
    """They share one scope: a second function of a name silently takes the place of the first."""
    code = "\n".join(map(asset, SCRIPTS))
    declared = re.findall(r"^(?:async )?(?:function|const|let|class) (\w+)", code, re.MULTILINE)
    assert "drawRows" in declared
    assert [name for name, times in Counter(declared).items() if times > 1] == []


def _luminance(color: str) -> float:
    channels = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(first: str, second: str) -> float:
    low, high = sorted([_luminance(first), _luminance(second)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_contrast_of_text_and_of_plot_colours(theme: int) -> None:
    """WCAG 2.2: 4.5 : 1 for text, 3 : 1 for what is needed to read a plot."""
    found = re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", asset("style.css"))
    color = {name: values[theme] for name, *values in found}
    methods = [f"m{number}" for number in range(12)]
    for surface in ("bg", "card", "soft"):
        for name in ("text", "muted", "accent"):
            assert _contrast(color[name], color[surface]) >= 4.5, (name, surface)
    assert _contrast(color["bad"], color["bad-soft"]) >= 4.5
    for name in (*methods, "edge"):
        assert _contrast(color[name], color["card"]) >= 3, name
    assert len({color[name] for name in methods}) == 12


@pytest.fixture
def live(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    shutil.copytree(RUN, tmp_path / "run")
    serving = server(LiveReport([tmp_path / "run"]), 0)
    thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield tmp_path / "run", serving.server_address[1]
    serving.shutdown()
    thread.join()
    serving.server_close()


def ask(port: int, path: str, **headers: str) -> tuple[int, http.client.HTTPMessage, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read().decode()


def test_the_server_follows_the_run(live: tuple[Path, int]) -> None:
    run, port = live
    status, headers, text = ask(port, "/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert 'data-live="yes"' in text
    status, headers, text = ask(port, "/data.json")
    before, tag = json.loads(text), headers["ETag"]
    assert before["trials"]["status"] == ["finished", "finished", "running"]
    assert headers["X-Run-State"] == "the sweep has ended", "no program holds it"
    assert ask(port, "/data.json", **{"If-None-Match": tag})[0::2] == (304, "")
    made_run(run, 4)  # the sweep writes its tables anew
    status, headers, text = ask(port, "/data.json", **{"If-None-Match": tag})
    assert status == 200
    assert json.loads(text)["trials"]["status"] == ["finished", "finished", "finished", "stopped"]
    assert headers["ETag"] != tag
    assert ask(port, "/../resolved.yaml")[0] == 404
    for name, status in (("localhost", 200), ("127.0.0.1", 200), ("evil.example:80", 403), ("evil.example", 403)):
        assert ask(port, "/", Host=name)[0] == status, name


def test_the_command_and_its_twins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = made_run(tmp_path / "made", 12)
    run = Path(shutil.copytree(RUN, tmp_path / "run"))
    assert st3sweep.report(run) == run / "report.html"
    assert st3sweep.report(run, made, out="new/both.html") == Path("new/both.html")
    page = Page(Path("new/both.html").read_text(encoding="utf-8"))
    shown = json.loads(page.content["script"][0])
    assert [run["label"] for run in shown["runs"]] == ["run", "made"]
    assert len(shown["trials"]["trial"]) == 3 + 12
    assert st3sweep.load_run(run).report("mine.html") == Path("mine.html")
    assert Path("mine.html").read_bytes().startswith(b"<!doctype html>")
    with pytest.raises(UserError, match=r"^--out x\.png: must end in \.html$"):
        write_report([run], Path("x.png"))
    Path("file").write_text("")
    with pytest.raises(UserError, match=r"^--out file/x\.html: cannot be written \("):
        write_report([run], Path("file/x.html"))
    with pytest.raises(UserError, match="not the folder of a run"):
        watch_report([tmp_path / "nowhere"])


def test_jupyter_shows_the_front_and_its_table(tmp_path: Path) -> None:
    shutil.copytree(RUN, tmp_path / "run")
    shown = st3sweep.load_run(tmp_path / "run")._repr_html_()
    assert 'src="data:image/png;base64,' in shown
    assert "val top-1 %" in shown
    assert "57.00" in shown, "trial 0"
    trials = load_trials(tmp_path / "run").assign(method="<script>1</script>")
    page = Page(run_html(SCRIPT, trials, OBJECTIVES))
    assert page.content["script"] == []
    (tmp_path / "run" / "trials.parquet").unlink()
    assert "not found" in st3sweep.load_run(tmp_path / "run")._repr_html_()
