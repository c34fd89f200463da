"""The pack that a space's or a trial's data asks for: which dataset, at which size, to which folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from st3sweep.commands.plan import sample_points
from st3sweep.commands.reading import read_space, read_trial
from st3sweep.data import DataError, make_pack
from st3sweep.trial.data import DataConfig, OnDiskConfig
from st3sweep.util.errors import UserError
from st3sweep.util.yaml_lines import read_yaml


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
    plugins: Sequence[str] = (),
) -> Made:
    """Make the pack of the data that ``file`` names, in ``folder`` or else in its ``data.pack``.

    ``advance(done, of)`` is called after each image. UserError where there is nothing to pack, or an image is bad.
    """
    spec = _data(file, overrides, plugins)
    if not isinstance(spec, OnDiskConfig):
        raise UserError(f"{spec.dataset} need no pack: they are small and come with the installation")
    if folder is None and spec.pack is None:
        raise UserError(f"{file} sets no data.pack: name a folder with --out")
    if short_side is not None and not spec.photographs:
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


def _data(file: Path, overrides: Mapping[str, str], plugins: Sequence[str]) -> DataConfig:
    """The data of the trial, or of the trials of the space: one dataset, photographs at the largest of their sizes."""
    if not {"trial", "search"} & set(read_yaml(file).data):
        return read_trial(file, overrides, plugins).data
    space = read_space(file, overrides, plugins)
    specs = [space.trial_for(point).data for point in sample_points(space)]
    squares = {spec.image_size for spec in specs if not (isinstance(spec, OnDiskConfig) and spec.photographs)}
    if len({spec.dataset for spec in specs}) > 1 or len(squares) > 1:
        raise UserError(f"{file} searches data of several kinds: choose one to pack with --set data.FIELD=VALUE")
    return max(specs, key=lambda spec: spec.image_size)
