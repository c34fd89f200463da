"""Staging packs: one copy a host, whole or not at all, checked, and results are those without it."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from object_store import ObjectStore
from small_datasets import write_cifar_batches, write_folder

from st3sweep import data
from st3sweep.commands import doctor
from st3sweep.commands.pack import pack_data
from st3sweep.commands.plan import check_data, plan_text
from st3sweep.data import DataError, StagingError
from st3sweep.data.pack import place, staging
from st3sweep.space.loading import load_space, load_trial
from st3sweep.training import checkpoint
from st3sweep.training.checkpoint_files import BEST
from st3sweep.training.loop import fit
from st3sweep.training.world import World
from st3sweep.trial.data import DataConfig
from st3sweep.trial.recipes import resolve
from st3sweep.trial.settings import TrialSettings
from st3sweep.util.errors import SpecError, UserError
from st3sweep.util.storage.local import Local
from st3sweep.util.storage.objects import Objects

FORK = multiprocessing.get_context("fork")
FILES = ["manifest.json", "staged.json", "test.npz", "test.pixels", "train.npz", "train.pixels"]
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder for copies. Files are read in many blocks, each with a line of progress."""
    monkeypatch.setenv("ST3SWEEP_STAGE", str(tmp_path / "stage"))
    monkeypatch.setattr(place, "BLOCK", 10_000)
    monkeypatch.setattr(staging, "SAY_SECONDS", 0.0)
    monkeypatch.setattr(staging, "_POLL_SECONDS", 0.01)
    return tmp_path / "stage"


@pytest.fixture
def pack(tmp_path: Path) -> DataConfig:
    """Return the settings that read a pack of 20 images to train on and 6 to test on, 80 kB."""
    write_cifar_batches(tmp_path / "root")
    asked = DataConfig.parse({"dataset": "cifar10", "root": str(tmp_path / "root"), "validation": 5})
    data.make_pack(asked, tmp_path / "pack")
    return asked.model_copy(update={"pack": str(tmp_path / "pack")})


def pixels(splits: data.Splits) -> list[torch.Tensor]:
    """Return the images of all splits."""
    parts = [part for part in (splits.train, splits.validation, splits.test) if part is not None]
    return [part.fetch(torch.arange(len(part)), 0, 0, False) for part in parts]


def assert_equal(first: data.Splits, second: data.Splits) -> None:
    assert all(torch.equal(a, b) for a, b in zip(pixels(first), pixels(second), strict=True))
    assert torch.equal(first.train.labels, second.train.labels)


def copies(stage: Path) -> list[Path]:
    return sorted(path for path in stage.iterdir() if path.is_dir())


def mapped() -> set[str]:
    """Return the files of pixels that this process maps."""
    return {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if ".pixels" in line}


def in_process(do: Callable[[], Any]) -> int:
    """Run ``do`` in a fork; return its exit code."""
    process = FORK.Process(target=do)
    process.start()
    process.join()
    return process.exitcode


# -- the same data ----------------------------------------------------------------------------------------------


