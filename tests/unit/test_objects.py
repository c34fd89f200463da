"""Test the object store as a backend: logs in parts, a store that is busy, and one line for each refusal."""

from __future__ import annotations

import importlib
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from object_store import KEY, SECRET, ObjectStore

from st3sweep.util.errors import UserError
from st3sweep.util.storage import objects
from st3sweep.util.storage.object_errors import StoreError
from st3sweep.util.storage.objects import Objects
from st3sweep.util.storage.urls import check_url, url_of

QUICK = (0.01, 0.02, 0.02, 0.02)


@pytest.fixture
def url(object_store: ObjectStore) -> str:
    return object_store.make_bucket(f"objects-{uuid.uuid4().hex}") + "/runs"


def test_a_full_part_is_never_written_again(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "PART_BYTES", 10)
    store = Objects(url, QUICK)
    log = store.append("log")
    for lines in (b"one\n", b"two\nthree\n", b"four\n"):
        log.append(lines)
    assert [tuple(one) for one in store.list()] == [("log/000000", 14), ("log/000001", 5)]
    log = Objects(url, QUICK).append("log")
    log.append(b"five\n")
    log.append(b"six\n")
    assert [tuple(one) for one in store.list()] == [("log/000000", 14), ("log/000001", 10), ("log/000002", 4)]
    assert log.size == 28
    with store.open("log") as file:
        assert file.read() == b"one\ntwo\nthree\nfour\nfive\nsix\n"


def test_a_log_is_found_where_the_list_is_stale(url: str, object_store: ObjectStore) -> None:
    store = Objects(url, QUICK)
    store.append("log").append(b"one\n")
    object_store.faults(stale=True)
    assert store.list() == []
    assert store.append("log").size == 4


def test_requests_that_a_busy_store_refuses_are_repeated(url: str, object_store: ObjectStore) -> None:
    store = Objects(url, QUICK)
    object_store.faults(busy_next=len(QUICK))
    store.write("a", b"1")
    object_store.faults(busy_next=len(QUICK) + 1)
    with pytest.raises(StoreError, match=r"^s3://objects-\w+: the store is busy$") as caught:
        store.write("a", b"2")
    assert caught.value.passes
    object_store.faults()
    assert store.read("a") == b"1"


def test_a_file_whose_creation_was_not_answered_was_created(url: str, object_store: ObjectStore) -> None:
    store = Objects(url, QUICK)
    object_store.faults(lose_answers=1)
    store.create("lock", b"mine")
    assert store.read("lock") == b"mine"
    object_store.faults(busy_next=1)
    with pytest.raises(FileExistsError):
        store.create("lock", b"of another")
    with pytest.raises(FileExistsError):
        store.create("lock", b"mine")


def test_files_go_there_and_back(url: str, tmp_path: Path) -> None:
    store, content = Objects(url, QUICK), bytes(range(256)) * 5000
    (tmp_path / "there").write_bytes(content)
    store.upload("a/b.ckpt", tmp_path / "there")
    store.download("a/b.ckpt", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content == store.read("a/b.ckpt")
    with pytest.raises(FileNotFoundError):
        store.download("a/c.ckpt", tmp_path / "none")


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ({"refuse_writes": "AccessDenied"}, "refused: these credentials may not do that (is the bucket read-only"),
        ({"refuse": "InvalidAccessKeyId"}, "refused: the store does not know this access key"),
        ({"refuse": "SignatureDoesNotMatch"}, "refused: the secret key does not fit the access key"),
        ({"refuse": "RequestTimeTooSkewed"}, "refused: this machine's clock is wrong"),
        ({"refuse_writes": "PermanentRedirect"}, "is in another region; set AWS_DEFAULT_REGION"),
        ({"refuse": "AuthorizationHeaderMalformed"}, "is in another region; set AWS_DEFAULT_REGION"),
        ({"refuse": "ExpiredToken"}, "the credentials have expired"),
    ],
)
def test_a_refusal_is_one_line_without_the_stores_words(
    fault: dict[str, str], line: str, url: str, object_store: ObjectStore
) -> None:
    store = Objects(url, QUICK)
    object_store.faults(**fault)
    with pytest.raises(StoreError) as caught:
        store.write("a", b"")
    text = str(caught.value)
    assert text.startswith(f"{url.removesuffix('/runs')}: {line}")
    assert "\n" not in text
    assert KEY not in text
    assert SECRET not in text
    assert not caught.value.passes


def test_there_is_no_such_bucket(object_store: ObjectStore) -> None:
    store = Objects("s3://no-such-bucket/runs", QUICK)
    for do in (lambda: store.write("a", b""), lambda: store.read("a"), lambda: store.create("a", b""), store.list):
        with pytest.raises(StoreError, match=r"^s3://no-such-bucket: there is no such bucket$"):
            do()


@pytest.fixture
def _connect_anew(object_store: ObjectStore) -> Iterator[None]:
    """Forget the connections that this process has."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    yield
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.usefixtures("_connect_anew")
def test_there_are_no_credentials(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoreError, match="no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        Objects(url, QUICK).write("a", b"")


@pytest.mark.usefixtures("_connect_anew")
def test_nothing_answers(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match="cannot be reached") as caught:
        Objects(url, ()).write("a", b"")
    assert caught.value.passes


def test_the_extra_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(importlib.import_module("fsspec.registry")._registry, "s3", raising=False)
    with pytest.raises(UserError, match=r"needs the extra s3; install it with: pip install 'st3sweep\[s3\]'"):
        Objects("s3://bucket/runs")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://host/runs", "must be a folder, or an address that begins with s3://"),
        ("s3://key:very-secret@bucket/runs", "an address holds no credentials"),
    ],
)
def test_an_address_that_cannot_be_used(url: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        check_url(url)
    assert message in str(caught.value)
    assert "very-secret" not in str(caught.value)


def test_an_address_survives_pathlib() -> None:
    assert url_of(Path("s3://bucket/a/b")) == url_of("s3://bucket/a/b/") == "s3://bucket/a/b"
    assert url_of(Path("runs/a")) is None
    assert url_of(Path("/tmp/a:/b")) is None


def test_the_server_of_the_tests_ends_with_a_program_that_is_killed() -> None:
    for package in ("moto", "flask_cors"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    program = "import object_store, time; s = object_store.ObjectStore(); print(s.endpoint, flush=True); time.sleep(99)"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    started = [sys.executable, "-c", program]
    with subprocess.Popen(started, stdout=subprocess.PIPE, text=True, env=environment) as killed:
        assert killed.stdout is not None
        host, port = killed.stdout.readline().strip().removeprefix("http://").split(":")
        time.sleep(0.2)
        assert _answers(host, int(port))
        killed.kill()
    end = time.monotonic() + 30
    while _answers(host, int(port)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not _answers(host, int(port))


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port)).close()
    except ConnectionRefusedError:
        return False
    return True
