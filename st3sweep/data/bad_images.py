"""Skip unreadable images (``data.bad_images: skip``): they are counted and named; all others keep their split."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from st3sweep.data.records import DataError

_NAMED = 3


def good(ids: NDArray[np.int64], bad: Mapping[int, str], split: str, *, silent: bool = False) -> NDArray[np.int64]:
    """Return ``ids``, in order, without those in ``bad`` (id -> why it cannot be read).

    Warns, unless ``silent``, how many images of ``split`` are skipped and names the first ones. Raises DataError if
    none is left.
    """
    reasons = [bad[id_] for id_ in ids.tolist() if id_ in bad]
    if not reasons:
        return ids
    if len(reasons) == len(ids):
        raise DataError("data.root", f"none of the {len(ids)} {split} images can be read; the first: {reasons[0]}")
    if not silent:
        named = "; ".join(reasons[:_NAMED]) + ("; ..." if len(reasons) > _NAMED else "")
        message = f"{len(reasons)} of {len(ids)} {split} images left out: {named}"
        warnings.warn(message, RuntimeWarning, stacklevel=2)
    return ids[~np.isin(ids, list(bad))]
