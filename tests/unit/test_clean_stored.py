"""Test the command clean and its twin on a run in an object store, without Ray."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from driven_sweep import result
from object_store import ObjectStore
from stored_sweep import new
from test_cli import st3sweep
from test_kept_checkpoints import five_with_all

from st3sweep.commands import clean
from st3sweep.commands.api import load_run
from st3sweep.commands.clean import File
from st3sweep.commands.stored import KeepOnly, kept_in_store
from st3sweep.reporting.json_events import JsonEvents
from st3sweep.runs import store_lock
from st3sweep.runs.bring import bring_models, bring_trials, local_run
from st3sweep.runs.folder import RESOLVED, lock, trial_folder
from st3sweep.runs.ledger import Ledger
from st3sweep.runs.store_lock import StoreLock
from st3sweep.space.loading import load_stored_space
from st3sweep.sweep.state import Sweep
from st3sweep.training.checkpoint_files import find_checkpoints
from st3sweep.util.errors import UserError
from st3sweep.util.storage.objects import Objects

Capture = pytest.CaptureFixture[str]
BYTES = {"last.ckpt": 2000, "last.ckpt.previous": 2000, "best.ckpt": 1000}  # the second is not stored
BOTH = {"last.ckpt", "best.ckpt"}
FINISHED = [{"best.ckpt"}, {"best.ckpt"}, BOTH, {"last.ckpt"}, BOTH]
FRONT = [set(), {"best.ckpt"}, set(), set(), BOTH]


def sweep_in(folder: Path, keep_only: KeepOnly | None) -> Sweep:
    return Sweep(load_stored_space(folder / RESOLVED), folder, JsonEvents(None, io.StringIO()), None, (), keep_only)


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that goes to another machine: one with an empty cache."""
    return lambda name: monkeypatch.setenv("ST3SWEEP_CACHE", str(tmp_path / name))


@pytest.fixture
def url(object_store: ObjectStore, tmp_path: Path, go: Callable[[str], None]) -> str:
    """Return the address of a run that kept everything."""
    go("first")
    url = object_store.make_bucket(f"clean-{tmp_path.name.replace('_', '-')}"[:60].rstrip("-")) + "/runs/one"
    folder = new(url, tmp_path / "space.yaml", "budget: {trials: 9}\nresources: {checkpoints: all}\n")
    with kept_in_store(folder, checkpoints=True) as keep_only, lock(folder):
        five_with_all(sweep_in(folder, keep_only), BYTES)
    return url


def stored(url: str) -> list[set[str]]:
    """Return the checkpoints of each trial that the store has; its records must name the same."""
    store = Objects(url)
    found: list[set[str]] = [set() for _ in range(5)]
    for name, _ in store.list("trials"):
        if ".ckpt" in name:
            found[int(name.split("/")[1])].add(name.split("/", 2)[2])
    for number in range(5):
        record = json.loads(store.read(f"trials/{number:04d}/stored.json"))
        assert set(record["files"]) == {"config.yaml", *found[number]}
    return found


def brought(url: str) -> list[set[str]]:
    """Return the checkpoints of each trial that this machine has once it has brought them."""
    folder = local_run(url)
    bring_trials(folder, range(5))
    return [set(find_checkpoints(trial_folder(folder, number))) for number in range(5)]


