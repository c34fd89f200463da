"""The trials of a random search, a Sobol' sequence and a grid follow from the seed, whatever happens to the run."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from driven_sweep import SPACE, result
from hypothesis import given, settings
from hypothesis import strategies as st

from st3sweep.reporting.json_events import JsonEvents
from st3sweep.runs.ledger import Ledger
from st3sweep.search.journal import Journal
from st3sweep.search.study import JOURNAL
from st3sweep.space.loading import load_space
from st3sweep.space.space import Space
from st3sweep.sweep.state import Sweep

TRIALS = 6
POINTS = "warm_start: {points: [{optim.lr: 0.02}, {optim.lr: 0.3}, {sparsity.target: 0.8, optim.lr: 0.1}]}\n"
LIMIT = f"constraints: [optim.lr + sparsity.target <= 1.1]\nbudget: {{trials: {TRIALS}}}\n"
# A twentieth of the points meets the constraint: after twenty useless proposals a point is drawn at random.
STRICT = f"constraints: [optim.lr <= 0.0126]\nbudget: {{trials: {TRIALS}}}\n"
MORE = {"random": POINTS + LIMIT, "qmc": POINTS + LIMIT, "grid": "constraints: [optim.lr + sparsity.target < 1]\n"}
GRID = {
    "{float: [0.5, 0.98], scale: log1m}": "{choice: [0.5, 0.7, 0.9]}",
    "{float: [0.01, 1.0], scale: log}": "{choice: [0.01, 0.2, 0.3]}",
}
ENDS: list[dict[str, Any]] = [{"status": "finished"}, {"status": "stopped"}, {"status": "failed", "error": "it broke"}]


class Killed(BaseException):
    """Raised where the program is killed."""


def run(space: Space, folder: Path, slots: int, choose: Callable[[int], int]) -> list[Any]:
    """Run one program on the run in ``folder``; return its points, by trial number.

    ``choose(n)`` returns one of 0…n-1: which of n running trials ends next, and how.
    """
    sweep = Sweep(space, folder, JsonEvents(None, io.StringIO()))
    running: list[int] = []
    while True:
        while len(running) < slots and (trial := sweep.next_trial()):
            running.append(trial.number)
        if not running:
            break
        number, end = running.pop(choose(len(running))), ENDS[choose(len(ENDS))]
        if end["status"] == "stopped":
            sweep.to_stop.add(number)
        sweep.record(number, result(sweep.ledger.trials[number]) | end)
    sweep.close()
    return [trial.params for _, trial in sorted(sweep.ledger.trials.items())]


def kill_after(writes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill the program in place of the write number ``writes`` to the study or the ledger."""
    left = [writes]

    def guarded(write: Callable[..., None]) -> Callable[..., None]:
        def count(*arguments: Any, **settings: Any) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            write(*arguments, **settings)

        return count

    monkeypatch.setattr(Journal, "append_logs", guarded(Journal.append_logs))
    monkeypatch.setattr(Ledger, "_append", guarded(Ledger._append))


@pytest.mark.parametrize("name", ["random", "strict", "qmc", "grid"])
def test_the_same_seed_runs_the_same_trials_whatever_the_timing(name: str) -> None:
    """Number of slots, order and kind of the trials' ends, kills at any write, and power cuts change nothing."""
    with tempfile.TemporaryDirectory() as parent:
        sampler, more = ("random", STRICT) if name == "strict" else (name, MORE[name])
        text = SPACE.replace("sampler: random", f"sampler: {sampler}") + more
        for old, new in GRID.items() if name == "grid" else ():
            text = text.replace(old, new)
        (Path(parent) / "space.yaml").write_text(text)
        space = load_space(Path(parent) / "space.yaml")
        expected = run(space, Path(tempfile.mkdtemp(dir=parent)), 1, lambda _: 0)
        assert len({str(point) for point in expected}) == len(expected) == TRIALS

        @settings(max_examples=2 if name == "strict" else 6)
        @given(st.integers(1, 4), st.lists(st.tuples(st.integers(5, 80), st.integers(0, 40)), max_size=3), st.data())
        def disturbed(slots: int, kills: list[tuple[int, int]], data: st.DataObject) -> None:
            folder = Path(tempfile.mkdtemp(dir=parent))
            choose = lambda n: data.draw(st.integers(0, n - 1))  # noqa: E731
            for writes, lost in kills:
                with pytest.MonkeyPatch.context() as monkeypatch:
                    kill_after(writes, monkeypatch)
                    try:
                        points = run(space, folder, slots, choose)
                    except Killed:
                        lines = (folder / JOURNAL).read_bytes().splitlines(keepends=True)
                        (folder / JOURNAL).write_bytes(b"".join(lines[: max(2, len(lines) - lost)]))
                    else:
                        break
            else:
                points = run(space, folder, slots, choose)
            assert points == expected

        disturbed()
