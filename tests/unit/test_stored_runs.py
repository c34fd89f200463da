"""Test runs that are kept in an object store: what it holds, what another machine finds, and what a kill leaves."""

from __future__ import annotations

import multiprocessing
import os
import random
import re
import resource
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import stored_sweep
import torch
import yaml
from compare import timeless
from driven_sweep import EPOCHS
from object_store import KEY, SECRET, ObjectStore
from stored_sweep import new, run, state_of
from test_cli import st3sweep

from st3sweep.commands.api import load_run
from st3sweep.commands.stored import kept_in_store
from st3sweep.data import Splits
from st3sweep.execution import trial_in_store as trials
from st3sweep.execution.trial_in_store import trial_in_store
from st3sweep.runs import mirror, store_lock, table_rows
from st3sweep.runs.bring import bring, bring_trials, local_run
from st3sweep.runs.folder import STOP_REQUEST, holder, take_stop_request, trial_folder
from st3sweep.runs.ledger import LEDGER, Ledger, Trial
from st3sweep.runs.store import local_folder
from st3sweep.runs.store_lock import StoreLock
from st3sweep.runs.tables import read_table
from st3sweep.runs.trial_store import TrialStore
from st3sweep.sweep.state import Sweep
from st3sweep.training import checkpoint
from st3sweep.training.checkpoint_files import BEST, LAST, find_checkpoints
from st3sweep.training.loop import fit
from st3sweep.training.world import World
from st3sweep.trial.settings import TrialSettings
from st3sweep.util.errors import UserError
from st3sweep.util.storage.local import Local
from st3sweep.util.storage.object_errors import StoreError
from st3sweep.util.storage.objects import ObjectLog, Objects


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "INTERVAL_SECONDS", 0.1)


