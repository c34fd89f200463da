"""Load datasets and iterate over their batches: ``inspect`` counts without torch, ``load`` returns the splits.

``load`` decodes once for all processes of a machine (``decoded_cache.py``), ``make_pack`` for all trials that name the
pack, which ``load`` copies to local disk once per host if told to (``pack/staging.py``); ``batches.py`` iterates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import st3sweep.data.formats  # noqa: F401 (registers them)
from st3sweep.data import decoded_cache
from st3sweep.data.decode import short_side as evaluated_short_side
from st3sweep.data.pack import splits as packed
from st3sweep.data.pack.reading import open_pack
from st3sweep.data.pack.staging import Say, StagingError, folder_for, silent, stage_folder
from st3sweep.data.pack.writing import write_pack
from st3sweep.data.records import DataError, DataInfo, Splits
from st3sweep.trial.data import DataConfig, OnDiskConfig

__all__ = ["DataError", "DataInfo", "Splits", "StagingError", "inspect", "load", "make_pack"]


def inspect(data: DataConfig) -> DataInfo:
    """Return the counts and shape of what ``load`` returns; decodes nothing, imports no torch. Raises DataError."""
    if isinstance(data, OnDiskConfig) and data.pack:
        stage_folder()  # is it an absolute path?
        return packed.inspect(data, open_pack(data))
    decoded_cache.check_setting()
    info: DataInfo = data.inspect()
    return info


def load(data: DataConfig, say: Say = silent) -> Splits:
    """Load the splits of the dataset; validation comes from its training set. Raises DataError if unreadable.

    A pack is copied to local disk first where ``ST3SWEEP_STAGE`` says so: ``say`` is told how far that is. Raises
    StagingError if it cannot be copied.
    """
    splits: Splits
    if not isinstance(data, OnDiskConfig):
        splits = data.load()
    elif data.pack:
        splits = packed.load(data, open_pack(data, folder_for(data.pack), say))
    elif data.photographs:  # decoded at each fetch
        splits = data.load()
    else:
        data.fetch()
        splits = decoded_cache.load_once(data)
    return replace(splits, class_names=_class_names(data, splits.num_classes))


def _class_names(data: DataConfig, count: int) -> tuple[str, ...] | None:
    """Return the names of all classes; None where the data have none, or the root that has them is not there."""
    try:
        names = data.class_names()
    except (DataError, OSError):
        return None
    return names if names and len(names) == count else None


def make_pack(
    data: OnDiskConfig,
    out: Path,
    short_side: int | None = None,
    advance: Callable[[int, int], None] = lambda done, of: None,  # noqa: ARG005
) -> int:
    """Decode and resize every image once into the pack ``out`` (see ``pack/``); return the number of skipped images.

    ``short_side`` is the shorter side of photographs in pixels, by default the one that evaluation resizes them to.
    ``advance(done, of)`` is called after each image. Raises DataError for an unreadable image or an unusable folder.
    """
    least = evaluated_short_side(data.image_size)
    if short_side is not None and short_side < least:
        raise DataError("data.image_size", f"{data.image_size} needs shorter sides of {least} pixels, not {short_side}")
    return write_pack(data, data.sources(short_side or least), out, short_side or least, advance)
