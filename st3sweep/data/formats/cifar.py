"""Load CIFAR-10 and CIFAR-100 (Krizhevsky 2009) from the python batches or from Parquet files under ``root``.

Validation is the last ``validation`` images of the training set, in the order of the files. That is the papers'
split for the python batches only: Parquet files may hold the images in another order.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from st3sweep.data import decode, normalisation
from st3sweep.data.class_names import CIFAR10, CIFAR100
from st3sweep.data.formats import cifar_batches, parquet
from st3sweep.data.formats.cifar_batches import Layout
from st3sweep.data.pack.sources import Source, Sources
from st3sweep.data.records import DataError, DataInfo, Splits
from st3sweep.data.roots import existing_root
from st3sweep.data.split import parts, sizes
from st3sweep.trial.data import OnDiskConfig, ShiftAndFlip, Validation, register_dataset

_OFFICIAL_TRAIN, _OFFICIAL_TEST = 50_000, 10_000


@dataclass(frozen=True)
class _Dataset:
    layout: Layout
    label_columns: tuple[str, ...]  # of Parquet files; the first one present is used
    classes: int


_DATASETS = {
    "cifar10": _Dataset(cifar_batches.CIFAR10, ("label",), 10),
    "cifar100": _Dataset(cifar_batches.CIFAR100, ("fine_label", "label"), 100),
}


@dataclass(frozen=True)
class _Set:
    """One official split; ``readable(ids, split name)`` returns pixels (N, 3, 32, 32) and the N readable ids."""

    labels: NDArray[np.int64]
    readable: Callable[[NDArray[np.int64], str], tuple[NDArray[np.uint8], NDArray[np.int64]]]
    source: Source


@register_dataset
class CifarConfig(OnDiskConfig):
    """CIFAR-10 or -100: the python batches that torchvision downloads, or image Parquet files, under ``root``."""

    image_size: ClassVar[int] = 32  # type: ignore[misc]  # fixed by the files, not a setting
    ordered: ClassVar[bool] = True

    dataset: Literal["cifar10", "cifar100"]
    download: bool = False
    validation: Validation = 5000
    augment: ShiftAndFlip = ShiftAndFlip()

    @property
    def place(self) -> str:
        return ""

    @property
    def known_classes(self) -> int:
        return _DATASETS[self.dataset].classes

    def class_names(self) -> tuple[str, ...]:
        return CIFAR10 if self.dataset == "cifar10" else CIFAR100

    def preprocessing(self) -> dict[str, Any]:
        return {"channel_order": "RGB", "resize": None, "centre_crop": None}

    def fetch(self) -> None:
        if self.download:
            download_if_absent(self)

    def inspect(self) -> DataInfo:
        """Count labels without decoding or downloading; the official counts if the files are not there yet."""
        found = _find(self)
        training, test = (len(found[0].labels), len(found[1].labels)) if found else (_OFFICIAL_TRAIN, _OFFICIAL_TEST)
        train, validation = sizes(self, training)
        return DataInfo(_DATASETS[self.dataset].classes, 3, CifarConfig.image_size, train, validation, test)

    def load(self) -> Splits:
        """Load the three splits; first download the python batches if they are absent and ``download`` is true."""
        from st3sweep.data.images import ArrayImages

        training, test = _present(self)

        def chosen(images: _Set, ids: NDArray[np.int64], name: str) -> ArrayImages:
            pixels, ids = images.readable(ids, name)
            return ArrayImages(pixels, images.labels[ids], ids)

        train, validation = parts(self, np.arange(len(training.labels)))
        return Splits(
            chosen(training, train, "training"),
            chosen(training, validation, "validation"),
            chosen(test, np.arange(len(test.labels)), "test"),
            _DATASETS[self.dataset].classes,
            *normalisation.KNOWN[self.dataset],
        )

    def sources(self, short_side: int) -> Sources:  # noqa: ARG002
        """Return all images of both official splits, not resized; downloads like ``load``."""
        training, test = _present(self)
        return Sources(_DATASETS[self.dataset].classes, CifarConfig.image_size, training.source, test.source)

    def files(self) -> list[Path]:
        """Return the files that hold the images."""
        root, layout = existing_root(self.root), _DATASETS[self.dataset].layout
        if layout.complete(root):
            return [root / layout.folder / name for name in (*layout.train, *layout.test)]
        return [path for split in ("train", "test") for path in _of_dataset(parquet.find(root, split), self.dataset)]


def _present(spec: CifarConfig) -> tuple[_Set, _Set]:
    if spec.download:
        download_if_absent(spec)
    found = _find(spec)
    assert found is not None, "the download checks its own digest"
    return found


def _find(spec: CifarConfig) -> tuple[_Set, _Set] | None:
    """Find training and test set; None if they are absent but may be downloaded. Raises DataError if they may not."""
    if spec.download and not Path(spec.root).exists():
        return None
    root, dataset = existing_root(spec.root), _DATASETS[spec.dataset]
    if dataset.layout.complete(root):
        training, test = (
            _from_batches(root, dataset.layout, names) for names in (dataset.layout.train, dataset.layout.test)
        )
    else:
        train_files, test_files = (_of_dataset(parquet.find(root, split), spec.dataset) for split in ("train", "test"))
        if not (train_files and test_files):
            if spec.download:
                return None
            raise DataError("data.root", _missing(root, spec.dataset, train_files, test_files))
        training, test = (_from_parquet(spec, paths, dataset.label_columns) for paths in (train_files, test_files))
    highest = max(training.labels.max(), test.labels.max())
    if highest >= dataset.classes:
        raise DataError("data.root", f"{root} has a label {highest}; {spec.dataset} counts 0 to {dataset.classes - 1}")
    return training, test


def _from_batches(root: Path, layout: Layout, names: tuple[str, ...]) -> _Set:
    images, labels = cifar_batches.read(root, layout, names)
    source = Source(labels, lambda: (partial(np.asarray, image) for image in images))
    return _Set(labels, lambda ids, _: (images[ids], ids), source)


def _from_parquet(spec: CifarConfig, paths: list[Path], label_columns: tuple[str, ...]) -> _Set:
    rows = parquet.open_files(paths, label_columns)
    return _Set(
        rows.labels,
        lambda ids, name: rows.readable(
            ids, CifarConfig.image_size, name, resize=False, skip=spec.bad_images == "skip"
        ),
        rows.source(lambda data, what: decode.square(data, CifarConfig.image_size, resize=False, what=what)),
    )


def _of_dataset(files: list[Path], dataset: str) -> list[Path]:
    """Return the files named after the dataset, or else those named after neither CIFAR-10 nor CIFAR-100."""
    named = {path: re.search(r"cifar[-_]?(\d+)", path.name.lower()) for path in files}
    own = [path for path, match in named.items() if match and f"cifar{match[1]}" == dataset]
    return own or [path for path, match in named.items() if not match]


def _missing(root: Path, dataset: str, train_files: list[Path], test_files: list[Path]) -> str:
    half = "" if not (train_files or test_files) else f" (only {'train' if train_files else 'test'} files are there)"
    return (
        f"no {dataset} in {root}: looked for the folder {_DATASETS[dataset].layout.folder}/ with all its batches and"
        f" for *train*.parquet with *test*.parquet{half}; data.download=true fetches the folder"
    )


def _is_there(spec: CifarConfig) -> bool:
    """Whether both official splits are present, judged by file names alone."""
    if not Path(spec.root).exists():
        return False
    root = existing_root(spec.root)
    in_parquet = all(_of_dataset(parquet.find(root, split), spec.dataset) for split in ("train", "test"))
    return in_parquet or _DATASETS[spec.dataset].layout.complete(root)


def download_if_absent(spec: CifarConfig) -> None:
    """Download the python batches once: a lock lets only one process of the machine do it. Raises DataError."""
    root = Path(spec.root)
    lock = root / ".download.lock"
    if not lock.exists() and _is_there(spec):  # while it is locked, the files may be incomplete
        return
    import fcntl

    from torchvision.datasets import CIFAR10, CIFAR100

    try:
        root.mkdir(parents=True, exist_ok=True)
        with lock.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            if not _is_there(spec):
                (CIFAR10 if spec.dataset == "cifar10" else CIFAR100)(root, download=True)
            lock.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:  # no connection, no permission, a broken archive
        raise DataError("data.download", f"could not download {spec.dataset} to {root}: {error}") from error
