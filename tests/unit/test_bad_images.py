"""Truncated images are an error or are skipped, with and without a pack."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from packs import assert_equal, epoch_of, packed, photographs, spec, write_squares

from st3sweep import data
from st3sweep.data import DataError


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
        with pytest.raises(DataError, match=rf"leaves out 1 bad image, the first: cannot read {path}"):
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
