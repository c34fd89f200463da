"""Test the decoding of photographs for a GPU, on the CPU as far as it goes: torchvision has the same calls there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_datasets import photographs, write_folder

from st3sweep.data import load, nvjpeg
from st3sweep.data.formats.image_folder import ImageFolderConfig
from st3sweep.data.images import FileImages
from st3sweep.data.nvjpeg import NvjpegImages, check_device
from st3sweep.data.records import BadImage, DataError

CPU = torch.device("cpu")


@pytest.fixture
def both(tmp_path: Path) -> tuple[FileImages, NvjpegImages]:
    """Return the same 40 photographs, of three sizes, for Pillow and for nvJPEG; every seventh is a PNG."""
    paths = []
    for number in range(40):
        image = Image.fromarray(photographs()[number % 2]).resize([(320, 214), (150, 300), (400, 400)][number % 3])
        paths.append(str(tmp_path / f"{number}.{'png' if number % 7 == 0 else 'jpg'}"))
        image.save(paths[-1], quality=95)
    ids = np.arange(40) + 100
    one, other = (kind(paths, np.zeros(40, np.int64), ids, 64, 0.08) for kind in (FileImages, NvjpegImages))
    return one, other  # type: ignore[return-value]


@pytest.mark.parametrize("train", [True, False])
def test_views_are_those_of_pillow(both: tuple[FileImages, NvjpegImages], train: bool) -> None:
    """They differ by the reduced decoding of Pillow, its rounding and its resizing: by a few levels of 255."""
    pillow, ours = both
    indices = torch.tensor([39, 0, *range(1, 39), 5])
    expected = pillow.fetch(indices, 3, 2, train).float()
    found = ours.made_on(CPU, indices, 3, 2, train)
    assert (found.dtype, found.shape) == (torch.uint8, (41, 3, 64, 64))
    difference = (found.float() - expected).abs().mean((1, 2, 3))
    assert difference.max() < 6
    assert difference.median() < 2
    shifted = (found.float().roll(3, -1) - expected).abs().mean((1, 2, 3))
    assert (shifted > difference).all(), "a view of another part would differ more"
    assert torch.equal(found[1], pillow.fetch(torch.tensor([0]), 3, 2, train)[0]), "a PNG is Pillow's"
    assert torch.equal(ours.fetch(indices, 3, 2, train), pillow.fetch(indices, 3, 2, train)), "on a CPU all are"


def test_a_broken_file_is_named(both: tuple[FileImages, NvjpegImages]) -> None:
    _, ours = both
    Path(ours.paths[1]).write_bytes(b"\xff\xd8\xff and nothing more")
    with pytest.raises(BadImage, match=r"cannot read .*1.jpg as an image"):
        ours.made_on(CPU, torch.arange(4), 0, 0, True)
    Path(ours.paths[2]).unlink()
    with pytest.raises(DataError, match=r"cannot read .*2.jpg: No such file"):
        ours.made_on(CPU, torch.tensor([2]), 0, 0, True)


def test_where_one_does_not_decode_the_batch_is_pillows(
    both: tuple[FileImages, NvjpegImages], monkeypatch: pytest.MonkeyPatch
) -> None:
    pillow, ours = both
    monkeypatch.setattr(nvjpeg, "decoded", lambda *_: None)
    assert torch.equal(ours.made_on(CPU, torch.arange(40), 0, 0, True), pillow.fetch(torch.arange(40), 0, 0, True))


@pytest.mark.skipif(torch.cuda.is_available(), reason="is refused without a GPU")
def test_it_is_refused_without_a_gpu(tmp_path: Path) -> None:
    write_folder(tmp_path)
    settings = ImageFolderConfig(dataset="image_folder", root=str(tmp_path), decoder="nvjpeg")
    with pytest.raises(DataError, match=r"data.decoder: nvjpeg needs a GPU, and torch finds none here: use pillow"):
        load(settings)


@pytest.mark.gpu
def test_views_on_a_gpu(both: tuple[FileImages, NvjpegImages]) -> None:
    check_device()
    pillow, ours = both
    indices = torch.arange(40)
    found = ours.fetch(indices.cuda(), 3, 2, True)
    assert found.is_cuda
    assert (found.cpu().float() - pillow.fetch(indices, 3, 2, True).float()).abs().mean() < 2
