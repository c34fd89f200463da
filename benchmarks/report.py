"""Measure the report of a large run: time to write it, size, time to open it, and time of what a reader does.

    python benchmarks/report.py [--trials 5000] [--epochs 30] [--json]

The trials are made. A browser opens the file (Chromium or Chrome, through playwright); each action is done ten times
and timed in the page from the event to the second frame after it: shortest, median, longest. Beside it stands the
processor time of the page's main thread, which the load of other programs changes little.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from st3sweep.analysis.report.data import report_data
from st3sweep.analysis.report.page import write_page
from st3sweep.runs.tables import table_path, write_table

METHODS = ("ST-3", "ST-3σ", "GMP", "STR", "RigL", "DNW", "ProbMask", "GraNet")
LAYERS = 54  # of ResNet-50
# What a reader does, as code in the page; `by` is the number of the repetition.
ACTIONS = {
    "hover": "point(by)",
    "click a trial": "point(by); box.dispatchEvent(new MouseEvent('click', at(by)))",
    "method off and on": "document.querySelector('#legend input').click()",
    "linear or log": "document.querySelector(`#scales input[value=${by % 2 ? 'log' : 'linear'}]`).click()",
    "budget": "set('#slider', 20 * by)",
    "filter": "set('#search', ['st-3σ', '0.9', ''][by % 3])",
    "sort": "document.querySelectorAll('#trials thead button')[by % 8].click()",
}
MEASURE = """async () => {
  const box = document.getElementById('front'), frame = () => new Promise(requestAnimationFrame);
  box.scrollIntoView();
  const at = (by) => {
    const {left, top, width, height} = box.getBoundingClientRect();
    return {clientX: left + width * (0.3 + 0.05 * by), clientY: top + height * (0.2 + 0.06 * by), bubbles: true};
  };
  const point = (by) => box.dispatchEvent(new PointerEvent('pointermove', at(by)));
  const set = (name, value) => {
    const input = document.querySelector(name);
    input.value = value;
    input.dispatchEvent(new Event('input', {bubbles: true}));
  };
  const found = [];
  for (let by = 0; by < 10; by++) {
    await frame();
    const began = performance.now();
    ACT;
    await frame();
    await frame();
    found.push(performance.now() - began);
  }
  return found;
}"""


def made_tables(folder: Path, trials: int, epochs: int) -> None:
    """Write the tables of ``trials`` made trials of ResNet-50 to ``folder``."""
    random = np.random.default_rng(0)
    rows, curves, layers = [], [], []
    for number in range(trials):
        target = float(random.uniform(0.5, 0.98))
        top1 = 77 - 16 * target**6 + float(random.normal(0, 0.6))
        stopped = number % 4 == 3
        row: dict[str, Any] = {
            "trial": number, "status": "stopped" if stopped else "finished", "digest": str(number), "model": "resnet50",
            "method": METHODS[number % len(METHODS)], "dataset": "imagenet", "seed": 0, "sparsity_target": target,
            "gflops_dense": 4.089, "epochs": epochs // 3 if stopped else epochs, "workers": 1, "precision": "bf16",
            "params": json.dumps({"sparsity.target": target, "optim.lr": float(random.uniform(0.05, 0.5))}),
            "spec": "{}",
        }  # fmt: skip
        if not stopped:
            gflops = 4.089 * (1 - target) * float(random.uniform(0.9, 1.6))
            row |= {"val_top1": top1, "test_top1": top1 - 0.3, "gflops": gflops, "sparsity": target,
                    "best_epoch": epochs, "training_gflops": 1e6, "wall_seconds": 3600.0}  # fmt: skip
            layers += [
                {"trial": number, "layer": f"layer{place}", "position": place, "shape": "64x64x3x3", "numel": 36864,
                 "density": float(random.uniform(0, 1)), "macs_dense": 10**7, "macs": 1e6} for place in range(LAYERS)
            ]  # fmt: skip
        curves += [
            {"trial": number, "epoch": epoch, "progress": epoch / epochs,
             "sparsity": target * min(1, 1.6 * epoch / epochs), "gflops": 1.0, "seconds": 60.0,
             "threshold": float(random.uniform(0.001, 0.1)),
             "val_top1": top1 * (1 - 0.6 * float(np.exp(-4 * epoch / epochs)))}
            for epoch in range(1, row["epochs"] + 1)
        ]  # fmt: skip
        rows.append(row)
    for name, table in (("trials", rows), ("epochs", curves), ("layers", layers)):
        write_table(table_path(folder, name), name, table)


def in_browser(path: Path) -> dict[str, Any]:
    """Return the seconds until the page is ready, and the milliseconds of each action."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        opened, busy = [], []
        for _ in range(3):
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            client = page.context.new_cdp_session(page)
            client.send("Performance.enable", {"timeDomain": "threadTicks"})
            began, before = time.perf_counter(), thread_seconds(client)
            page.goto(path.as_uri())
            page.locator("html[data-ready=yes]").wait_for(state="attached")
            opened.append(time.perf_counter() - began)
            busy.append(thread_seconds(client) - before)
        times = {}
        for name, act in ACTIONS.items():
            before = thread_seconds(client)
            each = page.evaluate(MEASURE.replace("ACT", act))
            cpu = 100 * (thread_seconds(client) - before)  # milliseconds of one of ten
            times[name] = {"shortest": min(each), "median": statistics.median(each), "longest": max(each), "cpu": cpu}
        browser.close()
    return {"open_seconds": statistics.median(opened), "open_cpu_seconds": statistics.median(busy), "actions_ms": times}


def thread_seconds(client: Any) -> float:
    """Return the processor time that the page's main thread has spent in tasks."""
    metrics = {metric["name"]: metric["value"] for metric in client.send("Performance.getMetrics")["metrics"]}
    return float(metrics["TaskDuration"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=5000)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", type=Path, help="keep the file here")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made_tables(folder, asked.trials, asked.epochs)
        began = time.process_time(), time.perf_counter()
        data = report_data(folder)
        gathered = time.process_time() - began[0]
        write_page(data, asked.keep or folder / "report.html")
        path = asked.keep or folder / "report.html"
        found = {
            "trials": asked.trials, "epochs": asked.epochs, "gather_cpu_seconds": gathered,
            "write_cpu_seconds": time.process_time() - began[0], "write_wall_seconds": time.perf_counter() - began[1],
            "megabytes": path.stat().st_size / 1e6, "machine": platform.processor() or platform.machine(),
            **in_browser(path.absolute()),
        }  # fmt: skip
    if asked.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        if isinstance(value, int | float):
            print(f"{name:<20} {value:.4g}")
    for name, each in found["actions_ms"].items():
        wall = f"{each['shortest']:.0f}, {each['median']:.0f}, {each['longest']:.0f}"
        print(f"{name:<20} {wall} ms; processor {each['cpu']:.0f} ms")


if __name__ == "__main__":
    main()
