"""Compare random numbers and augmentations with slow references written by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from st3sweep.data.augment import Keys, flip, normalise, shift_and_flip, uniform
from st3sweep.data.counter_rng import FLIP, SHIFT_DOWN, SHIFT_RIGHT, permutation, stream
from st3sweep.data.decode import CROP_DRAWS, crop_box

MASK = 2**64 - 1


def splitmix64(seed: int, count: int) -> list[int]:
    """Compute the published algorithm in unbounded integers."""
    out, state = [], seed
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        out.append(z ^ (z >> 31))
    return out


def signed(x: int) -> int:
    return x - 2**64 if x >= 2**63 else x


def draw_of(seed: int, epoch: int, sample: int, draw: int) -> float:
    """Compute ``uniform`` for one sample in unbounded integers."""
    key = 0
    for number in (seed, epoch, draw):
        key = splitmix64((key + number) & MASK, 1)[0]
    start = (key + (sample - 1) * 0x9E3779B97F4A7C15) & MASK
    return (splitmix64(start, 1)[0] >> 40) / 2**24


def pictures(count: int, channels: int = 3, height: int = 9, width: int = 7) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(1, 256, (count, channels, height, width), dtype=torch.uint8, generator=generator)


def shifted_slowly(image: np.ndarray, sample: int, seed: int, epoch: int, padding: int, fill: str, mirror: bool):
    """Pad, crop and flip one image (C, H, W)."""
    _, height, width = image.shape
    border = ((0, 0), (padding, padding), (padding, padding))
    padded = np.pad(image, border, mode="constant" if fill == "zero" else "edge")
    top = int(draw_of(seed, epoch, sample, SHIFT_DOWN) * (2 * padding + 1))
    left = int(draw_of(seed, epoch, sample, SHIFT_RIGHT) * (2 * padding + 1))
    part = padded[:, top : top + height, left : left + width]
    return part[:, :, ::-1] if mirror and draw_of(seed, epoch, sample, FLIP) < 0.5 else part


def test_the_stream_is_splitmix64() -> None:
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert splitmix64(1234567, 4) == published
    assert stream(1234567, torch.arange(1, 5)).tolist() == [signed(x) for x in published]


@given(
    seed=st.integers(0, 2**31 - 1),
    epoch=st.integers(0, 500),
    sample=st.integers(0, 2_000_000),
    draw=st.integers(0, 60),
)
@settings(max_examples=50, deadline=None)
def test_uniform_equals_the_integer_reference(seed: int, epoch: int, sample: int, draw: int) -> None:
    assert uniform(seed, epoch, torch.tensor([sample]), draw).item() == draw_of(seed, epoch, sample, draw)


def test_uniform_is_uniform_and_every_argument_matters() -> None:
    ids = torch.arange(20_000)
    numbers = uniform(0, 0, ids, 0)
    assert numbers.dtype == torch.float32
    assert numbers.min() >= 0
    assert numbers.max() < 1
    counts = torch.histc(numbers, 20, 0, 1)
    # chi-squared with 19 degrees of freedom: 43.8 is exceeded once in a thousand; the numbers are fixed
    assert ((counts - 1000) ** 2 / 1000).sum() < 43.8
    for others in (uniform(1, 0, ids, 0), uniform(0, 1, ids, 0), uniform(0, 0, ids, 1), uniform(0, 0, ids + 1, 0)):
        assert abs(torch.corrcoef(torch.stack([numbers, others]))[0, 1]) < 0.03
        assert (numbers == others).float().mean() < 0.001


@pytest.mark.parametrize("fill", ["zero", "edge"])
@pytest.mark.parametrize("mirror", [True, False])
@pytest.mark.parametrize("padding", [0, 1, 4])
def test_shift_and_flip_equals_padding_and_cropping_each_image(fill, mirror, padding) -> None:
    images, ids = pictures(60), torch.arange(60) * 31 + 5
    found = shift_and_flip(images, ids, Keys.of(3, 2), padding=padding, fill=fill, flip=mirror)
    for image, sample, result in zip(images.numpy(), ids.tolist(), found.numpy(), strict=True):
        np.testing.assert_array_equal(result, shifted_slowly(image, sample, 3, 2, padding, fill, mirror))


def test_shifts_take_every_value_and_half_the_images_are_flipped() -> None:
    ids = torch.arange(4000)
    tops = (uniform(0, 0, ids, SHIFT_DOWN) * 9).long()
    assert tops.bincount(minlength=9).min() > 350
    assert tops.max() == 8
    images = pictures(1).expand(4000, -1, -1, -1)
    same = (flip(images, ids, Keys.of(0, 0)) == images).all(dim=(1, 2, 3)).float().mean()
    assert 0.47 < same < 0.53


def test_flip_equals_flipping_each_image() -> None:
    images, ids = pictures(40), torch.arange(40) + 100
    found = flip(images, ids, Keys.of(9, 4))
    for image, sample, result in zip(images, ids.tolist(), found, strict=True):
        assert torch.equal(result, image.flip(2) if draw_of(9, 4, sample, FLIP) < 0.5 else image)


def test_the_batch_around_an_image_does_not_matter() -> None:
    images, ids = pictures(32), torch.arange(32)
    together = shift_and_flip(images, ids, Keys.of(5, 1), 3, "zero", True)
    order = torch.randperm(32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(shift_and_flip(images[order], ids[order], Keys.of(5, 1), 3, "zero", True), together[order])
    for index in (0, 17, 31):
        alone = shift_and_flip(images[index : index + 1], ids[index : index + 1], Keys.of(5, 1), 3, "zero", True)
        assert torch.equal(alone[0], together[index])


def test_seed_and_epoch_change_the_augmentation_and_the_input_is_kept() -> None:
    images, ids = pictures(32), torch.arange(32)
    before = images.clone()
    views = [shift_and_flip(images, ids, Keys.of(s, e), 4, "zero", True) for s, e in ((0, 0), (1, 0), (0, 1))]
    assert torch.equal(images, before)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert (views[first] != views[second]).any(dim=3).any(dim=2).any(dim=1).float().mean() > 0.9


def test_normalise_by_hand() -> None:
    images = torch.tensor([[[[0, 255]], [[51, 102]]]], dtype=torch.uint8)
    found = normalise(images, (0.5, 0.2), (0.25, 0.1))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.tensor([[[[-2.0, 2.0]], [[0.0, 2.0]]]]))
    assert torch.equal(found, normalise(images, torch.tensor([0.5, 0.2]), torch.tensor([0.25, 0.1])))


def test_permutation_is_a_permutation_and_differs_by_seed_and_epoch() -> None:
    first = permutation(0, 0, 1000)
    assert first.sort().values.tolist() == list(range(1000))
    assert torch.equal(first, permutation(0, 0, 1000))
    for other in (permutation(1, 0, 1000), permutation(0, 1, 1000), torch.arange(1000)):
        assert (first == other).sum() < 10


def test_crop_box_by_hand() -> None:
    middle_aspect = 0.5  # log-uniform in [3/4, 4/3]: its middle is 1
    draws = [0.25, middle_aspect, 0.5, 0.999] + [0.0] * (CROP_DRAWS - 4)
    # area 0.1 + 0.9 / 4 = 0.325 of 100x200: a square of side sqrt(6500) = 80.6, so 81
    assert crop_box(100, 200, draws, 0.1) == (int(0.5 * 20), int(0.999 * 120), 81, 81)


def test_crop_box_takes_the_next_attempt_and_finally_the_centre() -> None:
    too_large = [0.999, 0.5, 0.0, 0.0]  # a square of nearly all the area of a wide image is too high for it
    draws = too_large + [0.0, 0.5, 0.0, 0.0] + too_large * 8
    assert crop_box(400, 100, draws, 0.04) == (0, 0, 40, 40)
    assert crop_box(400, 100, too_large * 10, 0.04) == ((400 - 133) // 2, 0, 133, 100)
    assert crop_box(100, 400, too_large * 10, 0.04) == (0, (400 - 133) // 2, 100, 133)
    assert crop_box(1, 50, too_large * 10, 0.04) == (0, 24, 1, 1)


@given(
    width=st.integers(1, 700),
    height=st.integers(1, 700),
    min_scale=st.floats(0.01, 1),
    draws=st.lists(st.floats(0, 1, exclude_max=True), min_size=CROP_DRAWS, max_size=CROP_DRAWS),
)
@settings(max_examples=100, deadline=None)
def test_crop_box_lies_in_the_image(width: int, height: int, min_scale: float, draws: list[float]) -> None:
    left, top, w, h = crop_box(width, height, draws, min_scale)
    assert w >= 1
    assert h >= 1
    assert left >= 0
    assert top >= 0
    assert left + w <= width
    assert top + h <= height
    if min(width, height) > 100:
        assert 0.73 < w / h < 1.37
