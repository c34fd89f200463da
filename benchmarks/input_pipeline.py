"""Measure augmented and normalised images per second: st3sweep's batches against torchvision's.

    python benchmarks/input_pipeline.py [--cifar ROOT] [--workers 2] [--repeats 5] [--json]

Small: 20,000 images of 32 pixels in memory. Photographs: 512 JPEG files of 500x375, seen at 224 pixels. The competitors
take turns, so that other load affects all of them, with as many threads as loader processes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
import torchvision
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import CIFAR10, ImageFolder
from turns import facts, seconds_of

from st3sweep import data
from st3sweep.data.batches import train_batches
from st3sweep.data.images import ArrayImages
from st3sweep.data.normalisation import KNOWN
from st3sweep.trial.data import DataConfig

SMALL, PHOTOGRAPHS = 20_000, 512
Competitor = Callable[[int], Iterable[Any]]  # epoch -> batches of x and y


def small(root: str | None, workers: int) -> dict[str, Competitor]:
    pixels, labels = np.random.RandomState(0).bytes(SMALL * 3072), np.arange(SMALL) % 10
    pixels = np.frombuffer(pixels, np.uint8).reshape(-1, 3, 32, 32)
    if root:
        ours = data.load(spec(dataset="cifar10", root=root, train_limit=SMALL)).train
        pixels, labels = ours.pixels.numpy(), ours.labels.numpy()
    ours = ArrayImages(pixels, labels, np.arange(SMALL))
    splits = data.Splits(ours, ours, None, 10, *KNOWN["cifar10"])
    theirs = CIFAR10.__new__(CIFAR10)  # its __init__ needs the downloaded files
    theirs.data, theirs.targets = np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)), labels.tolist()
    theirs.transform = transform(transforms.RandomCrop(32, padding=4), *KNOWN["cifar10"])
    theirs.target_transform = None
    asked = spec(dataset="cifar10", root="memory")
    return {"torchvision": loader(theirs, 128, workers), "st3sweep": batches(splits, asked, 128)}


def photographs(folder: Path, workers: int) -> dict[str, Competitor]:
    asked = spec(dataset="image_folder", root=str(folder / "root"), validation=1)
    write_photographs(folder / "root" / "train")
    data.make_pack(asked, folder / "pack")
    packed = asked.model_copy(update={"pack": str(folder / "pack")})
    theirs = transform(transforms.RandomResizedCrop(224), *KNOWN["imagenet"])
    return {
        "torchvision": loader(ImageFolder(str(folder / "root" / "train"), theirs), 32, workers),
        "st3sweep, files": batches(data.load(asked), asked, 32),
        "st3sweep, pack": batches(data.load(packed), packed, 32),
    }


def write_photographs(folder: Path) -> None:
    """Write smooth images with a little texture, JPEGs of 45 kB on average: as costly to decode as photographs."""
    generator = np.random.default_rng(0)
    for number in range(PHOTOGRAPHS):
        width, height = (500, 375) if number % 4 else (375, 500)
        coarse, fine = (generator.integers(0, 256, (side, side, 3), dtype=np.uint8) for side in (9, 90))
        layers = [Image.fromarray(layer).resize((width, height), Image.Resampling.BICUBIC) for layer in (coarse, fine)]
        path = folder / str(number % 2) / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.blend(*layers, 0.25).save(path, quality=90)


def spec(**fields: object) -> DataConfig:
    return DataConfig.parse(fields)


def transform(crop: Any, mean: tuple[float, ...], std: tuple[float, ...]) -> transforms.Compose:
    rest = (transforms.RandomHorizontalFlip(), transforms.ToTensor(), transforms.Normalize(mean, std))
    return transforms.Compose([crop, *rest])


def loader(dataset: Any, batch_size: int, workers: int) -> Competitor:
    made = DataLoader(dataset, batch_size, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=True)
    return lambda _: made


def batches(splits: data.Splits, asked: DataConfig, batch_size: int) -> Competitor:
    fixed = {"seed": 0, "batch_size": batch_size, "rank": 0, "size": 1, "device": "cpu"}
    return lambda epoch: train_batches(splits, asked, epoch=epoch, **fixed)


def measure(competitors: dict[str, Competitor], repeats: int) -> dict[str, list[float]]:
    """Return images per second of each competitor and repetition; a first epoch starts processes and warms caches."""
    seen: dict[str, int] = {}

    def one_epoch(name: str, epochs: Iterator[int]) -> None:
        seen[name] = sum(len(y) for _, y in competitors[name](next(epochs)))  # the same in every epoch

    found = seconds_of({name: partial(one_epoch, name, count()) for name in competitors}, repeats)
    return {name: [seen[name] / seconds for seconds in times] for name, times in found.items()}


def table(results: dict[str, dict[str, list[float]]]) -> None:
    for size, rates in results.items():
        base = statistics.median(rates["torchvision"])
        for name, found in rates.items():
            median, spread = statistics.median(found), f"{min(found):,.0f} to {max(found):,.0f}"
            print(f"{size:<11} {name:<16} {median:>9,.0f} images/s  ({spread:<18}) {median / base:6.2f}x")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cifar", help="folder with CIFAR-10; random pixels without it")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(chosen.workers)  # st3sweep's threads
    torch.set_num_threads(chosen.workers)
    about = {**facts("cpu"), "torchvision": torchvision.__version__, "pillow": PIL.__version__}
    results = {"32 pixels": measure(small(chosen.cifar, chosen.workers), chosen.repeats)}
    with tempfile.TemporaryDirectory() as folder:
        results["224 pixels"] = measure(photographs(Path(folder), chosen.workers), chosen.repeats)
    if chosen.json:
        print(json.dumps({**about, "images_per_second": results}))
    else:
        print(", ".join(f"{key} {value}" for key, value in about.items()))
        table(results)


if __name__ == "__main__":
    main()
