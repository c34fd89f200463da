"""Read CIFAR as its authors distribute it: pickled batches of (N, 3072) bytes, in the folder torchvision unpacks."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from st3sweep.data.records import DataError


@dataclass(frozen=True)
class Layout:
    """File and key names of one dataset in its python version."""

    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    label_key: str

    def complete(self, root: Path) -> bool:
        """Whether all files are present under ``root``."""
        return all((root / self.folder / name).is_file() for name in (*self.train, *self.test))


CIFAR10 = Layout("cifar-10-batches-py", tuple(f"data_batch_{n}" for n in range(1, 6)), ("test_batch",), "labels")
CIFAR100 = Layout("cifar-100-python", ("train",), ("test",), "fine_labels")


def read(root: Path, layout: Layout, files: tuple[str, ...]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read images (N, 3, 32, 32) and labels (N,) of ``files`` in order. Raises DataError naming a malformed file."""
    batches = [_read_one(root / layout.folder / name, layout.label_key) for name in files]
    return np.concatenate([images for images, _ in batches]), np.concatenate([labels for _, labels in batches])


def _read_one(path: Path, label_key: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    try:
        with path.open("rb") as file:
            batch = _ArraysOnly(file, encoding="latin1").load()  # written by Python 2
        images = np.asarray(batch["data"], dtype=np.uint8).reshape(-1, 3, 32, 32)
        labels = np.asarray(batch[label_key], dtype=np.int64)
        if len(images) != len(labels):
            raise ValueError(f"{len(images)} images but {len(labels)} labels")
    except Exception as error:  # a broken pickle can raise nearly any exception
        raise DataError("data.root", f"cannot read {path} as a batch of CIFAR images: {error!r}") from error
    return images, labels


class _ArraysOnly(pickle.Unpickler):
    """Unpickler that allows only numpy arrays: a pickle may otherwise run any code."""

    def find_class(self, module: str, name: str) -> Any:
        rebuilds_array = module.split(".")[0] == "numpy" and name in ("ndarray", "dtype", "_reconstruct", "_frombuffer")
        if rebuilds_array or (module, name) == ("_codecs", "encode"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a batch of images")
