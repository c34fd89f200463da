"""Test that an export says how to make its input: done by hand on raw images it gives what evaluation gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from small_datasets import encoded

from st3sweep import data
from st3sweep.data.batches import eval_batches
from st3sweep.data.class_names import CIFAR100
from st3sweep.data.own import own_splits
from st3sweep.export.preprocessing import in_words, preprocessing
from st3sweep.trial.data import DataConfig


def by_hand(image: Image.Image, steps: dict[str, Any]) -> NDArray[np.float32]:
    """Follow the steps as a user would who has only Pillow and numpy; (C, H, W)."""
    image = image.convert({"RGB": "RGB", "grey": "L"}[steps["channel_order"]])
    if "square" in (resize := steps["resize"] or {}):
        image = image.resize((resize["square"],) * 2, Image.Resampling.BILINEAR)
    elif "short_side" in resize:
        scale = resize["short_side"] / min(image.size)
        wide, high = (max(resize["short_side"], int(side * scale)) for side in image.size)
        image = image.resize((wide, high), Image.Resampling.BILINEAR)
    if size := steps["centre_crop"]:
        left, top = round((image.width - size) / 2), round((image.height - size) / 2)
        image = image.crop((left, top, left + size, top + size))
    pixels = np.asarray(image, np.float32).reshape(image.height, image.width, -1).transpose(2, 0, 1)
    mean, std = (np.array(steps[name], np.float32)[:, None, None] for name in ("mean", "std"))
    return (pixels / np.float32(steps["divide_by"]) - mean) / std


def evaluated(splits: data.Splits, sample: int) -> NDArray[np.float32]:
    """Return the image of id ``sample`` as evaluation feeds it to the model."""
    where = splits.validation.sample_ids.tolist().index(sample)
    batches = eval_batches(splits.validation, splits, batch_size=512, rank=0, size=1, device="cpu")
    return next(iter(batches))[0][where].numpy()


def test_photographs(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for number, name in enumerate(["zebra", "ant", "bee"] * 4):
        folder = tmp_path / "train" / name
        folder.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (60 + number, 75, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    config = DataConfig.parse({"dataset": "image_folder", "root": str(tmp_path), "image_size": 32, "validation": 3})
    splits = data.load(config)
    inputs = splits.input_facts()
    assert inputs["class_names"] == ["ant", "bee", "zebra"]
    steps = preprocessing(config, inputs)
    assert (steps["resize"], steps["centre_crop"]) == ({"short_side": 37}, 32)
    assert steps["input_shape"] == [None, 3, 32, 32]
    files = [tmp_path / "train" / name / file for name in inputs["class_names"] for file in sorted((tmp_path / "train" / name).iterdir())]  # fmt: skip  # noqa: E501
    sample = int(splits.validation.sample_ids[0])
    with Image.open(files[sample]) as image:
        assert np.allclose(by_hand(image, steps), evaluated(splits, sample), atol=1e-6)
    assert in_words(steps).startswith("RGB, short side resized to 37 pixels (bilinear, of Pillow), centre crop of 32")


@pytest.mark.parametrize("names", [["cat", "dog"], ["cat", "dog", "bird"], None])
def test_parquet(tmp_path: Path, names: list[str] | None) -> None:
    """Names are taken where there is one for each class."""
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (20, 15, 3), np.uint8) for _ in range(10)]
    table = pa.table({"image": [{"bytes": encoded(image)} for image in images], "label": [i % 2 for i in range(10)]})
    if names:
        about = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(about)})
    pq.write_table(table, tmp_path / "train.parquet")
    config = DataConfig.parse({"dataset": "image_parquet", "root": str(tmp_path), "image_size": 8})
    splits = data.load(config)
    inputs = splits.input_facts()
    assert inputs["class_names"] == (["cat", "dog"] if names and len(names) == 2 else None)
    sample = int(splits.validation.sample_ids[0])
    made = by_hand(Image.fromarray(images[sample]), preprocessing(config, inputs))
    assert np.allclose(made, evaluated(splits, sample), atol=1e-6)


def test_digits(digits: data.Splits, tiny_trial: Any) -> None:
    inputs = digits.input_facts()
    assert inputs["class_names"] == list("0123456789")
    steps = preprocessing(tiny_trial().data, inputs)
    assert (steps["channel_order"], steps["resize"], steps["input_shape"]) == ("grey", {"square": 8}, [None, 1, 8, 8])
    sample = int(digits.validation.sample_ids[3])
    where = digits.validation.sample_ids.tolist().index(sample)
    pixels = digits.validation.fetch(torch.tensor([where]), 0, 0, False)[0, 0].numpy()
    assert np.allclose(by_hand(Image.fromarray(pixels), steps), evaluated(digits, sample), atol=1e-6)


def test_own_floating_point_images_are_not_scaled(tiny_trial: Any) -> None:
    images = torch.rand(300, 2, 8, 8)
    splits = own_splits(((images, torch.arange(300) % 3), None, None), tiny_trial().data)
    steps = preprocessing(DataConfig.model_construct(dataset="mine"), splits.input_facts())
    assert (steps["divide_by"], steps["mean"], steps["std"]) == (1, [0.0, 0.0], [1.0, 1.0])
    assert (steps["channel_order"], steps["resize"]) == (None, None)


def test_cifar_names_are_in_the_order_of_the_labels() -> None:
    """Labels of CIFAR-100's class list: 0 is apple, 99 is worm; 8, 41 and 73 are known ones."""
    assert len(CIFAR100) == 100
    assert [CIFAR100[label] for label in (0, 8, 41, 73, 99)] == ["apple", "bicycle", "lawn_mower", "shark", "worm"]
