"""Load and count datasets: the digits, and what holds for all of them."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from loaded_data import all_pixels, assert_agree, counts, error_of, spec
from small_datasets import cut, encoded, write_cifar_batches, write_folder, write_parquet

from st3sweep import data
from st3sweep.data import DataError

REPOSITORY = Path(__file__).parents[2]


# -- digits -----------------------------------------------------------------------------------------------------


def test_digits_are_split_1200_300_297_without_overlap() -> None:
    splits = data.load(spec(dataset="digits"))
    assert counts(splits) == (1200, 300, 297)
    ids = torch.cat([splits.train.sample_ids, splits.validation.sample_ids, splits.test.sample_ids])
    assert ids.sort().values.tolist() == list(range(1797))
    for images, least, most in ((splits.train, 116, 123), (splits.validation, 29, 31), (splits.test, 28, 31)):
        per_class = images.labels.bincount(minlength=10)
        assert least <= per_class.min() <= per_class.max() <= most
    assert_agree(data.inspect(spec(dataset="digits")), splits)


def test_digits_keep_their_pixels_and_labels() -> None:
    from sklearn.datasets import load_digits

    bundled = load_digits()
    splits = data.load(spec(dataset="digits", image_size=8, train_limit=50, validation=0.2))
    assert counts(splits) == (50, 300, 297)
    for images in (splits.train, splits.test):
        ids = images.sample_ids.numpy()
        np.testing.assert_array_equal(images.labels, bundled.target[ids])
        np.testing.assert_array_equal(all_pixels(images)[:, 0], np.round(bundled.images[ids] * 255 / 16))
    assert bundled.target[0] == 0  # the first is a zero
    scaled = all_pixels(splits.train) / 255
    assert splits.mean == pytest.approx((scaled.mean(),))
    assert splits.std == pytest.approx((scaled.std(),))


def test_digits_split_is_the_same_each_time_and_a_limit_takes_the_first() -> None:
    whole, again = data.load(spec(dataset="digits")), data.load(spec(dataset="digits"))
    limited = data.load(spec(dataset="digits", train_limit=100))
    assert torch.equal(whole.train.sample_ids, again.train.sample_ids)
    assert torch.equal(limited.train.sample_ids, whole.train.sample_ids[:100])
    assert torch.equal(limited.validation.sample_ids, whole.validation.sample_ids)
    assert limited.train.labels.bincount().tolist() == pytest.approx([10] * 10, abs=1)


# -- all of them ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100", "image_parquet", "image_folder", "imagenet"])
def test_a_root_that_is_not_a_folder(tmp_path: Path, dataset: str) -> None:
    missing = tmp_path / "missing"
    assert str(error_of(dataset=dataset, root=missing)) == f"data.root: no such folder: {missing}"
    missing.write_text("a file")
    assert str(error_of(dataset=dataset, root=missing)) == f"data.root: not a folder: {missing}"


def test_validation_and_limit_must_fit() -> None:
    error = error_of(dataset="digits", validation=1500)
    assert error.field == "data.validation"
    assert "1500 images requested, but the training set has 1500" in error.message
    error = error_of(dataset="digits", validation=1400, train_limit=101)
    assert error.field == "data.train_limit"
    assert "101 images requested, but 100 are left" in error.message
    assert data.inspect(spec(dataset="digits", validation=1400, train_limit=100)).train == 100
    assert error_of(dataset="digits", validation=0.0001).field == "data.validation"


def test_the_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(DataError("data.root", "no such folder: /x")))
    assert (error.field, error.message, str(error)) == (
        "data.root",
        "no such folder: /x",
        "data.root: no such folder: /x",
    )


def test_inspect_does_not_import_torch(tmp_path: Path) -> None:
    write_cifar_batches(tmp_path / "batches")
    write_folder(tmp_path / "folder")
    write_parquet(tmp_path / "parquet" / "train.parquet", [encoded(cut(i)) for i in range(4)], [0, 1, 0, 1])
    program = """
import sys
from st3sweep import data
from st3sweep.trial.data import DataConfig
root = sys.argv[1]
for fields in (
    {"dataset": "digits"},
    {"dataset": "cifar10", "root": root + "/batches", "validation": 5},
    {"dataset": "cifar100", "root": root, "download": True},
    {"dataset": "image_parquet", "root": root + "/parquet", "validation": 1},
    {"dataset": "image_folder", "root": root + "/folder", "validation": 1},
):
    data.inspect(DataConfig.parse(fields))
print(sorted({name.split(".")[0] for name in sys.modules} & {"torch", "torchvision", "sklearn", "ray", "optuna"}))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
