"""The pack that a space's or a trial's data asks for: which dataset, at which size, to which folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from st3sweep.data import DataError, make_pack
from st3sweep.errors import UserError
from st3sweep.loading import load_space, load_trial
from st3sweep.plan import sample_points
from st3sweep.spec import DataSpec, Digits, ImageFolder
from st3sweep.yaml_file import read_yaml


@dataclass(frozen=True)
class Made:
    """A pack that was made; bad images that it leaves out are not among its ``images``."""

    folder: Path
    images: int
    left_out: int


def pack_data(
    file: Path,
    overrides: Mapping[str, str],
    folder: Path | None,
    short_side: int | None,
    advance: Callable[[int, int], None],
) -> Made:
    """Make the pack of the data that ``file`` names, in ``folder`` or else in its ``data.pack``.

    ``advance(done, of)`` is called after each image. UserError where there is nothing to pack, or an image is bad.
    """
    spec = _data(file, overrides)
    if isinstance(spec, Digits):
        raise UserError("digits need no pack: they are small and come with the installation")
    if folder is None and spec.pack is None:
        raise UserError(f"{file} sets no data.pack: name a folder with --out")
    if short_side is not None and not isinstance(spec, ImageFolder):
        raise UserError(f"--short-side has no effect on {spec.dataset}: its images are squares")
    target = (folder or Path(spec.pack or "")).absolute()
    total = 0

    def count(done: int, of: int) -> None:
        nonlocal total
        total = of
        advance(done, of)

    try:
        left_out = make_pack(spec, target, short_side, count)
    except DataError as error:
        raise UserError(str(error)) from None
    return Made(target, total - left_out, left_out)


def _data(file: Path, overrides: Mapping[str, str]) -> DataSpec:
    """The data of the trial, or of the trials of the space: one dataset, photographs at the largest of their sizes."""
    if not {"trial", "search"} & set(read_yaml(file).data):
        return load_trial(file, overrides).data
    space = load_space(file, overrides)
    specs = [space.trial_for(point).data for point in sample_points(space)]
    squares = {spec.image_size for spec in specs if not isinstance(spec, ImageFolder)}
    if len({spec.dataset for spec in specs}) > 1 or len(squares) > 1:
        raise UserError(f"{file} searches data of several kinds: choose one to pack with --set data.FIELD=VALUE")
    return max(specs, key=lambda spec: spec.image_size)
