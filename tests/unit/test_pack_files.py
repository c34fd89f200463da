"""The files of a pack: incomplete, damaged and stale ones are refused, whole ones are mapped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from packs import assert_equal, epoch_of, packed, photographs, spec, write_squares
from small_datasets import cut, encoded, write_cifar_batches

from st3sweep import data
from st3sweep.data import DataError
from st3sweep.data.images import ArrayImages
from st3sweep.trial.data import DataConfig

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def cifar_pack(tmp_path: Path) -> DataConfig:
    write_cifar_batches(tmp_path / "root")
    return packed(tmp_path / "pack", dataset="cifar10", root=tmp_path / "root", validation=5)


def refused(asked: DataConfig) -> str:
    """Return the message that inspect and load both raise."""
    with pytest.raises(DataError) as inspected:
        data.inspect(asked)
    with pytest.raises(DataError) as loaded:
        data.load(asked)
    assert str(inspected.value) == str(loaded.value)
    assert inspected.value.field == "data.pack"
    return inspected.value.message


def test_a_missing_or_incomplete_pack(cifar_pack: DataConfig) -> None:
    folder = Path(cifar_pack.pack)
    manifest = (folder / "manifest.json").read_text()
    (folder / "manifest.json").unlink()
    assert f"{folder} is an incomplete pack" in refused(cifar_pack)
    (folder / "manifest.json").write_text(manifest[:100])
    assert f"cannot read {folder / 'manifest.json'}" in refused(cifar_pack)
    (folder / "manifest.json").write_text(json.dumps({**json.loads(manifest), "format": 3}))
    assert "has format 3, this version reads 2" in refused(cifar_pack)
    assert "no pack in" in refused(cifar_pack.model_copy(update={"pack": str(folder / "none")}))


@pytest.mark.parametrize("name", ["train.pixels", "test.pixels", "train.npz"])
def test_a_truncated_or_missing_file_of_a_pack(cifar_pack: DataConfig, name: str) -> None:
    path = Path(cifar_pack.pack) / name
    size = path.stat().st_size
    os.truncate(path, size - 1)
    assert f"{path} has {size - 1} bytes, not {size}" in refused(cifar_pack)
    path.unlink()
    assert f"{path} is missing" in refused(cifar_pack)


def test_changed_labels_of_a_pack(cifar_pack: DataConfig) -> None:
    path = Path(cifar_pack.pack) / "train.npz"
    content = bytearray(path.read_bytes())
    content[300] ^= 1
    path.write_bytes(content)
    assert f"{path} is corrupt: its SHA-256 differs" in refused(cifar_pack)


def test_an_interrupted_packing_leaves_no_readable_pack(cifar_pack: DataConfig) -> None:
    folder = Path(cifar_pack.pack)

    def interrupt(done: int, of: int) -> None:
        assert of == 26
        if done == 23:  # among the test images
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        data.make_pack(cifar_pack, folder, None, interrupt)
    assert "an incomplete pack" in refused(cifar_pack)
    data.make_pack(cifar_pack, folder)
    assert data.inspect(cifar_pack).train == 15
    assert not list(folder.glob(".*.tmp"))


def test_a_pack_of_changed_files_is_stale(cifar_pack: DataConfig) -> None:
    file = Path(cifar_pack.root) / "cifar-10-batches-py" / "data_batch_2"
    before = file.stat()
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert f"{cifar_pack.pack} is stale" in refused(cifar_pack)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    data.inspect(cifar_pack)


def test_a_pack_is_stale_after_a_photograph_is_added(tmp_path: Path) -> None:
    asked = packed(tmp_path / "pack", **photographs(tmp_path))
    (tmp_path / "root" / "train" / "flower" / "new.png").write_bytes(encoded(cut(3)))
    assert "is stale" in refused(asked)


def test_a_pack_works_without_its_source(cifar_pack: DataConfig, tmp_path: Path) -> None:
    before = epoch_of(data.load(cifar_pack), cifar_pack)
    (tmp_path / "root").rename(tmp_path / "elsewhere")
    assert_equal(epoch_of(data.load(cifar_pack), cifar_pack), before)


def test_a_pack_of_another_dataset_or_size(cifar_pack: DataConfig, tmp_path: Path) -> None:
    other = spec(dataset="cifar100", root=cifar_pack.root, pack=cifar_pack.pack)
    assert "is a pack of cifar10, not of cifar100" in refused(other)
    write_squares(tmp_path / "squares")
    fields = {"dataset": "image_parquet", "root": tmp_path / "squares", "validation": 5}
    squares = packed(tmp_path / "pack-of-squares", **fields, image_size=24)
    larger = spec(**fields, image_size=32, pack=squares.pack)
    assert "holds images of 24 pixels; data.image_size is 32" in refused(larger)
    fields = photographs(tmp_path)
    small = packed(tmp_path / "small", **fields)
    assert "has shorter sides of 37 pixels; data.image_size 64 needs 73" in refused(
        spec(**{**fields, "image_size": 64}, pack=small.pack)
    )
    with pytest.raises(DataError, match="32 needs shorter sides of 37 pixels, not 36"):
        data.make_pack(spec(**fields), tmp_path / "smaller", 36)


def test_a_folder_with_other_files_is_not_touched(cifar_pack: DataConfig, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match=r"holds files that are not of a pack, e\.g\. thesis\.tex"):
        data.make_pack(cifar_pack, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


@pytest.mark.long
def test_a_pack_is_mapped_and_not_copied(cifar_pack: DataConfig) -> None:
    """Overwriting the file is visible in this process and in another one: both map the same pages."""
    images = data.load(cifar_pack).train
    assert isinstance(images, ArrayImages)
    program = """
