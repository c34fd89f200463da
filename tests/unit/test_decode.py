"""Each row of the table of image modes in docs/data.md, with known pixel values; and which files are images."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from st3sweep.data import inspect, load
from st3sweep.data.decode import centre_crop, check, random_crop, shrunk, square
from st3sweep.data.duplicates import between_splits
from st3sweep.data.formats.image_folder import ImageFolderConfig
from st3sweep.data.records import BadImage, DataError

SIDE = 8


def _filled(mode: str, value: object) -> Image.Image:
    return Image.new(mode, (SIDE, SIDE), value)  # type: ignore[arg-type]


def _grey16(value: int, order: str = "<") -> Image.Image:
    return Image.fromarray(np.full((SIDE, SIDE), value, f"{order}u2"))


def _palette(transparent: bool) -> Image.Image:
    image = _filled("P", 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    if transparent:
        image.info["transparency"] = 1
    return image


def _rgb16_png(path: Path) -> None:
    """Write a PNG of 16 bits a channel by hand, which Pillow cannot: (0x0102, 0x8000, 0xFFFF)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + struct.pack(">3H", 0x0102, 0x8000, 0xFFFF) * SIDE for _ in range(SIDE))
    header = struct.pack(">2I5B", SIDE, SIDE, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def _animation(path: Path) -> None:
    frames = [_filled("RGB", (200, 0, 0)), _filled("RGB", (0, 200, 0))]
    frames[0].save(path, save_all=True, append_images=frames[1:], lossless=True)


def _turned(path: Path) -> None:
    image = _filled("RGB", (9, 8, 7))
    image.paste((100, 100, 100), (0, 0, SIDE, 1))  # the upper row
    exif = Image.Exif()
    exif[0x0112] = 3  # to be shown upside down
    image.save(path, exif=exif)


SAVED: dict[str, tuple[str, Callable[[Path], None], tuple[int, int, int]]] = {
    "RGB": ("png", lambda path: _filled("RGB", (1, 2, 3)).save(path), (1, 2, 3)),
    "grey": ("png", lambda path: _filled("L", 77).save(path), (77, 77, 77)),
    "black": ("png", lambda path: _filled("1", 0).save(path), (0, 0, 0)),
    "white": ("png", lambda path: _filled("1", 1).save(path), (255, 255, 255)),
    "16 bits, white": ("png", lambda path: _grey16(65535).save(path), (255, 255, 255)),
    "16 bits, middle": ("png", lambda path: _grey16(0x8001).save(path), (128, 128, 128)),
    "16 bits, dark": ("png", lambda path: _grey16(256).save(path), (1, 1, 1)),
    "16 bits, TIFF": ("tif", lambda path: _grey16(0x8001).save(path), (128, 128, 128)),
    "16 bits, big end first": ("tiff", lambda path: _grey16(0x8001, ">").save(path), (128, 128, 128)),
    "16 bits, PGM": ("pgm", lambda path: _grey16(0x8001).save(path), (128, 128, 128)),
    "16 bits a channel": ("png", _rgb16_png, (1, 128, 255)),
    "palette": ("png", lambda path: _palette(False).save(path), (10, 20, 30)),
    "palette, transparent": ("png", lambda path: _palette(True).save(path), (10, 20, 30)),
    "RGBA": ("png", lambda path: _filled("RGBA", (10, 20, 30, 0)).save(path), (10, 20, 30)),
    "grey and alpha": ("png", lambda path: _filled("LA", (50, 10)).save(path), (50, 50, 50)),
    "CMYK": ("tif", lambda path: _filled("CMYK", (255, 0, 0, 0)).save(path), (0, 255, 255)),
    "YCbCr": ("tif", lambda path: _filled("YCbCr", (90, 128, 128)).save(path), (90, 90, 90)),
    "animation": ("webp", _animation, (200, 0, 0)),
    "EXIF orientation": ("png", _turned, (9, 8, 7)),
}


@pytest.mark.parametrize("name", SAVED)
def test_a_mode_becomes_rgb(name: str, tmp_path: Path) -> None:
    suffix, save, rgb = SAVED[name]
    path = str(tmp_path / f"image.{suffix}")
    save(Path(path))
    data = Path(path).read_bytes()
    check(path)
    middle = np.array(rgb)
    assert (shrunk(path, None, SIDE)[SIDE // 2, 1] == middle).all()
    assert (square(data, SIDE, resize=False, what=path)[:, SIDE // 2, 1] == middle).all()
    assert (centre_crop(path, 7)[:, 3, 3] == middle).all()
    assert (random_crop(path, SIDE, [1.0] * 40, 1.0)[:, SIDE // 2, 3] == middle).all()
    if name == "EXIF orientation":
        assert (shrunk(path, None, SIDE)[0, 1] == 100).all(), "the upper row stays there"


@pytest.mark.parametrize(("mode", "suffix"), [("I", "tif"), ("F", "tif"), ("F", "pfm")])
def test_numbers_without_a_known_range_are_a_bad_image(mode: str, suffix: str, tmp_path: Path) -> None:
    path = str(tmp_path / f"numbers.{suffix}")
    try:
        _filled(mode, 1).save(path)
    except (KeyError, ValueError, OSError) as error:
        pytest.skip(f"this Pillow does not write it: {error}")
    for read in (check, lambda path: centre_crop(path, 7), lambda path: shrunk(path, None, SIDE)):
        with pytest.raises(BadImage, match=rf"numbers\.{suffix} as an image: its numbers \(mode {mode}, .* no known"):
            read(path)


def test_16_bits_decode_as_the_8_bits_they_were_made_from() -> None:
    values = np.arange(256, dtype=np.uint8).repeat(256).reshape(256, 256)
    wide = values.astype(np.uint16) << 8 | np.arange(256, dtype=np.uint16)
    files = []
    for array in (values, wide):
        file = io.BytesIO()
        Image.fromarray(array).save(file, "PNG")
        files.append(square(file.getvalue(), 256, resize=False, what="image"))
    assert (files[0] == files[1]).all()


# -- which files are images ----------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make train/{a,b} with four images each, and val/ with one each."""
    for part, count in (("train", 4), ("val", 1)):
        for label, level in (("a", 10), ("b", 200)):
            place = tmp_path / "images" / part / label
            place.mkdir(parents=True)
            for number in range(count):
                grey = level + number + (40 if part == "val" else 0)
                Image.new("L", (SIDE, SIDE), grey).save(place / f"{number}.png")
    return tmp_path / "images"


def _config(folder: Path, **settings: object) -> ImageFolderConfig:
    given = {"dataset": "image_folder", "root": str(folder), "image_size": 32, "validation": 2, **settings}
    return ImageFolderConfig.model_validate(given)


def _count(folder: Path) -> int:
    found = inspect(_config(folder))
    return found.train + found.validation


def test_every_suffix_that_pillow_reads(folder: Path) -> None:
    for suffix in ("tif", "TIFF", "gif", "jp2", "pgm", "bmp", "webp", "ico", "tga"):
        Image.new("RGB", (16, 16)).save(folder / "train" / "a" / f"more.{suffix}")
    assert _count(folder) == 8 + 9
    assert len(load(_config(folder)).train) == 8 + 9 - 2


def test_links_are_followed_and_circles_end(folder: Path, tmp_path: Path) -> None:
    store = tmp_path / "store" / "deep"
    store.mkdir(parents=True)
    Image.new("L", (SIDE, SIDE)).save(store / "linked.png")
    place = folder / "train" / "a"
    (place / "folder").symlink_to(tmp_path / "store", target_is_directory=True)
    (place / "file.png").symlink_to(store / "linked.png")
    (store / "up").symlink_to(tmp_path / "store", target_is_directory=True)
    (place / "round").symlink_to(place, target_is_directory=True)
    assert _count(folder) == 8 + 2


def test_a_broken_link_is_named(folder: Path) -> None:
    (folder / "train" / "a" / "gone.png").symlink_to(folder / "nowhere.png")
    splits = load(_config(folder))
    paths = [*splits.train.paths, *splits.validation.paths]  # type: ignore[attr-defined]
    assert len(paths) == 9
    [gone] = [path for path in paths if path.endswith("gone.png")]
    with pytest.raises(DataError, match=r"gone\.png: No such file"):
        centre_crop(gone, 7)


def test_hidden_files_and_folders_are_no_images(folder: Path) -> None:
    hidden = folder / "train" / "a" / ".ipynb_checkpoints" / "deep"
    hidden.mkdir(parents=True)
    image = Image.new("L", (SIDE, SIDE))
    for path in (hidden / "copy.png", hidden.parent / "copy.png", folder / "train" / "a" / "._0.png"):
        image.save(path)
    assert _count(folder) == 8


def test_files_that_are_no_images_are_counted(folder: Path) -> None:
    for name in ("notes.txt", "more.txt", "LICENSE", "._hidden"):
        (folder / "train" / "a" / name).write_text("text")
    assert inspect(_config(folder)).note == "3 files left out, which are no images: 2 .txt, 1 without a suffix"
    for number in range(4):
        (folder / "train" / "b" / f"{number}.png").unlink()
    (folder / "train" / "b" / "only.doc").write_text("text")
    with pytest.raises(DataError, match=r"no images in .*b; 4 files left out, .*1 \.doc"):
        inspect(_config(folder))


def test_images_in_two_splits_are_found(folder: Path) -> None:
    files = _config(folder).split_files()
    assert {name: len(paths) for name, paths in files.items()} == {"training": 6, "validation": 2, "test": 2}
    found = between_splits(files)
    assert (found.pairs, found.compared) == ([], found.candidates)
    copy = folder / "val" / "b" / "copy.png"
    copy.write_bytes(Path(files["training"][0]).read_bytes())
    again = _config(folder).split_files()
    assert between_splits(again).pairs == [(("training", files["training"][0]), ("test", str(copy)))]
    within = folder / "train" / "a" / "twin.png"
    os.link(files["training"][1], within)
    twins = between_splits({"training": [files["training"][1], str(within)], "test": []})
    assert twins.pairs == [], "both are trained on"
    assert between_splits(again, seconds=-1.0).compared == 0


def test_decoding_is_part_of_the_digest_where_files_may_be_of_any_kind(folder: Path) -> None:
    assert _config(folder).decoding == 2
    assert _config(folder, dataset="imagenet").decoding == 1
