"""Make packs of small datasets, and compare what is read with and without one."""

from __future__ import annotations

from pathlib import Path

import torch
from small_datasets import cut, encoded, write_folder, write_parquet

from st3sweep import data
from st3sweep.data.batches import eval_batches, train_batches
from st3sweep.trial.data import DataConfig


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


def photographs(tmp_path: Path, **fields: object) -> dict[str, object]:
    write_folder(tmp_path / "root", size=(100, 70))
    return {"dataset": "image_folder", "root": tmp_path / "root", "image_size": 32, "validation": 4, **fields}
