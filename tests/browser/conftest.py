"""A browser for the tests of the report: Chromium as the system has it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from made_run import made_run

from st3sweep.analysis.report.data import report_data
from st3sweep.analysis.report.page import write_page

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def _missing(reason: str) -> None:
    """Skip; where CI promises a browser, fail."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason}; under CI the browser tests must run")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _missing("playwright is not installed (pip install playwright)")
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        _missing(f"no browser: none of {', '.join(NAMES)}")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_run(tmp_path_factory.mktemp("runs") / "made")


@pytest.fixture(scope="session")
def report(run: Path) -> tuple[Path, dict[str, Any]]:
    """The report of the made run: its file and its data."""
    data = report_data(run, brief=True)  # forests take seconds, so their numbers are given here
    data["importance"] = [
        {"of": "validation top-1", "r2": 0.43, "trials": 57, "why_none": "", "more": 1, "settings": [
            {"setting": "sparsity.target", "importance": 0.7, "low": 0.5, "high": 0.9, "verdict": "matters"},
            {"setting": "optim.lr", "importance": -0.001, "low": -0.1, "high": 0.1, "verdict": "cannot be told"},
        ]},
        {"of": "cost", "r2": None, "trials": 3, "why_none": "too few trials", "more": 0, "settings": []},
    ]  # fmt: skip
    write_page(data, run / "report.html")
    return run / "report.html", data


@pytest.fixture(scope="session")
def only_page(browser: Any) -> Iterator[tuple[Any, list[str], list[str]]]:
    """Return one page for all tests, for its time, with the addresses that it asked for and its complaints."""
    context = browser.new_context()
    context.set_default_timeout(120_000)  # a busy machine
    page, asked, complaints = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page, asked, complaints
    context.close()


@pytest.fixture
def opened(
    only_page: tuple[Any, list[str], list[str]], report: tuple[Path, dict[str, Any]]
) -> Iterator[Callable[..., Any]]:
    """Return a function that opens the report from its file; at the end check requests and complaints of the page."""
    page, asked, complaints = only_page
    asked.clear()
    complaints.clear()

    def open_page(width: int = 1280, scheme: str = "light", address: str = report[0].as_uri()) -> Any:
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        page.goto(address)
        page.locator("html[data-ready=yes]").wait_for(state="attached")
        return page

    yield open_page
    page.goto("about:blank")  # so that a live page asks no more
    assert asked
    assert not complaints
    assert all(url.startswith(("file://", "blob:", "http://127.0.0.1:", "about:")) for url in asked), asked
