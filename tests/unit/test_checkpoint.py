"""Test that checkpoints that are truncated, altered, or of a process that died while writing are never loaded."""

from __future__ import annotations

import fractions
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from object_store import ObjectStore

from st3sweep.sparse.method import Method
from st3sweep.training.checkpoint import CheckpointError, load, load_latest, previous, save
from st3sweep.util.storage.local import Local
from st3sweep.util.storage.objects import Objects


def state(epoch: int) -> dict[str, Any]:
    return {"epoch": epoch, "w": torch.full((2, 3), float(epoch)), "history": [{"loss": 0.5, "at": True}], "best": None}


def place(path: Path) -> tuple[Local, str]:
    return Local(path.parent), path.name


def epoch_of(path: Path) -> int | None:
    saved, _ = load_latest(*place(path))
    return None if saved is None else saved["epoch"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a checkpoint of epoch 2, whose previous one is of epoch 1."""
    path = tmp_path / "last.ckpt"
    for epoch in (1, 2):
        save(*place(path), state(epoch), Method(), keep_previous=True)
    return path


def previous_of(path: Path) -> Path:
    return path.with_name(previous(path.name))


def test_loads_what_was_saved(path: Path) -> None:
    for name, epoch in ((path.name, 2), (previous(path.name), 1)):
        saved = load(Local(path.parent), name)
        assert torch.equal(saved.pop("w"), state(epoch)["w"])
        assert saved == {key: value for key, value in state(epoch).items() if key != "w"}
    assert sorted(path.parent.iterdir()) == [path, previous_of(path)]


def test_keeps_the_previous_one_only_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "best.ckpt"
    for epoch in (1, 2):
        save(*place(path), state(epoch), Method())
    assert list(tmp_path.iterdir()) == [path]
    assert epoch_of(path) == 2


@pytest.mark.parametrize("size", [0, 3, 8, 20, 39, 40, 41, 500, -1])
def test_a_truncated_file_is_refused(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CheckpointError, match=rf"{path}: truncated or altered"):
        load(*place(path))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.floats(0, 1, exclude_max=True), bits=st.integers(1, 255))
def test_an_altered_byte_is_found(path: Path, where: float, bits: int) -> None:
    content = bytearray(previous_of(path).read_bytes())
    content[int(where * len(content))] ^= bits
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=str(path)):
        load(*place(path))


def test_the_previous_one_is_loaded_with_a_message_on_the_damaged_one(path: Path) -> None:
    assert load_latest(*place(path))[1] == []
    path.write_bytes(path.read_bytes()[:-1])
    saved, refused = load_latest(*place(path))
    assert saved is not None
    assert saved["epoch"] == 1
    assert len(refused) == 1
    assert refused[0].startswith(f"{path}: ")
    previous_of(path).write_bytes(b"")
    saved, refused = load_latest(*place(path))
    assert saved is None
    assert [str(path) in refused[0], str(previous_of(path)) in refused[1]] == [True, True]


def test_a_checkpoint_in_an_object_store(object_store: ObjectStore) -> None:
    store = Objects(object_store.make_bucket("checkpoints") + "/runs", ())
    for epoch in (1, 2, 3):
        save(store, "0/last.ckpt", state(epoch), Method(), keep_previous=True)
    assert [load(store, name)["epoch"] for name in ("0/last.ckpt", previous("0/last.ckpt"))] == [3, 2]
    store.write("0/last.ckpt", store.read("0/last.ckpt")[:-1])
    saved, refused = load_latest(store, "0/last.ckpt")
    assert saved is not None
    assert saved["epoch"] == 2
    assert refused[0].startswith(f"{store.url}/0/last.ckpt: truncated or altered")


def test_a_missing_checkpoint(tmp_path: Path) -> None:
    assert load_latest(Local(tmp_path), "last.ckpt") == (None, [])


def test_a_leftover_temporary_file_is_ignored(path: Path) -> None:
    leftover = path.with_name(f".{path.name}.tmp")
    leftover.write_bytes(path.read_bytes()[:100])
    assert epoch_of(path) == 2
    save(*place(path), state(3), Method(), keep_previous=True)
    assert epoch_of(path) == 3
    assert not leftover.exists()


@pytest.mark.parametrize("calls", [0, 1, 2])
def test_a_crash_while_saving_leaves_an_intact_file(path: Path, monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
    """The process dies after 0, 1 or 2 of the three calls that make the file permanent: fsync, replace, replace."""
    done: list[str] = []

    def until_it_dies(real: Any) -> Any:
        def wrapped(*args: Any) -> None:
            if len(done) == calls:
                raise KeyboardInterrupt
            done.append(real.__name__)
            real(*args)

        return wrapped

    monkeypatch.setattr(os, "fsync", until_it_dies(os.fsync))
    monkeypatch.setattr(os, "replace", until_it_dies(os.replace))
    with pytest.raises(KeyboardInterrupt):
        save(*place(path), state(3), Method(), keep_previous=True)
    monkeypatch.undo()
    assert done == ["fsync", "replace"][:calls]
    assert epoch_of(path) == 2
    save(*place(path), state(3), Method(), keep_previous=True)
    assert epoch_of(path) == 3


def test_loading_runs_no_code(path: Path) -> None:
    """An intact file with a valid checksum contains an object that is neither a tensor nor a plain value."""
    save(*place(path), {"half": fractions.Fraction(1, 2)}, Method(), keep_previous=True)
    with pytest.raises(CheckpointError, match=f"{path}: .*tensors and plain values"):
        load(*place(path))
    assert epoch_of(path) == 2