def test_it_says_what_would_go_and_removes_it_on_request(url: str, go: Callable[[str], None], capsys: Capture) -> None:
    first = local_run(url)
    go("second")
    code, said, _ = st3sweep(capsys, "clean", url, "--keep", "front")
    assert code == 0
    rows = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in said.splitlines() if line]
    assert rows == [
        ["why", "trials", "files", "size"],
        ["dominated", "1", "2", "3 kB"],
        ["finished: only the best epoch is read again", "1", "1", "2 kB"],
        ["stopped early", "1", "2", "3 kB"],
        ["failed", "1", "2", "3 kB"],
        ["1 unfinished trial keeps its checkpoints: resume continues from them"],
        [f"{url}: would free 11 kB of 15 kB; to remove: st3sweep clean {url} --keep front --yes"],
    ]
    assert stored(url) == [BOTH] * 5
    code, said, _ = st3sweep(capsys, "clean", url, "--json", "--yes")
    found = json.loads(said)
    rows = found.pop("files")
    assert found == {"folder": url, "keep": "finished", "removed": True, "bytes": 15_000, "freed": 5000, "copies": 0}
    assert [(row["trial"], row["file"].removeprefix(url), row["bytes"]) for row in rows] == [
        (0, "/trials/0000/last.ckpt", 2000), (1, "/trials/0001/last.ckpt", 2000), (3, "/trials/0003/best.ckpt", 1000),
    ]  # fmt: skip
    assert stored(url) == FINISHED
    assert st3sweep(capsys, "clean", url, "--keep", "front", "--yes")[1].endswith(f"{url}: freed 6 kB of 10 kB\n")
    assert stored(url) == FRONT
    go("third")
    assert brought(url) == FRONT
    go("first")  # whose copies of everything must not get back into the store
    assert local_run(url) == first
    bring_models(first, [0, 2, 3])  # nor go when a model is read
    with kept_in_store(first, checkpoints=True), lock(first):
        pass
    assert stored(url) == FRONT
    said = st3sweep(capsys, "clean", url, "--keep", "front", "--yes")[1]
    assert said.endswith(f"{url}: freed 0 B of 4 kB, and 19 kB of copies on this machine\n")
    assert brought(url) == [set(), {"best.ckpt"}, set(), set(), set(BYTES)]


def test_the_run_can_be_resumed_after_the_twin_in_python(url: str, go: Callable[[str], None]) -> None:
    run = load_run(url)
    found = run.clean("front", yes=True)
    assert list(found.columns) == ["trial", "file", "bytes", "why"]
    assert found.groupby("trial")["bytes"].sum().to_dict() == {0: 3000, 1: 2000, 2: 3000, 3: 3000}
    copies = [set(find_checkpoints(trial_folder(run.folder, number))) for number in range(5)]
    assert copies == [*FRONT[:4], set(BYTES)]  # a copy that stayed would get back into the store
    Objects(url).write("trials/0001/last.ckpt", bytes(7))  # as a program leaves it that is killed as it removes it
    assert [*run.clean("front", yes=True)["bytes"]] == [7]
    assert stored(url) == FRONT
    go("second")
    folder = local_run(url)
    with kept_in_store(folder, checkpoints=True) as keep_only, lock(folder):
        bring_trials(folder, [4])
        assert set(find_checkpoints(trial_folder(folder, 4))) == BOTH
        sweep = Sweep(
            load_stored_space(folder / RESOLVED), folder, JsonEvents(None, io.StringIO()), None, (), keep_only
        )
        trial = sweep.next_trial()
        assert trial is not None
        assert trial.number == 4
        sweep.record(4, result(trial))
        sweep.close()
    assert Ledger(local_run(url), read_only=True).trials[4].status == "finished"


def test_a_run_that_a_program_runs_elsewhere_is_refused(
    url: str, go: Callable[[str], None], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = StoreLock.take(Objects(url), 1)
    go("second")
    for options in ((), ("--yes",)):
        code, said, error = st3sweep(capsys, "clean", url, *options)
        assert (code, said, error.count("\n")) == (2, "", 1)
        assert f"{url}: " in error
        assert "program is running this sweep" in error
    monkeypatch.setattr(store_lock, "STALE_SECONDS", 0.0)
    StoreLock.take(Objects(url), 1)  # while it removes, another program takes over
    files = [File(0, f"{url}/trials/0000/last.ckpt", 2000, "dominated")]
    with pytest.raises(UserError, match=f"^{url}: another program runs this sweep now; nothing more is removed"):
        clean._remove_from_store(held, local_run(url), files)
    assert stored(url) == [BOTH] * 5


def test_nothing_is_removed_where_the_store_refuses_or_lacks_results(
    url: str, capsys: Capture, object_store: ObjectStore
) -> None:
    object_store.faults(refuse_writes="AccessDenied")
    code, said, error = st3sweep(capsys, "clean", url, "--yes")
    assert (code, said, error.count("\n")) == (2, "", 1)
    assert "may not do that" in error
    object_store.faults()
    ledger = Ledger(local_run(url))
    ledger.add_done(4, "finished", {"val_top1": 99.0, "gflops": 0.01})
    ledger.close()
    code, said, error = st3sweep(capsys, "clean", url, "--keep", "front", "--yes")
    assert (code, said) == (2, "")
    assert f"{url}: this machine has results that the store does not have; store them first: " in error
    assert stored(url) == [BOTH] * 5
    StoreLock.take(Objects(url), 1).release()  # it has left no lock behind