import json, sys, torch
from st3sweep import data
from st3sweep.trial.data import DataConfig
images = data.load(DataConfig.parse(json.loads(sys.argv[1]))).train
print("loaded", flush=True)
sys.stdin.readline()
print(images.fetch(torch.arange(15), 0, 0, True).unique().tolist())
"""
    arguments = [sys.executable, "-c", program, cifar_pack.model_dump_json()]
    with subprocess.Popen(arguments, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "loaded\n"
        assert len(images.fetch(torch.arange(15), 0, 0, True).unique()) > 100
        with (Path(cifar_pack.pack) / "train.pixels").open("r+b") as file:
            file.write(b"\x07" * 20 * 3072)
        assert images.fetch(torch.arange(15), 0, 0, True).unique().tolist() == [7]
        assert other.communicate("\n", timeout=60)[0] == "[7]\n"


def test_a_pack_too_large_for_a_gpu_is_prefetched(cifar_pack: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    splits, gpu = data.load(cifar_pack), torch.device("cuda")
    monkeypatch.setattr("st3sweep.data.images._DEVICE_BYTES", 15 * 3072)
    assert splits.train.fits(gpu)
    monkeypatch.setattr("st3sweep.data.images._DEVICE_BYTES", 15 * 3072 - 1)
    assert not splits.train.fits(gpu)
    in_memory = epoch_of(splits, cifar_pack)
    monkeypatch.setattr(ArrayImages, "fits", lambda *_: False)
    assert_equal(epoch_of(splits, cifar_pack), in_memory)


def test_crops_are_cut_from_the_mapped_file(tmp_path: Path) -> None:
    asked = packed(tmp_path / "pack", **photographs(tmp_path))
    images = data.load(asked).train
    path = tmp_path / "pack" / "train.pixels"
    with path.open("r+b") as file:
        file.write(b"\x09" * path.stat().st_size)
    assert images.fetch(torch.arange(8), 0, 0, True).unique().tolist() == [9]


def test_packing_and_inspecting_a_pack_need_no_torch_and_warn_of_nothing(cifar_pack: DataConfig) -> None:
    program = """
import json, sys
from pathlib import Path
from st3sweep import data
from st3sweep.trial.data import DataConfig
spec = DataConfig.parse(json.loads(sys.argv[1]))
data.make_pack(spec, Path(spec.pack))
print(data.inspect(spec).train, "torch" in sys.modules)
"""
    arguments = [sys.executable, "-c", program, cifar_pack.model_dump_json()]
    done = subprocess.run(arguments, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout == "15 False\n"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        epoch_of(data.load(cifar_pack), cifar_pack)
