"""Test the storage interface, on a local folder and in an object store: what others can see of each operation."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from st3sweep.util.storage.append_only import drop_torn_line
from st3sweep.util.storage.interface import Storage, Stored
from st3sweep.util.storage.local import Local
from st3sweep.util.storage.objects import Objects


@pytest.fixture(params=["folder", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "folder":
        return Local(tmp_path)
    return Objects(request.getfixturevalue("object_store").make_bucket(f"storage-{uuid.uuid4().hex}") + "/runs", ())


def read(storage: Storage, name: str) -> bytes:
    with storage.open(name) as file:
        return file.read()


def test_a_file_is_replaced_whole_or_not_at_all(storage: Storage) -> None:
    with storage.put("a/b/name") as file:
        file.write(b"old")
    with storage.put("a/b/name") as file:
        file.write(b"ne")
        file.flush()
        assert read(storage, "a/b/name") == b"old"
        file.write(b"w")
    assert read(storage, "a/b/name") == b"new"
    with pytest.raises(TypeError), storage.put("a/b/name") as file:
        file.writelines([b"half", None])  # type: ignore[list-item]
    assert read(storage, "a/b/name") == b"new"
    assert storage.list() == storage.list("a") == [Stored("a/b/name", 3)]


def test_a_replaced_file_is_kept_when_asked(storage: Storage) -> None:
    for content in (b"one", b"two", b"three"):
        with storage.put("a/last", keep="a/previous") as file:
            file.write(content)
    assert [read(storage, name) for name in ("a/last", "a/previous")] == [b"three", b"two"]
    with pytest.raises(ZeroDivisionError), storage.put("a/last", keep="a/previous"):
        _ = 1 / 0
    assert [read(storage, name) for name in ("a/last", "a/previous")] == [b"three", b"two"]
    assert [storage.where(file.name).endswith(f"/{file.name}") for file in storage.list()] == [True, True]


def test_the_place_itself_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), Local(tmp_path / "gone").put("a/b"):
        pass
    assert not (tmp_path / "gone").exists()


def test_of_programs_that_create_a_file_one_succeeds(storage: Storage) -> None:
    def create(number: int) -> bool:
        try:
            storage.create("lock", str(number).encode() * 1000)
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(create, range(8)))
    assert created.count(True) == 1
    assert read(storage, "lock") == str(created.index(True)).encode() * 1000
    assert storage.list() == [Stored("lock", 1000)]


def test_a_log_goes_on_where_it_ended(storage: Storage) -> None:
    log = storage.append("a/b.jsonl")
    log.append(b"one\n")
    log.append(b"two\nthree\n", sync=True)
    log.sync()
    assert log.size == 14
    log.close()
    log = storage.append("a/b.jsonl")
    assert log.size == 14
    log.append(b"four\n")
    assert (log.size, read(storage, "a/b.jsonl")) == (19, b"one\ntwo\nthree\nfour\n")
    log.close()


def test_a_log_keeps_whole_lines(tmp_path: Path) -> None:
    storage = Local(tmp_path)
    (tmp_path / "a.jsonl").write_bytes(b"one\ntwo\nthr")  # a kill
    log = storage.append("a.jsonl")
    log.append(b"four\n")
    assert (log.size, read(storage, "a.jsonl")) == (13, b"one\ntwo\nfour\n")
    log.close()


@pytest.mark.parametrize("whole", [0, 1, 10, 65_535, 65_536, 65_537, 200_000])
@pytest.mark.parametrize("torn", [0, 1, 65_536, 150_000])
def test_a_torn_line_of_any_length_is_dropped(whole: int, torn: int, tmp_path: Path) -> None:
    """Lengths around those of the pieces in which the end of the file is read."""
    lines = b"x" * (whole - 1) + b"\n" if whole else b""
    path = tmp_path / "lines"
    path.write_bytes(lines + b"y" * torn)
    drop_torn_line(path)
    assert path.read_bytes() == lines


def test_removing_what_is_not_there_is_no_error(storage: Storage) -> None:
    storage.remove("a/b")
    with storage.put("a/b"):
        pass
    storage.remove("a/b")
    assert storage.list() == []
