"""Packs: the same images as without one, and the command that makes one."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from packs import assert_equal, epoch_of, evaluated, packed, photographs, spec, write_squares
from PIL import Image
from small_datasets import cut, encoded, write_cifar_batches, write_parquet
from test_cli import st3sweep

from st3sweep import data
from st3sweep.data import DataError
from st3sweep.data.counter_rng import CROP, uniform, uniforms
from st3sweep.data.decode import CROP_DRAWS, crop_box
from st3sweep.data.pack.images import PackedImages

REPOSITORY = Path(__file__).parents[2]


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
