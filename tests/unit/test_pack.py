"""Packs: the same images as without one, mapped from shared files; incomplete packs are rejected."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_datasets import cut, encoded, write_cifar_batches, write_folder, write_parquet
from test_cli import st3sweep

from st3sweep import data
from st3sweep.data import DataError
from st3sweep.data.batches import eval_batches, train_batches
from st3sweep.data.counter_rng import CROP, uniform, uniforms
from st3sweep.data.decode import CROP_DRAWS, crop_box
from st3sweep.data.images import ArrayImages
from st3sweep.data.pack.images import PackedImages
from st3sweep.trial.data import DataConfig

REPOSITORY = Path(__file__).parents[2]


def spec(**fields: object) -> DataConfig:
    paths = {key: str(fields[key]) for key in ("root", "pack") if key in fields}
    return DataConfig.parse({**fields, **paths})


def packed(out: Path, short: int | None = None, **fields: object) -> DataConfig:
    """Make the pack of the data in ``out``; return the settings that read it."""
    data.make_pack(spec(**fields), out, short)
    return spec(**fields, pack=out)


def epoch_of(splits: data.Splits, asked: DataConfig, batch_size: int = 4, rank: int = 0, size: int = 1, epoch: int = 1):
    batches = train_batches(
        splits, asked, seed=3, epoch=epoch, batch_size=batch_size, rank=rank, size=size, device="cpu"
    )
    return [tensor for batch in batches for tensor in batch]


def evaluated(splits: data.Splits) -> list[torch.Tensor]:
    parts = [part for part in (splits.validation, splits.test) if part is not None]
    found = [eval_batches(part, splits, batch_size=3, rank=0, size=1, device="cpu") for part in parts]
    return [tensor for batches in found for batch in batches for tensor in batch]


def assert_equal(first: list[torch.Tensor], second: list[torch.Tensor]) -> None:
    assert len(first) == len(second) > 0
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def write_squares(root: Path, bad: int | None = None) -> None:
    """Write 20 training images of several sizes in two files, and 5 test images."""
    images = [encoded(cut(i, 32 + i % 3, 32), "JPEG" if i % 2 else "PNG") for i in range(20)]
    if bad is not None:
        images[bad] = images[bad][:200]
    write_parquet(root / "data" / "train-00000-of-00002.parquet", images[:9], [i % 3 for i in range(9)], image="image")
    write_parquet(
        root / "data" / "train-00001-of-00002.parquet", images[9:], [i % 3 for i in range(9, 20)], image="image"
    )
    write_parquet(root / "data" / "test-00000-of-00001.parquet", images[:5], [0, 1, 2, 0, 1], image="image")


# -- the same images --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", ["cifar10", "image_parquet"])
def test_squares_are_bit_identical_with_and_without_a_pack(tmp_path: Path, dataset: str) -> None:
    fields = {"dataset": dataset, "root": tmp_path / "root", "validation": 5, "train_limit": 12}
    if dataset == "cifar10":
        write_cifar_batches(tmp_path / "root")
    else:
        write_squares(tmp_path / "root")
    asked = packed(tmp_path / "pack", **fields)
    with_pack, without = data.load(asked), data.load(spec(**fields))
    assert data.inspect(asked) == data.inspect(spec(**fields))
    assert (with_pack.mean, with_pack.std) == (without.mean, without.std)
    assert torch.equal(with_pack.train.sample_ids, without.train.sample_ids)
    assert_equal(epoch_of(with_pack, asked), epoch_of(without, asked))
    assert_equal(evaluated(with_pack), evaluated(without))


def photographs(tmp_path: Path, **fields: object) -> dict[str, object]:
    write_folder(tmp_path / "root", size=(100, 70))
    return {"dataset": "image_folder", "root": tmp_path / "root", "image_size": 32, "validation": 4, **fields}


def test_photographs_are_evaluated_bit_identically_and_cropped_nearly_alike(tmp_path: Path) -> None:
    fields = photographs(tmp_path)
    asked = packed(tmp_path / "pack", **fields)
    with_pack, without = data.load(asked), data.load(spec(**fields))
    assert data.inspect(asked) == data.inspect(spec(**fields))
    assert_equal(evaluated(with_pack), evaluated(without))
    everything = torch.arange(8)
    views = [splits.train.fetch(everything, 0, 0, True).float() for splits in (with_pack, without)]
    apart = (views[0] - views[1]).abs().mean()
    assert 0 < apart < 0.35 * (views[0] - views[1].roll(1, 0)).abs().mean()


@pytest.mark.parametrize("short", [37, 60])
def test_views_of_a_pack_are_cropped_from_the_resized_image(tmp_path: Path, short: int) -> None:
    fields = photographs(tmp_path, augment={"min_scale": 0.2})
    splits = data.load(packed(tmp_path / "pack", short, **fields))
    paths = data.load(spec(**fields)).train.paths
    random = splits.train.fetch(torch.arange(8), 7, 2, True)
    centre = splits.train.fetch(torch.arange(8), 7, 2, False)
    for place, (path, sample) in enumerate(zip(paths, splits.train.sample_ids, strict=True)):
        size = (int(100 * short / 70), short)
        image = Image.open(path).convert("RGB").resize(size, Image.Resampling.BILINEAR)
        draws = [uniform(7, 2, sample[None], CROP + draw).item() for draw in range(CROP_DRAWS)]
        left, top, w, h = crop_box(*size, draws, 0.2)
        wanted = image.crop((left, top, left + w, top + h)).resize((32, 32), Image.Resampling.BILINEAR)
        assert np.abs(np.asarray(wanted).transpose(2, 0, 1).astype(int) - random[place].numpy()).max() <= 1
        view = image.resize((int(size[0] * 37 / short), 37), Image.Resampling.BILINEAR)
        left, top = round((view.width - 32) / 2), round((37 - 32) / 2)
        wanted = np.asarray(view.crop((left, top, left + 32, top + 32))).transpose(2, 0, 1)
        assert np.abs(wanted.astype(int) - centre[place].numpy()).max() <= (0 if short == 37 else 1)


def test_a_view_depends_on_seed_epoch_and_sample_only(tmp_path: Path) -> None:
    asked = packed(tmp_path / "pack", **photographs(tmp_path))
    splits = data.load(asked)
    whole = epoch_of(splits, asked)
    shares = [epoch_of(splits, asked, rank=rank, size=2) for rank in range(2)]
    assert_equal(whole, [torch.cat(pair) for pair in zip(*shares, strict=True)])
    limited = data.load(spec(**{**asked.model_dump(), "train_limit": 3}))
    assert torch.equal(
        limited.train.fetch(torch.arange(3), 1, 2, True), splits.train.fetch(torch.arange(8), 1, 2, True)[:3]
    )
    other = epoch_of(splits, asked, epoch=2)
    assert not any(torch.equal(a, b) for a, b in zip(whole[::2], other[::2], strict=True))


def test_many_draws_at_once_are_the_single_draws() -> None:
    ids = torch.tensor([0, 5, 2**40])
    together = uniforms(3, 7, ids, range(8, 13))
    assert torch.equal(together, torch.stack([uniform(3, 7, ids, draw) for draw in range(8, 13)], dim=1))


@pytest.mark.parametrize("dataset", ["imagenet", "image_folder"])
def test_photographs_in_parquet_equal_those_in_folders(tmp_path: Path, dataset: str) -> None:
    fields = {**photographs(tmp_path), "dataset": dataset}
    for split in ("train", "val"):
        paths = [path for name in ("flower", "temple") for path in sorted((tmp_path / "root" / split / name).iterdir())]
        labels = [int(path.parent.name == "temple") for path in paths]
        name = {"train": "train", "val": "validation"}[split]
        for shard, part in enumerate((slice(0, 5), slice(5, None))):
            file = tmp_path / "shards" / "data" / f"{name}-0000{shard}-of-00002.parquet"
            if paths[part]:
                write_parquet(file, [path.read_bytes() for path in paths[part]], labels[part], image="image")
    write_parquet(tmp_path / "shards" / "data" / "test-00000-of-00001.parquet", [encoded(cut(0))], [-1], image="image")
    in_shards = {**fields, "root": tmp_path / "shards"}
    with pytest.raises(DataError, match=r"^data\.pack: is needed: .*st3sweep data pack"):
        data.inspect(spec(**in_shards))
    with pytest.raises(DataError, match=r"^data\.pack: is needed"):
        data.load(spec(**in_shards))
    asked = packed(tmp_path / "pack-of-shards", **in_shards)
    first, second = data.load(asked), data.load(packed(tmp_path / "pack", **fields))
    assert isinstance(first.train, PackedImages)
    assert first.train.labels.tolist() == second.train.labels.tolist()
    assert_equal(epoch_of(first, asked), epoch_of(second, asked))
    assert_equal(evaluated(first), evaluated(second))


def test_squares_too_large_for_memory_need_a_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_squares(tmp_path / "root")
    fields = {"dataset": "image_parquet", "root": tmp_path / "root", "image_size": 64, "validation": 5}
    monkeypatch.setattr("st3sweep.data.formats.image_parquet._MOST_BYTES", 25 * 3 * 64**2 - 1)
    for look in (data.inspect, data.load):
        with pytest.raises(DataError, match=r"^data\.pack: is needed: 25 images of 64 pixels"):
            look(spec(**fields))
    assert data.load(packed(tmp_path / "pack", **fields)).image_shape() == (3, 64, 64)


# -- bad images -------------------------------------------------------------------------------------------------


def assert_only_left_out(found: data.Splits, whole: data.Splits, bad: int, image_size: int) -> None:
    """Assert that ``found`` is ``whole`` without the training image ``bad``, other ids and pixels equal."""
    assert found.train.sample_ids.tolist() == [i for i in whole.train.sample_ids.tolist() if i != bad]
    assert len(found.train) == len(whole.train) - 1
    assert torch.equal(found.validation.sample_ids, whole.validation.sample_ids)
    places = [whole.train.sample_ids.tolist().index(i) for i in found.train.sample_ids.tolist()]
    assert torch.equal(found.train.labels, whole.train.labels[places])
    pixels = found.train.fetch(torch.arange(len(places)), 1, 2, True)
    assert pixels.shape[1:] == (3, image_size, image_size)
    assert torch.equal(pixels, whole.train.fetch(torch.tensor(places), 1, 2, True))
    everything = torch.arange(len(whole.validation))
    assert_equal(*([splits.validation.fetch(everything, 0, 0, False)] for splits in (found, whole)))


@pytest.mark.parametrize("use_pack", [False, True])
def test_a_truncated_photograph_is_an_error_or_skipped(tmp_path: Path, use_pack: bool) -> None:
    fields = photographs(tmp_path)
    whole = data.load(packed(tmp_path / "whole", **fields) if use_pack else spec(**fields))
    paths = data.load(spec(**fields)).train.paths
    place = next(place for place, path in enumerate(paths) if path.endswith(".jpg"))
    victim, path = int(whole.train.sample_ids[place]), Path(paths[place])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    if use_pack:
        with pytest.raises(DataError, match=path.name):
            data.make_pack(spec(**fields), tmp_path / "pack")
        assert not (tmp_path / "pack" / "manifest.json").exists()
        assert data.make_pack(spec(**fields, bad_images="skip"), tmp_path / "pack") == 1
        with pytest.raises(DataError, match=rf"leaves out 1 bad images, the first: cannot read {path}"):
            data.inspect(spec(**fields, pack=tmp_path / "pack"))
    asked = spec(**fields, bad_images="skip", **({"pack": tmp_path / "pack"} if use_pack else {}))
    with pytest.warns(RuntimeWarning, match=rf"1 of 8 training images left out: cannot read {path}"):
        found = data.load(asked)
    assert_only_left_out(found, whole, victim, 32)
    assert data.inspect(asked).train == (7 if use_pack else 8)  # without a pack nothing is decoded to count


@pytest.mark.parametrize("use_pack", [False, True])
def test_a_truncated_row_is_an_error_or_skipped(tmp_path: Path, use_pack: bool) -> None:
    fields = {"dataset": "image_parquet", "root": tmp_path / "root", "validation": 5}
    write_squares(tmp_path / "root")
    whole = data.load(packed(tmp_path / "whole", **fields))
    victim = int(whole.train.sample_ids[3])
    write_squares(tmp_path / "root", bad=victim)
    files = r"row \d+ of .*train-0000\d-of-00002\.parquet"
    skipping = spec(**fields, bad_images="skip")
    if use_pack:
        with pytest.raises(DataError, match=files):
            data.make_pack(spec(**fields), tmp_path / "pack")
        skipping = packed(tmp_path / "pack", **fields, bad_images="skip")
    else:
        with pytest.raises(DataError, match=files):
            data.load(spec(**fields))
    with pytest.warns(RuntimeWarning, match=rf"1 of 15 training images left out: cannot read {files}"):
        found = data.load(skipping)
    assert_only_left_out(found, whole, victim, 32)


def test_ranks_have_equal_batches_with_skipped_images(tmp_path: Path) -> None:
    fields = photographs(tmp_path, bad_images="skip")
    path = Path(data.load(spec(**fields)).train.paths[0])
    path.write_bytes(b"no image")
    asked = packed(tmp_path / "pack", **fields)
    with pytest.warns(RuntimeWarning, match="left out"):
        splits = data.load(asked)
    shares = [epoch_of(splits, asked, rank=rank, size=2) for rank in range(2)]
    assert [tensor.shape for tensor in shares[0]] == [tensor.shape for tensor in shares[1]]
    assert len(shares[0]) == 2  # 7 images, one whole batch of 4: its x and its y


def test_a_split_without_a_readable_image_is_refused_and_a_missing_file_is_not_skipped(tmp_path: Path) -> None:
    fields = photographs(tmp_path, bad_images="skip")
    splits = data.load(spec(**fields))
    kept = [(path, Path(path).read_bytes()) for path in splits.validation.paths]
    for path, _ in kept:
        Path(path).write_bytes(b"")
    with pytest.raises(DataError, match="none of the 4 validation images can be read"):
        data.load(spec(**fields))
    for path, content in kept:
        Path(path).write_bytes(content)
    Path(splits.train.paths[0]).unlink()
    (Path(splits.train.paths[0])).symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match="No such file"):
        data.load(spec(**fields))


# -- rejected packs ---------------------------------------------------------------------------------------------


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


# -- memory -----------------------------------------------------------------------------------------------------


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


# -- the command ------------------------------------------------------------------------------------------------


def test_the_command_packs_what_a_trial_or_a_space_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_cifar_batches(tmp_path / "root")
    trial = "model: {arch: cifar_resnet, depth: 8}\ndata: {dataset: cifar10, root: ROOT, validation: 5, pack: PACK}\n"
    trial = trial.replace("ROOT", str(tmp_path / "root")).replace("PACK", str(tmp_path / "pack"))
    trial += "sparsity: {method: st3, target: 0.9}\ntrain: {epochs: 2, batch_size: 4}\n"
    (tmp_path / "trial.yaml").write_text(trial)
    code, said, error = st3sweep(capsys, "data", "pack", tmp_path / "trial.yaml")
    assert (code, error) == (0, "")
    assert f"{tmp_path / 'pack'}: 26 images" in said
    space = "schema: st3sweep/v1\nname: a\ntrial:\n" + "".join(f"  {line}\n" for line in trial.splitlines())
    space = space.replace("target: 0.9", "criterion: l1") + "search:\n  sparsity.target: {float: [0.5, 0.9]}\n"
    (tmp_path / "space.yaml").write_text(space + "budget: {trials: 2}\n")
    code, _, error = st3sweep(capsys, "data", "pack", tmp_path / "space.yaml", "--out", tmp_path / "second")
    assert code == 0, error
    assert (tmp_path / "second" / "manifest.json").read_text() == (tmp_path / "pack" / "manifest.json").read_text()
    (tmp_path / "pack" / "manifest.json").unlink()
    code, _, error = st3sweep(capsys, "validate", tmp_path / "space.yaml")
    assert code == 2
    assert "space.yaml:5:" in error
    assert "data.pack" in error
    assert "an incomplete pack" in error
    digits = tmp_path / "digits.yaml"
    digits.write_text("model: {arch: cifar_resnet}\ndata: {dataset: digits}\nsparsity: {method: dense}\n")
    code, said, error = st3sweep(capsys, "data", "pack", digits, "--out", tmp_path / "third")
    assert (code, said) == (2, "")
    assert "digits needs no pack" in error


def test_a_photograph_of_another_colour_mode_is_packed_as_rgb(tmp_path: Path) -> None:
    fields = photographs(tmp_path)
    buffer = io.BytesIO()
    Image.fromarray(cut(4, 50, 90)).convert("CMYK").save(buffer, "JPEG")
    (tmp_path / "root" / "train" / "flower" / "cmyk.jpg").write_bytes(buffer.getvalue())
    splits = data.load(packed(tmp_path / "pack", **fields))
    assert splits.train.fetch(torch.arange(len(splits.train)), 0, 0, False).shape[1:] == (3, 32, 32)