@pytest.fixture
def url(object_store: ObjectStore) -> str:
    return object_store.make_bucket(f"runs-{uuid.uuid4().hex}") + "/runs/one"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that goes to another machine: one with an empty cache."""

    def go(name: str) -> Path:
        monkeypatch.setenv("ST3SWEEP_CACHE", str(tmp_path / name))
        return tmp_path / name

    go("first")
    return go


def outcome(folder: Path) -> dict[int, Any]:
    """Return what counts of each trial: settings, epochs, result."""
    ledger = Ledger(folder, read_only=True)
    return {
        number: (trial.identity, trial.status, timeless(dict(trial.epochs)), timeless(trial.result))
        for number, trial in ledger.trials.items()
    }


def tables(folder: Path) -> list[pd.DataFrame]:
    return [read_table(folder, name) for name in ("trials", "epochs", "layers")]


class Gone(Exception):
    """Ends a program, which still stores what it has."""


def gone_after(*epochs: int) -> Callable[[Sweep, Trial], None]:
    def leave(sweep: Sweep, trial: Trial) -> None:
        if sum(len(trial.epochs) for trial in sweep.ledger.trials.values()) in epochs:
            raise Gone

    return leave


def test_another_machine_finds_the_run(url: str, machine: Any, tmp_path: Path) -> None:
    folder = new(url, tmp_path / "space.yaml")
    run(folder)
    store = Objects(url)
    names = {name for name, _ in store.list()}
    assert {"store.json", "space.yaml", "resolved.yaml", "trials.parquet", "ledger.jsonl/000000"} <= names
    assert not [name for name in names if "study" in name or LAST in name or "/." in name]
    with store.open("ledger.jsonl") as file:
        assert file.read() == (folder / "ledger.jsonl").read_bytes()
    machine("second")
    found = load_run(url)
    assert found.folder == local_folder(url) != folder
    assert found.state == "complete"
    for here, there in zip(tables(found.folder), tables(folder), strict=True):
        pd.testing.assert_frame_equal(here, there)
    assert not list(found.folder.glob("trials/*/*"))  # until they are needed
    bring_trials(found.folder, [3])
    assert list(find_checkpoints(trial_folder(found.folder, 3))) == [BEST]
    assert state_of(trial_folder(found.folder, 3) / BEST) == (EPOCHS, EPOCHS)


@pytest.mark.slow
def test_a_run_goes_on_on_another_machine_and_then_on_the_first(url: str, machine: Any, tmp_path: Path) -> None:
    leave = gone_after(5, 11)
    folder = new(url, tmp_path / "space.yaml")
    with pytest.raises(Gone):
        run(folder, after_epoch=leave)
    left = {number: len(trial.epochs) for number, trial in Ledger(folder, read_only=True).trials.items()}
    machine("second")
    second = local_run(url)
    assert {number: len(trial.epochs) for number, trial in Ledger(second, read_only=True).trials.items()} == left
    with pytest.raises(Gone):
        run(second, after_epoch=leave)
    machine("first")
    assert local_run(url) == folder
    run(folder)
    undisturbed = new(url + "-whole", tmp_path / "space.yaml")
    run(undisturbed)
    assert outcome(folder) == outcome(undisturbed)
    assert len(outcome(folder)) == 4


def kill_and_resume(url: str, machine: Any, tmp_path: Path, kills: int, rng: random.Random) -> list[str]:
    """Kill a program at random times, each time resume on another machine; return what happened, to be shown."""
    seen, place = [], [url, str(tmp_path / "space.yaml")]
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)  # of the process that forks the programs
    programs = multiprocessing.get_context("forkserver")
    programs.set_forkserver_preload(["stored_sweep"])
    for number in range(kills):
        machine(f"machine-{number}")
        program = programs.Process(target=stored_sweep.program, args=(dict(os.environ), *place, 0.2 * kills))
        program.start()
        store, end = Objects(url), time.monotonic() + 240
        awaited = [f"lock/{number + 1:06d}.json", "ledger.jsonl/000000", "store.json"]
        while awaited and program.is_alive() and time.monotonic() < end:
            if _exists(store, awaited[0]):
                awaited.pop(0)
            else:
                time.sleep(0.05)
        time.sleep(rng.uniform(0.0, 2.0))
        program.kill()
        program.join()
        assert program.exitcode == -signal.SIGKILL
        done = Ledger(local_folder(url), read_only=True)
        machine(f"reader-{number}")
        stored = Ledger(local_run(url), read_only=True)
        seen.append(f"{done.lines} events, {stored.lines} stored, {len(stored.unfinished())} trials unfinished")
        place = [url, "-"]
    machine("last")
    run(local_run(url))
    return seen


def _exists(store: Objects, name: str) -> bool:
    try:
        store.read(name)
    except FileNotFoundError:
        return False
    return True


def wait_until(what: Callable[[], bool]) -> None:
    end = time.monotonic() + 10.0
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def check_after_kills(url: str, machine: Any, tmp_path: Path) -> None:
    machine("checked")
    found = outcome(local_run(url))
    undisturbed = new(str(tmp_path / "whole"), tmp_path / "space.yaml")  # in a folder
    run(undisturbed)
    assert found == outcome(undisturbed)
    bring_trials(local_folder(url), found)
    for number in found:  # the best epoch's model is in the store, and nothing else
        folder = trial_folder(local_folder(url), number)
        assert list(find_checkpoints(folder)) == [BEST]
        assert state_of(folder / BEST) == (EPOCHS, EPOCHS)
        assert (folder / BEST).read_bytes() == (trial_folder(undisturbed, number) / BEST).read_bytes()


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 10))])
def test_runs_that_are_killed_twice_at_random_times(
    seed: int, url: str, machine: Any, tmp_path: Path, object_store: ObjectStore
) -> None:
    """Twenty kills in all, in a store that is busy at times and whose lists are empty."""
    object_store.faults(busy=0.05, stale=True)
    for line in kill_and_resume(url, machine, tmp_path, 2, random.Random(seed)):
        print(line)
    check_after_kills(url, machine, tmp_path)


def test_a_second_program_is_refused(url: str, machine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = new(url, tmp_path / "space.yaml")
    machine("second")
    with pytest.raises(UserError, match=f"^{url}: exists; resume it"):
        new(url, tmp_path / "space.yaml")
    machine("first")
    seen = []

    def look(sweep: Sweep, trial: Trial) -> None:
        if seen:
            return
        wait_until(lambda: _exists(Objects(url), "store.json"))  # the run may be shorter than the first cycle
        machine("second")
        with pytest.raises(UserError, match="another program is running this sweep"):
            StoreLock.take(Objects(url), 1)
        assert (holder(local_run(url)) or {}).get("pid") == os.getpid()
        seen.append(len(Ledger(local_folder(url), read_only=True).trials))
        machine("first")

    run(folder, after_epoch=look)
    assert seen
    machine("second")
    assert holder(local_run(url)) is None


@pytest.mark.parametrize("command", ["Run.stop", "st3sweep stop"])
def test_a_run_on_another_machine_can_be_stopped(
    command: str, url: str, machine: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = new(url, tmp_path / "space.yaml")
    machine("second")
    asked = []

    def ask(sweep: Sweep, trial: Trial) -> None:
        if not asked:
            wait_until(lambda: _exists(Objects(url), "store.json"))
            machine("second")
            if command == "Run.stop":
                load_run(url).stop(drain=True)
            else:
                code, *said = st3sweep(capsys, "stop", url, "--drain")
                assert code == 0
                assert f":{os.getpid()} to end when the running trials have ended" in "".join(said)
            machine("first")
            asked.append(command)
        wait_until((folder / STOP_REQUEST).exists)  # where its driver looks for it
        assert take_stop_request(folder) == "drain"
        raise Gone

    machine("first")
    with pytest.raises(Gone):
        run(folder, after_epoch=ask)


def test_a_stale_lock_is_taken_over_and_its_holder_stops(
    url: str, machine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = new(url, tmp_path / "space.yaml")
    store, said = Objects(url), list[str]()
    monkeypatch.setattr("st3sweep.commands.stored.warn", said.append)

    def take_over(sweep: Sweep, trial: Trial) -> None:
        if len(sweep.ledger.trials) == 3 and not said:
            while not _exists(store, "store.json"):  # written last
                time.sleep(0.02)
            monkeypatch.setattr(store_lock, "STALE_SECONDS", 0.0)
            StoreLock.take(store, 1)
            while not said:
                time.sleep(0.02)
        if said and (folder / "stop.request").exists():
            sweep.pause("asked to stop")

    sweep = run(folder, after_epoch=take_over)
    assert said == [f"{url}: another program runs this sweep now; nothing more is stored, and it stops here"]
    assert not sweep.is_complete()
    with store.open("ledger.jsonl") as file:
        assert len(file.read()) < (folder / "ledger.jsonl").stat().st_size


def test_an_upload_that_takes_long_does_not_make_the_lock_stale(
    url: str, machine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, began, upload = new(url, tmp_path / "space.yaml"), threading.Event(), Objects.upload

    def slow(self: Objects, name: str, file: Path) -> None:
        began.set()
        time.sleep(1.5)
        upload(self, name, file)

    monkeypatch.setattr(store_lock, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(store_lock, "STALE_SECONDS", 1.0)
    monkeypatch.setattr(Objects, "upload", slow)
    trial_folder(folder, 0).mkdir(parents=True)
    (trial_folder(folder, 0) / BEST).write_text("large")
    with kept_in_store(folder, checkpoints=True):
        assert began.wait(10.0)
        time.sleep(1.2)
        with pytest.raises(UserError, match="another program is running this sweep"):
            StoreLock.take(Objects(url), 1)
    StoreLock.take(Objects(url), 1)


def test_credentials_that_expire_delay_what_is_stored(
    url: str, machine: Any, tmp_path: Path, object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = list[str]()
    monkeypatch.setattr("st3sweep.commands.stored.warn", said.append)
    monkeypatch.setattr(mirror, "LONGEST_PAUSE_SECONDS", 0.1)
    folder = new(url, tmp_path / "space.yaml")

    def expire(sweep: Sweep, trial: Trial) -> None:
        epochs = sum(len(trial.epochs) for trial in sweep.ledger.trials.values())
        if epochs == 6:
            object_store.faults(refuse="ExpiredToken")
            while not said:
                time.sleep(0.02)

    sweep = run(folder, after_epoch=expire)
    assert sweep.is_complete()
    bucket = "/".join(url.split("/")[:3])
    expired = f"{bucket}: the credentials have expired; the sweep continues"
    assert said[0] == f"{expired}, and is stored once that is possible"
    assert len(said) == 2
    assert said[1].startswith(f"{bucket}: the credentials have expired; not stored: ")
    assert said[1].endswith(f"; store it with: st3sweep resume {url}")
    object_store.faults()
    monkeypatch.setattr(store_lock._Owner, "gone", lambda _: True)  # it was this program, which has not ended
    run(local_run(url))
    machine("second")
    assert outcome(local_run(url)) == outcome(folder)
    assert len(outcome(folder)) == 4


def test_tables_that_are_brought_know_no_more_than_the_ledger(
    url: str, machine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run continues while another machine brings it."""
    monkeypatch.setattr(table_rows, "SMALL_EPOCHS", -1)  # as in a large run, tables stay in parts
    monkeypatch.setattr(table_rows, "LEAST_INTERVAL_SECONDS", 0.0)
    monkeypatch.setattr(table_rows, "SHARE_OF_TIME", 1e9)
    folder, once = new(url, tmp_path / "space.yaml"), threading.Lock()
    with pytest.raises(Gone):
        run(folder, after_epoch=gone_after(5))

    class Meanwhile(Objects):
        def download(self, name: str, file: Path) -> None:
            with once:
                if len(Ledger(folder, read_only=True).trials) == 2:
                    machine("first")
                    with pytest.raises(Gone):
                        run(folder, after_epoch=gone_after(12))
                    machine("second")
            super().download(name, file)

    machine("second")
    second = bring(Meanwhile(url))
    assert len(read_table(second, "trials")) == 4
    for here, there in zip(tables(second), tables(folder), strict=True):
        pd.testing.assert_frame_equal(here, there)