@linux
def test_the_copy_is_mapped_and_equals_the_pack(pack: DataConfig, stage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    splits = data.load(pack, said.append)
    (copy,) = copies(stage)
    assert {str(copy / "train.pixels"), str(copy / "test.pixels")} <= mapped()
    assert sorted(path.name for path in copy.iterdir()) == FILES
    assert said[0].startswith(f"copying {pack.pack} to {stage}: 6% of ")
    assert said[-2].endswith(": 100% of 82.8 kB copied and checked")
    assert said[-1].startswith(f"copied {pack.pack} to {copy}: 82.8 kB in ")
    monkeypatch.delenv("ST3SWEEP_STAGE")
    assert_equal(splits, data.load(pack))
    assert_equal(splits, data.load(pack.model_copy(update={"pack": str(copy)})))


def test_photographs(tmp_path: Path, stage: Path) -> None:
    write_folder(tmp_path / "root", size=(100, 70))
    fields = {"dataset": "image_folder", "root": str(tmp_path / "root"), "image_size": 32, "validation": 4}
    data.make_pack(DataConfig.parse(fields), tmp_path / "pack")
    asked = DataConfig.parse({**fields, "pack": str(tmp_path / "pack")})
    staged = data.load(asked)
    os.environ.pop("ST3SWEEP_STAGE")
    assert_equal(staged, data.load(asked))


def test_a_trial_has_the_same_digest_and_result(
    pack: DataConfig, stage: Path, tmp_path: Path, tiny_trial: Callable[..., TrialSettings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def trained(folder: str) -> tuple[str, list[dict[str, Any]], dict[str, torch.Tensor]]:
        asked = pack.model_dump(include={"dataset", "root", "pack", "validation"})
        trial = resolve({**tiny_trial(train={"epochs": 2, "batch_size": 5}).model_dump(mode="json"), "data": asked})
        records: list[dict[str, Any]] = []
        end = fit(trial, World(), lambda record: bool(records.append(record)), tmp_path / folder)
        numbers = [{k: v for k, v in one.items() if "seconds" not in k} for one in (*records, end)]
        weights = checkpoint.load(Local(tmp_path / folder), BEST, World().device)["model"]
        return trial.digest(), numbers, weights

    digest, records, weights = trained("staged")
    assert len(copies(stage)) == 1
    monkeypatch.delenv("ST3SWEEP_STAGE")
    digest_without, records_without, weights_without = trained("where-it-lies")
    assert (digest, records) == (digest_without, records_without)
    assert all(torch.equal(weights[name], tensor) for name, tensor in weights_without.items())


# -- one copy ---------------------------------------------------------------------------------------------------


@linux
def test_of_processes_that_start_together_one_copies_and_all_map_one_file(pack: DataConfig, stage: Path) -> None:
    start, results = FORK.Barrier(3), FORK.SimpleQueue()

    def load() -> None:
        said: list[str] = []

        def say(line: str) -> None:
            said.append(line)
            if len(said) == 1 and line.startswith("copying"):
                staging.time.sleep(0.2)  # while the others find the lock held

        start.wait()
        splits = data.load(pack, say)
        maps = Path("/proc/self/maps").read_text().splitlines()
        files = {tuple(line.split()[3:5]) for line in maps if line.endswith("train.pixels") and str(stage) in line}
        results.put((Counter(line.split()[0] for line in said), files, int(pixels(splits)[0].sum())))

    processes = [FORK.Process(target=load) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    said, files, sums = zip(*(results.get() for _ in processes), strict=True)
    assert sorted(one["copied"] for one in said) == [0, 0, 1]
    assert sorted(one["waiting"] > 3 for one in said) == [False, True, True], "they are heard of while they wait"
    assert len(set.union(*files)) == 1, "device and inode"
    assert len(set(sums)) == 1
    assert len(copies(stage)) == 1


def test_later_programs_and_packs_of_the_same_content_share_the_copy(
    pack: DataConfig, stage: Path, tmp_path: Path
) -> None:
    data.load(pack)
    said: list[str] = []
    data.load(pack, said.append)
    shutil.copytree(pack.pack, tmp_path / "mounted" / "elsewhere")
    data.load(pack.model_copy(update={"pack": str(tmp_path / "mounted" / "elsewhere")}), said.append)
    assert said == []
    assert len(copies(stage)) == 1


def test_a_pack_made_again_is_copied_again_and_its_old_copy_removed(
    pack: DataConfig, stage: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    write_folder(tmp_path / "photographs", size=(100, 70))
    fields = {"dataset": "image_folder", "root": str(tmp_path / "photographs"), "image_size": 32, "validation": 4}
    data.make_pack(DataConfig.parse(fields), other)
    data.load(DataConfig.parse({**fields, "pack": str(other)}))
    (kept,) = copies(stage)
    before = data.load(pack)
    pixels_before = pixels(before)
    (old,) = set(copies(stage)) - {kept}
    (stage / "thesis").mkdir()
    _change_data(pack)
    after = data.load(pack)
    assert not old.exists()
    assert kept.exists()
    assert (stage / "thesis").exists()
    assert len(copies(stage)) == 3
    assert not torch.equal(pixels(after)[0], pixels_before[0])
    assert all(torch.equal(a, b) for a, b in zip(pixels(before), pixels_before, strict=True)), "still mapped"


def _change_data(pack: DataConfig) -> None:
    """Replace the images and make the pack again."""
    shutil.rmtree(Path(pack.root))
    write_cifar_batches(Path(pack.root), per_batch=5)
    data.make_pack(pack, Path(pack.pack))


def test_a_pack_made_again_while_it_is_copied(pack: DataConfig, stage: Path) -> None:
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if len(said) == 3:
            _change_data(pack)

    assert len(data.load(pack, say).train) == 20, "25 images, of which 5 validate"
    assert sum(line.startswith("copied") for line in said) == 1
    assert len(copies(stage)) == 1


def test_a_pack_without_the_checksum_of_its_pixels(pack: DataConfig, stage: Path) -> None:
    """Those of earlier versions: their pixels are known by their time."""
    path = Path(pack.pack) / "manifest.json"
    manifest = json.loads(path.read_text())
    for split in manifest["splits"].values():
        del split["pixels_sha256"]
    path.write_text(json.dumps(manifest))
    before = pixels(data.load(pack))[0]
    with (Path(pack.pack) / "train.pixels").open("r+b") as file:
        file.write(bytes(20 * 3072))
    assert before.any()
    assert not pixels(data.load(pack))[0].any()
    assert len(copies(stage)) == 1


# -- whole or not at all ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["while copying", "while checking", "before the rename"])
def test_a_killed_copier_leaves_nothing_that_counts(pack: DataConfig, stage: Path, when: str) -> None:
    def die() -> None:
        def kill(*_: Any) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        if when == "before the rename":
            Path.rename = kill  # type: ignore[method-assign]
        at = {"while copying": 2, "while checking": 12}.get(when, 1000)
        said: list[str] = []
        data.load(pack, lambda line: said.append(line) or (kill() if len(said) == at else None))

    assert in_process(die) == -signal.SIGKILL
    (part,) = copies(stage)
    assert part.suffix == ".part"
    assert (part / "train.pixels").exists()
    said: list[str] = []
    splits = data.load(pack, said.append)
    assert [path.suffix for path in copies(stage)] == [""]
    assert said[-1].startswith("copied")
    os.environ.pop("ST3SWEEP_STAGE")
    assert_equal(splits, data.load(pack))


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", ["missing", "cut", "changed"])
def test_a_damaged_copy_is_made_again(pack: DataConfig, stage: Path, file: str, damage: str) -> None:
    data.load(pack)
    (copy,) = copies(stage)
    path = copy / file
    whole, stamp = path.read_bytes(), path.stat().st_mtime_ns
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(whole[:-1] if damage == "cut" else bytes([whole[0] ^ 1]) + whole[1:])
        if path.suffix == ".npz":
            os.utime(path, ns=(stamp, stamp))  # found by its checksum
    said: list[str] = []
    data.load(pack, said.append)
    assert said[0] == f"the copy {copy} is damaged: copying it again"
    assert copies(stage) == [copy]
    assert path.read_bytes() == whole or file == "staged.json"


def test_a_pack_that_is_not_what_its_manifest_says_is_not_copied(pack: DataConfig, stage: Path) -> None:
    path = Path(pack.pack) / "test.pixels"
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    with pytest.raises(StagingError, match=rf"^ST3SWEEP_STAGE: {path} is corrupt, .*: its SHA-256 differs$"):
        data.load(pack)
    assert copies(stage) == []


def test_a_disk_that_loses_a_bit(pack: DataConfig, stage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def lose(descriptor: int) -> None:
        fsync(descriptor)
        os.pwrite(descriptor, b"\x00\x01\x02\x03", 4000)

    monkeypatch.setattr(staging.os, "fsync", lose)
    with pytest.raises(StagingError, match=r"train\.pixels is not what was written to it: is the disk broken\?$"):
        data.load(pack)
    assert copies(stage) == []


# -- no room ----------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(stage: Path) -> Iterator[Path]:
    """Mount 64 KiB of memory as ``stage``."""
    stage.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(stage)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount a file system")
    yield stage
    subprocess.run(["umount", str(stage)], check=True)


def test_no_room(pack: DataConfig, stage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data.load(pack)
    shutil.copytree(copies(stage)[0], stage / f"pack-{'0' * 32}")
    (stage / f"pack-{'0' * 32}" / "staged.json").write_text('{"from": "/another"}')
    _change_data(pack)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=80_000))
    with pytest.raises(StagingError) as raised:
        data.load(pack)
    assert str(raised.value) == (
        f"ST3SWEEP_STAGE: {stage} has 80 kB free, the copy of {pack.pack} needs 98.5 kB; "
        "copies of other packs there take 83.6 kB"
    )


def test_a_disk_too_small(pack: DataConfig, small_disk: Path) -> None:
    with pytest.raises(StagingError) as raised:
        data.load(pack)
    wanted = f"ST3SWEEP_STAGE: {small_disk} has 65.5 kB free, the copy of {pack.pack} needs 82.8 kB"
    assert str(raised.value) == wanted
    assert copies(small_disk) == []


def test_a_disk_that_another_program_fills_meanwhile(
    pack: DataConfig, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**9))
    with pytest.raises(StagingError) as raised:
        data.load(pack)
    assert str(raised.value) == f"ST3SWEEP_STAGE: cannot copy {pack.pack} to {small_disk}: No space left on device"
    assert copies(small_disk) == []


# -- messages ---------------------------------------------------------------------------------------------------


def test_unusable_folders(pack: DataConfig, stage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ST3SWEEP_STAGE", "scratch")
    for look in (data.inspect, data.load):
        with pytest.raises(StagingError, match=r"^ST3SWEEP_STAGE: must be an absolute path \(got 'scratch'\)$"):
            look(pack)
    monkeypatch.setenv("ST3SWEEP_STAGE", str(tmp_path / "not-mounted" / "packs"))
    with pytest.raises(StagingError, match=r"not-mounted/packs: No such file or directory$"):
        data.load(pack)
    assert not (tmp_path / "not-mounted").exists(), "the system's disk would fill"
    with pytest.raises(DataError, match="no pack in"):  # which comes first
        data.load(pack.model_copy(update={"pack": str(tmp_path / "none")}))


def test_doctor_and_plan_say_where(
    pack: DataConfig, stage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "space.yaml"
    asked = f"{{dataset: cifar10, root: {pack.root}, pack: {pack.pack}, validation: 5}}"
    file.write_text(
        "schema: st3sweep/v1\nname: staged\nsearch: {sparsity.target: {choice: [0.5]}}\nbudget: {trials: 1}\n"
        f"trial: {{model: {{arch: cifar_resnet, depth: 8, width: 4}}, data: {asked}, "
        "train: {epochs: 1, batch_size: 4}, sparsity: {method: st3}}\n"
    )

    def said() -> tuple[list[str], str]:
        checks = [f"{check.state}: {check.found}" for check in doctor._data(file, []) if check.name == "pack"]
        space = load_space(file)
        plan = plan_text(space, check_data(space)).replace("\n" + " " * 12, " ")
        (line,) = [line for line in plan.splitlines() if line.startswith("pack")]
        return checks, line.removeprefix("pack        ")

    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5e9))
    will = f"{pack.pack}{{}} copied to {stage} once per host: 82.8 kB, with 5 GB free on this one"
    assert said() == ([f"ok: {will.format(':')}"], will.format(","))
    assert not stage.exists(), "nothing is made"
    data.load(pack)
    assert said()[0] == [f"ok: {pack.pack}: mapped from its copy {copies(stage)[0]}"]
    shutil.rmtree(stage)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    assert said()[0][0].startswith(f"fail: ST3SWEEP_STAGE: {tmp_path} has 0 B free")
    monkeypatch.delenv("ST3SWEEP_STAGE")
    assert said() == ([f"ok: {pack.pack}: mapped where it lies"], f"{pack.pack}, mapped where it lies")


# -- object stores ----------------------------------------------------------------------------------------------


@pytest.fixture
def stored(pack: DataConfig, object_store: ObjectStore) -> DataConfig:
    """Return the settings that read the pack from an object store."""
    url = object_store.make_bucket("packs") + "/cifar10"
    for file in Path(pack.pack).iterdir():
        Objects(url).upload(file.name, file)
    return pack.model_copy(update={"pack": url})


def test_a_pack_in_an_object_store_is_mapped_from_its_copy(
    pack: DataConfig, stored: DataConfig, stage: Path, object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert data.inspect(stored) == data.inspect(pack)
    assert not stage.exists(), "counting needs no copy"
    object_store.faults(busy_next=2)
    monkeypatch.setattr(place, "_REQUESTS", 3)  # of seven blocks
    said: list[str] = []
    splits = data.load(stored, said.append)
    assert said[0].startswith(f"copying {stored.pack} to {stage}: ")
    data.load(pack, said.append)  # the same content: nothing is copied
    assert len([line for line in said if line.startswith("copied")]) == len(copies(stage)) == 1
    monkeypatch.delenv("ST3SWEEP_STAGE")
    assert_equal(splits, data.load(pack))
    with pytest.raises(StagingError, match=rf"^ST3SWEEP_STAGE: must name a folder on local disk: {stored.pack} is in"):
        data.load(stored)


def test_a_damaged_pack_in_an_object_store(pack: DataConfig, stored: DataConfig, stage: Path) -> None:
    store, content = Objects(stored.pack), (Path(pack.pack) / "train.pixels").read_bytes()
    store.write("train.pixels", content[:-1])
    with pytest.raises(StagingError, match=r"packs/cifar10/train\.pixels is corrupt"):
        data.load(stored)
    store.remove("train.pixels")
    with pytest.raises(StagingError, match=r"^ST3SWEEP_STAGE: cannot copy s3://packs/cifar10 to .*: .*not found$"):
        data.load(stored)
    assert copies(stage) == []
    manifest = json.loads(store.read("manifest.json"))
    del manifest["splits"]["test"]["pixels_sha256"]
    store.write("manifest.json", json.dumps(manifest).encode())
    with pytest.raises(StagingError, match=r"cifar10 has no checksum of its pixels; .*copy it there$"):
        data.load(stored)  # nothing would tell its copy from that of another pack
    store.remove("manifest.json")
    with pytest.raises(DataError, match=r"^data\.pack: s3://packs/cifar10 is an incomplete pack: .* copy it there$"):
        data.inspect(stored)


def test_addresses_of_packs_in_files(tmp_path: Path) -> None:
    def pack_of(address: str) -> str:
        (tmp_path / "trial.yaml").write_text(
            "model: {arch: cifar_resnet, depth: 8, width: 4}\ntrain: {epochs: 1, batch_size: 4}\n"
            f"sparsity: {{method: st3, target: 0.5}}\ndata: {{dataset: cifar10, root: images, pack: {address}}}\n"
        )
        return load_trial(tmp_path / "trial.yaml").data.pack

    assert pack_of("s3://bucket/packs/cifar10/") == "s3://bucket/packs/cifar10"
    assert pack_of("packs/cifar10") == str(Path("packs/cifar10").absolute())
    with pytest.raises(SpecError, match=r"trial\.yaml:4:\d+: data\.pack: .* begins with s3://, gs:// or az://$"):
        pack_of("ftp://bucket/packs")
    pack_of("s3://bucket/cifar10")
    with pytest.raises(UserError, match=r"^s3://bucket/cifar10: a pack is made in a folder: name one with --out"):
        pack_data(tmp_path / "trial.yaml", {}, None, None, lambda *_: None)
