"""Write small datasets in every layout that st3sweep reads, cut from scikit-learn's two photographs."""

from __future__ import annotations

import io
import pickle
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from sklearn.datasets import load_sample_images


@cache
def photographs() -> list[np.ndarray]:
    """Return the two photographs, (427, 640, 3) uint8."""
    return [np.array(image) for image in load_sample_images().images]


def cut(index: int, width: int = 32, height: int = 32) -> np.ndarray:
    """Cut part number ``index`` (height, width, 3) from a photograph; neighbours differ."""
    photograph = photographs()[index % 2]
    top, left = (37 * index) % (427 - height), (53 * index) % (640 - width)
    return photograph[top : top + height, left : left + width]


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def write_parquet(
    path: Path, images: list[bytes | None], labels: list[Any], image: str = "img", label: str = "label"
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"bytes": data, "path": None} for data in images]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({image: pa.array(rows, kind), label: labels}), path, row_group_size=7)
    return path


def write_cifar_batches(root: Path, per_batch: int = 4, test: int = 6) -> None:
    """Write torchvision's layout: training image i is ``cut(i)``, labelled i % 10; test images continue the count."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    start = 0
    for name, count in [*((f"data_batch_{n}", per_batch) for n in range(1, 6)), ("test_batch", test)]:
        indices = range(start, start + count)
        start += count
        data = np.stack([cut(i).transpose(2, 0, 1).reshape(3072) for i in indices])
        batch = {"data": data, "labels": [i % 10 for i in indices]}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))


def write_cifar100_batches(root: Path, train: int = 12, test: int = 5) -> None:
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    for name, count in (("train", train), ("test", test)):
        data = np.stack([cut(i).transpose(2, 0, 1).reshape(3072) for i in range(count)])
        labels = [99 - i for i in range(count)]
        (folder / name).write_bytes(pickle.dumps({"data": data, "fine_labels": labels, "coarse_labels": [0] * count}))


def write_folder(root: Path, per_class: int = 6, test: str | None = "val", size: tuple[int, int] = (64, 48)) -> None:
    """Write two classes of JPEG, PNG and grey JPEG files; ``size`` is (width, height)."""
    index = 0
    for split, count in [("train", per_class), *([(test, 2)] if test else [])]:
        for name in ("flower", "temple"):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = cut(index, *size)
                index += 1
                kind = ("jpg", "png", "JPEG")[number % 3]
                image = Image.fromarray(pixels).convert("L") if kind == "JPEG" else Image.fromarray(pixels)
                image.save(root / split / name / f"{number}.{kind}")
