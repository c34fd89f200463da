"""Pack the dataset that a search space or a trial names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from st3sweep.commands.reading import Source, read_space, read_trial
from st3sweep.data import make_pack
from st3sweep.space.sample_points import sample_points
from st3sweep.trial.data import DataConfig, OnDiskConfig
from st3sweep.util.errors import UserError
from st3sweep.util.storage.urls import url_of
from st3sweep.util.yaml_lines import read


@dataclass(frozen=True)
class Made:
    """A new pack; ``images`` does not count the unreadable ones that it leaves out."""

    folder: Path
    images: int
    left_out: int


def pack_data(
    file: Source,
    overrides: Mapping[str, str],
    folder: Path | None,
    short_side: int | None,
    advance: Callable[[int, int], None],
    plugins: Sequence[str] = (),
) -> Made:
    """Pack the data that ``file`` names into ``folder``, or else into its ``data.pack``.

    ``advance(done, of)`` is called after each image. Raises UserError if there is nothing to pack or an image is bad.
    """
    spec = _data(file, overrides, plugins)
    if not isinstance(spec, OnDiskConfig):
        raise UserError(f"{spec.dataset} needs no pack: it is small and part of the installation")
    if folder is None and spec.pack is None:
        raise UserError(f"{read(file).file} sets no data.pack: name a folder with --out")
    if short_side is not None and not spec.photographs:
        raise UserError(f"--short-side has no effect on {spec.dataset}: its images are squares")
    if url := url_of(folder or spec.pack or ""):
        raise UserError(f"{url}: a pack is made in a folder: name one with --out, and copy its files there")
    target = (folder or Path(spec.pack or "")).absolute()
    total = 0

    def count(done: int, of: int) -> None:
        nonlocal total
        total = of
        advance(done, of)

    left_out = make_pack(spec, target, short_side, count)
    return Made(target, total - left_out, left_out)


def _data(file: Source, overrides: Mapping[str, str], plugins: Sequence[str]) -> DataConfig:
    """Return the data settings of the trial or the space's trials: one dataset, photographs at their largest size."""
    if not {"trial", "search"} & set(read(file).data):
        return read_trial(file, overrides, plugins).data
    space = read_space(file, overrides, plugins)
    specs = [space.trial_for(point).data for point in sample_points(space)]
    squares = {spec.image_size for spec in specs if not (isinstance(spec, OnDiskConfig) and spec.photographs)}
    if len({spec.dataset for spec in specs}) > 1 or len(squares) > 1:
        raise UserError(
            f"{file} searches several datasets or image sizes: choose one to pack with --set data.FIELD=VALUE"
        )
    return max(specs, key=lambda spec: spec.image_size)
