"""Load folders of images: splits, views, and the errors for malformed ones."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from loaded_data import assert_agree, counts, error_of, spec
from small_datasets import write_folder

from st3sweep import data
from st3sweep.data import DataError
from st3sweep.data.images import FileImages


def test_image_folder_finds_every_kind_of_file(tmp_path: Path) -> None:
    write_folder(tmp_path)  # 2 classes of 6 training and 2 test images each
    asked = spec(dataset="image_folder", root=tmp_path, image_size=32, validation=4)
    splits = data.load(asked)
    assert counts(splits) == (8, 4, 4)
    assert_agree(data.inspect(asked), splits)
    ids = torch.cat([splits.train.sample_ids, splits.validation.sample_ids])
    assert ids.sort().values.tolist() == list(range(12))
    for images in (splits.train, splits.validation, splits.test):
        assert isinstance(images, FileImages)
        for path, label in zip(images.paths, images.labels.tolist(), strict=True):
            assert Path(path).parent.name == ("flower", "temple")[label]
    assert {Path(path).suffix for path in splits.train.paths} == {".jpg", ".png", ".JPEG"}
    assert splits.mean == (0.485, 0.456, 0.406)
    limited = data.load(spec(dataset="image_folder", root=tmp_path, image_size=32, validation=4, train_limit=3))
    assert limited.train.paths == splits.train.paths[:3]


def test_image_folder_test_set_is_test_then_val_then_none(tmp_path: Path) -> None:
    write_folder(tmp_path, test=None)
    asked = spec(dataset="imagenet", root=tmp_path, validation=2)
    assert data.load(asked).test is None
    assert_agree(data.inspect(asked), data.load(asked))
    shutil.copytree(tmp_path / "train", tmp_path / "val")
    assert {Path(path).parents[1].name for path in data.load(asked).test.paths} == {"val"}
    shutil.copytree(tmp_path / "train", tmp_path / "test")
    assert {Path(path).parents[1].name for path in data.load(asked).test.paths} == {"test"}


def test_evaluation_view_is_the_resized_centre(tmp_path: Path) -> None:
    from PIL import Image

    write_folder(tmp_path, size=(100, 80))
    splits = data.load(spec(dataset="image_folder", root=tmp_path, image_size=56, validation=4))
    images = splits.validation
    found = images.fetch(torch.arange(4), 0, 0, False)
    for path, view in zip(images.paths, found, strict=True):
        # short side 56 * 256 / 224 = 64, so 80x64, and the 56x56 in its middle
        resized = Image.open(path).convert("RGB").resize((80, 64), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(view.permute(1, 2, 0), np.asarray(resized)[4:60, 12:68])
    grey = next(view for path, view in zip(images.paths, found, strict=True) if path.endswith(".JPEG"))
    assert torch.equal(grey[0], grey[1])


def test_training_crop_depends_on_seed_epoch_and_sample_only(tmp_path: Path) -> None:
    write_folder(tmp_path, size=(300, 200))
    whole = data.load(spec(dataset="image_folder", root=tmp_path, image_size=32, validation=4)).train
    limited = data.load(spec(dataset="image_folder", root=tmp_path, image_size=32, validation=4, train_limit=3)).train
    views = whole.fetch(torch.arange(8), 1, 2, True)
    backwards = whole.fetch(torch.arange(7, -1, -1), 1, 2, True)
    assert torch.equal(views, backwards.flip(0))
    assert torch.equal(limited.fetch(torch.arange(3), 1, 2, True), views[:3])
    for other in (whole.fetch(torch.arange(8), 2, 2, True), whole.fetch(torch.arange(8), 1, 3, True)):
        assert (other != views).flatten(1).any(dim=1).all()


def test_training_crop_shows_the_part_that_was_drawn(tmp_path: Path) -> None:
    """A large JPEG, decoded at a fraction of its size, whose colours encode the position of a pixel."""
    from PIL import Image

    from st3sweep.data.augment import uniform
    from st3sweep.data.counter_rng import CROP
    from st3sweep.data.decode import CROP_DRAWS, crop_box

    across, down = np.meshgrid(np.linspace(0, 255, 800), np.linspace(0, 255, 600))
    ramp = np.stack([across, down, np.zeros_like(across)], axis=2).round().astype(np.uint8)
    for name in ("train/a", "train/b"):
        (tmp_path / name).mkdir(parents=True)
        for number in range(10):
            Image.fromarray(ramp).save(tmp_path / name / f"{number}.jpg", quality=95)
    images = data.load(spec(dataset="image_folder", root=tmp_path, image_size=40, validation=2)).train
    found = images.fetch(torch.arange(18), 7, 3, True).float()
    for index, sample in enumerate(images.sample_ids):
        draws = [uniform(7, 3, sample[None], CROP + draw).item() for draw in range(CROP_DRAWS)]
        left, top, width, height = crop_box(800, 600, draws, 0.08)
        middles = torch.arange(40) + 0.5
        wanted_across = (left + middles * width / 40 - 0.5) / 799 * 255
        wanted_down = (top + middles * height / 40 - 0.5) / 599 * 255
        inner = slice(2, 38)
        torch.testing.assert_close(found[index, 0].mean(dim=0)[inner], wanted_across[inner], atol=2.5, rtol=0)
        torch.testing.assert_close(found[index, 1].mean(dim=1)[inner], wanted_down[inner], atol=2.5, rtol=0)


def test_a_truncated_jpeg_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path)
    broken = tmp_path / "train" / "flower" / "3.jpg"
    broken.write_bytes(broken.read_bytes()[:700])
    splits = data.load(spec(dataset="image_folder", root=tmp_path, image_size=32, validation=1))
    for train in (True, False):
        with pytest.raises(DataError) as caught:
            splits.train.fetch(torch.arange(len(splits.train)), 0, 0, train)
        assert caught.value.field == "data.root"
        assert str(broken) in caught.value.message
        assert "truncated" in caught.value.message


def test_the_error_says_what_is_wrong_with_a_folder(tmp_path: Path) -> None:
    asked = {"dataset": "image_folder", "root": tmp_path, "validation": 2}
    assert "looked for train/<class>/ with images" in error_of(**asked).message
    (tmp_path / "train" / "one").mkdir(parents=True)
    (tmp_path / "train" / ".hidden").mkdir()
    assert "1 class folders; at least 2" in error_of(**asked).message
    (tmp_path / "train" / "two").mkdir()
    assert f"no images in {tmp_path / 'train' / 'one'}" in error_of(**asked).message
    shutil.rmtree(tmp_path / "train")
    write_folder(tmp_path)
    (tmp_path / "val" / "three").mkdir()
    assert f"{tmp_path / 'val' / 'three'} is a class that" in error_of(**asked).message
    shutil.rmtree(tmp_path / "val")
    (tmp_path / "val").mkdir()
    assert f"no images in {tmp_path / 'val'}" in error_of(**asked).message