def test_a_ledger_of_which_the_manifest_lacks_the_end_is_brought_whole(url: str, machine: Any, tmp_path: Path) -> None:
    """Its writer was killed between the two; the next program runs where all that the manifest names is already."""
    folder = new(url, tmp_path / "space.yaml")
    with pytest.raises(Gone):
        run(folder, after_epoch=gone_after(5))
    machine("second")
    second = local_run(url)
    before = (folder / LEDGER).read_bytes()
    ledger = Ledger(folder)
    ledger.add_done(0, "failed", {}, "Diverged")
    ledger.close()
    ObjectLog(Objects(url), LEDGER).append((folder / LEDGER).read_bytes()[len(before) :])
    assert (local_run(url) / LEDGER).read_bytes() == (folder / LEDGER).read_bytes()
    run(second)
    with Objects(url).open(LEDGER) as file:
        assert file.read() == (second / LEDGER).read_bytes()
    assert [trial.status for trial in Ledger(second, read_only=True).trials.values()] == ["failed", *["finished"] * 3]


def test_nothing_is_appended_to_a_ledger_that_is_not_the_one_here(
    url: str, machine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = list[str]()
    monkeypatch.setattr("st3sweep.commands.stored.warn", said.append)
    monkeypatch.setattr(mirror, "LONGEST_PAUSE_SECONDS", 0.1)
    folder = new(url, tmp_path / "space.yaml")
    with pytest.raises(Gone):
        run(folder, after_epoch=gone_after(5))
    store, before = Objects(url), Objects(url).read("store.json")
    monkeypatch.setattr(mirror, "INTERVAL_SECONDS", 0.5)
    with kept_in_store(folder, checkpoints=True), (folder / LEDGER).open("ab") as file:
        ObjectLog(store, LEDGER).append(b'{"event": "closed", "of": "another program"}\n')
        wait_until(lambda: bool(said))
        other = store.read("ledger.jsonl/000000")
        file.write(b'{"event": "closed", "of": "this program, which has more of it than the other one"}\n')
        file.flush()
        time.sleep(0.5)  # some cycles
    assert said[0].startswith(f"{url}: has another ledger than {folder}; ")
    assert (store.read("ledger.jsonl/000000"), store.read("store.json")) == (other, before)
    assert b"another program" in (local_run(url) / LEDGER).read_bytes()  # which the store's replaces


@contextmanager
def full_disk() -> Iterator[None]:
    """Let no file grow until the block ends."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _no_links(*_: Any) -> None:
    raise PermissionError("this file system has no hard links")


@pytest.mark.parametrize("links", [True, False])
def test_a_full_disk_ends_the_program_as_without_a_store(
    links: bool, url: str, machine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Store what is there; say which checkpoints can be neither linked nor copied."""
    said = list[str]()
    monkeypatch.setattr("st3sweep.commands.stored.warn", said.append)
    if not links:
        monkeypatch.setattr(os, "link", _no_links)
    monkeypatch.setattr(mirror, "INTERVAL_SECONDS", 60.0)  # it stores at the end only
    folder = new(url, tmp_path / "space.yaml")
    with ExitStack() as full:

        def fill(sweep: Sweep, trial: Trial) -> None:
            if len(trial.epochs) == 2:
                full.enter_context(full_disk())
                raise Gone

        with pytest.raises(Gone):
            run(folder, after_epoch=fill)
    StoreLock.take(Objects(url), 1).release()
    if links:
        with Objects(url).open(LEDGER) as file:
            assert file.read() == (folder / LEDGER).read_bytes()
        assert not said
    else:
        assert re.fullmatch(rf"{folder}: File too large; not stored: .*; store it with: st3sweep resume {url}", *said)
        run(local_run(url))
    machine("second")
    second = local_run(url)
    assert outcome(second) == outcome(folder)
    bring_trials(second, [0])
    assert (trial_folder(second, 0) / BEST).read_bytes() == (trial_folder(folder, 0) / BEST).read_bytes()


def test_a_trial_is_stored_once_a_full_disk_has_space_again(
    url: str, machine: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trials, "INTERVAL_SECONDS", 0.1)
    monkeypatch.setattr(os, "link", _no_links)
    seen = ""

    def said() -> bool:
        nonlocal seen
        seen += capsys.readouterr().out
        return "File too large; training continues" in seen

    with ExitStack() as full, trial_in_store(url, 4, {}, World(0, 1, torch.device("cpu"))) as folder:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / BEST).write_text("2 2")
        with full_disk():
            wait_until(said)
        wait_until(lambda: _exists(Objects(url), f"trials/0004/{BEST}"))
        (folder / BEST).write_text("3 3, of which the disk has no second copy")
        full.enter_context(full_disk())
    assert "File too large; not stored: " in capsys.readouterr().out


