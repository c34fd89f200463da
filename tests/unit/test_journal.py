"""The study's journal: Optuna reads and writes it at the same time, and a failed write leaves no trace."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from st3sweep.runs.ledger import LedgerError
from st3sweep.search.journal import Journal


def study_in(backend: Any) -> optuna.Study:
    return optuna.create_study(study_name="study", storage=JournalStorage(backend), load_if_exists=True)


def test_another_program_sees_trials_while_they_run_and_may_write_notes(tmp_path: Path) -> None:
    ours = study_in(Journal(tmp_path / "journal"))
    theirs = study_in(JournalFileBackend(str(tmp_path / "journal")))
    for number in range(3):
        trial = ours.ask()
        value = trial.suggest_float("x", 0, 1)
        assert [one.state for one in theirs.trials][number] == TrialState.RUNNING
        theirs.set_user_attr(f"note {number}", "good")
        theirs._storage.set_trial_user_attr(theirs.trials[number]._trial_id, "note", number)
        ours.tell(trial, value)
        assert theirs.trials[number].value == value
    assert ours.user_attrs == {"note 0": "good", "note 1": "good", "note 2": "good"}
    assert [trial.user_attrs for trial in ours.trials] == [{"note": number} for number in range(3)]
    assert study_in(Journal(tmp_path / "journal")).trials == ours.trials == theirs.trials


def test_a_line_half_written_by_another_program_is_read_once_complete(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    with open(tmp_path / "journal", "ab", buffering=0) as file:
        file.write(b'{"a":1}\n{"b"')
        assert list(journal.read_logs(0)) == [{"a": 1}]
        assert list(journal.read_logs(1)) == []
        file.write(b":2}\n")
        assert list(journal.read_logs(1)) == [{"b": 2}]
    assert list(journal.read_logs(0)) == [{"a": 1}, {"b": 2}]
    assert list(journal.read_logs(1)) == [{"b": 2}]


def test_a_full_disk_leaves_whole_lines_and_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "journal")
    journal.append_logs([{"a": 1}])

    class HalfWritten:
        def __init__(self, file: Any):
            self.file = file

        def write(self, data: bytes) -> int:
            return self.file.write(data[: len(data) // 2])

        def fileno(self) -> int:
            return self.file.fileno()

    whole = journal._written
    monkeypatch.setattr(journal, "_written", HalfWritten(whole))
    with pytest.raises(LedgerError, match=r"journal: cannot be written \(No space left on device\)"):
        journal.append_logs([{"b": 2}, {"c": 3}])
    monkeypatch.setattr(journal, "_written", whole)
    journal.append_logs([{"d": 4}])
    assert list(journal.read_logs(0)) == [{"a": 1}, {"d": 4}]
    assert os.listdir(tmp_path) == ["journal"]