def test_no_credential_reaches_a_file(url: str, machine: Any, tmp_path: Path, object_store: ObjectStore) -> None:
    folder = new(url, tmp_path / "space.yaml")
    object_store.faults(busy=0.2)
    run(folder)
    object_store.faults()
    written = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    written += [Objects(url).read(name) for name, _ in Objects(url).list()]
    assert len(written) > 20
    assert not [content for content in written if KEY.encode() in content or SECRET.encode() in content]


def test_the_newer_checkpoints_are_those_of_the_machine_that_had_the_trial_last(
    url: str, machine: Any, tmp_path: Path
) -> None:
    """First machine 1, then machine 2, then machine 1 again, whose own are older; then 1 again, with newer ones."""
    store = Objects(url)

    def at(name: str) -> tuple[TrialStore, Path]:
        (tmp_path / name / "trials" / "0000").mkdir(parents=True, exist_ok=True)
        return TrialStore(store, tmp_path / name, 0), tmp_path / name / "trials" / "0000"

    def write(folder: Path, last: int, best: int) -> None:
        for name, value in ((BEST, best), (LAST, last)):
            (folder / f"{name}.new").write_text(str(value))
            os.replace(folder / f"{name}.new", folder / name)

    one, folder = at("one")
    write(folder, 3, 2)
    assert one.push()
    assert not one.push()
    two, elsewhere = at("two")
    two.pull()
    assert [(elsewhere / name).read_text() for name in (LAST, BEST)] == ["3", "2"]
    write(elsewhere, 7, 6)
    assert two.push()
    write(folder, 4, 4)  # one machine trained for an epoch without the store
    one.pull()
    assert [(folder / name).read_text() for name in (LAST, BEST)] == ["7", "6"]
    write(folder, 8, 8)
    one.pull()
    assert (folder / LAST).read_text() == "8"
    write(elsewhere, 9, 8)
    two.pull(exactly=True)  # as a rank that must start from what the first rank has
    assert [(elsewhere / name).read_text() for name in (LAST, BEST)] == ["7", "6"]
    one.keep_only([BEST])
    two.pull()
    assert sorted(find_checkpoints(elsewhere)) == [BEST]


def test_a_machine_that_returns_replaces_nothing_newer(url: str, machine: Any, tmp_path: Path) -> None:
    """It was killed after it saved a checkpoint and before it stored that; another machine went on."""
    folder = new(url, tmp_path / "space.yaml")
    with pytest.raises(Gone):
        run(folder, after_epoch=gone_after(5))
    best = trial_folder(folder, 0) / BEST
    (best.with_name("new")).write_text("3 3 of trial 0, never stored")
    os.replace(best.with_name("new"), best)
    machine("second")
    second = local_run(url)
    run(second)
    finished = (trial_folder(second, 0) / BEST).read_bytes()
    machine("first")
    with kept_in_store(local_run(url), checkpoints=True):
        pass
    assert Objects(url).read(f"trials/0000/{BEST}") == finished
    assert best.read_bytes() == finished
    machine("third")
    third = local_run(url)
    bring_trials(third, [0])
    assert (trial_folder(third, 0) / BEST).read_bytes() == finished


@pytest.mark.parametrize("command", ["load_model", "measure"])
def test_a_model_is_that_of_the_machine_that_finished_its_trial(
    command: str, url: str, machine: Any, tmp_path: Path
) -> None:
    folder = new(url, tmp_path / "space.yaml")
    with pytest.raises(Gone):
        run(folder, after_epoch=gone_after(5))
    best = trial_folder(folder, 0) / BEST
    assert state_of(best) == (2, 2)
    machine("second")
    run(local_run(url))
    machine("first")
    if command == "measure":  # which says in the table that it cannot read these files, of a few bytes
        assert len(load_run(url).measure([0])) == 1
    else:
        with pytest.raises(UserError, match=f"^{best}: "):
            load_run(url).load_model(0)
    assert state_of(best) == (EPOCHS, EPOCHS)


def test_a_file_system_without_links_stores_a_checkpoint_once(
    url: str, machine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", _no_links)
    trial = TrialStore(Objects(url), tmp_path, 0)
    trial.folder.mkdir(parents=True)
    (trial.folder / BEST).write_text("1")
    assert trial.push()
    assert not trial.push()
    (trial.folder / BEST).write_text("2 2")
    assert trial.push()
    assert Objects(url).read(f"trials/0000/{BEST}") == b"2 2"


def test_a_trial_that_begins_anew_replaces_what_a_killed_program_stored_of_it(
    url: str, machine: Any, tmp_path: Path
) -> None:
    """Checkpoints get into the store before the ledger, so the next program may not know that they are there."""
    stores = {name: TrialStore(Objects(url), tmp_path / name, 0) for name in ("killed", "next")}
    for name, trial in stores.items():
        trial.folder.mkdir(parents=True)
        (trial.folder / BEST).write_text(name)
        assert trial.push()
    stores["killed"].pull()
    assert (stores["killed"].folder / BEST).read_text() == "next"


@pytest.mark.slow
def test_a_worker_on_another_machine_goes_on_with_the_trial(
    url: str, machine: Any, tmp_path: Path, tiny_trial: Callable[..., TrialSettings], digits: Splits
) -> None:
    spec, alone = tiny_trial(), World(0, 1, torch.device("cpu"))
    stored = spec.model_dump(mode="json")
    with trial_in_store(url, 4, stored, alone) as folder:
        assert fit(spec, alone, lambda message: message.get("epoch") == 1, folder, digits)["status"] == "stopped"
    machine("second")
    with trial_in_store(url, 4, stored, alone) as second:
        assert second != folder
        found = fit(spec, alone, lambda _: False, second, digits)
    undisturbed = fit(spec, alone, lambda _: False, tmp_path / "undisturbed", digits)
    assert timeless(found) == timeless(undisturbed)
    best, whole = (checkpoint.load(Local(path), BEST)["model"] for path in (second, tmp_path / "undisturbed"))
    assert all(torch.equal(best[name], whole[name]) for name in whole)
    assert Objects(url).read(f"trials/0004/{BEST}") == (second / BEST).read_bytes()


def test_a_worker_stores_the_settings_of_its_trial(url: str, machine: Any) -> None:
    """The driver, which may be on another machine, stores no files of trials."""
    spec = {"seed": 3, "sparsity": {"method": "st3"}}
    with trial_in_store(url, 4, spec, World(0, 1, torch.device("cpu"))):
        pass
    assert yaml.safe_load(Objects(url).read("trials/0004/config.yaml")) == spec


def test_a_trial_is_interrupted_where_the_store_refuses_at_its_start(
    url: str, machine: Any, object_store: ObjectStore
) -> None:
    object_store.faults(refuse="AccessDenied")
    with (
        pytest.raises(StoreError, match="may not do that"),
        trial_in_store(url, 4, {}, World(0, 1, torch.device("cpu"))),
    ):
        pass
