"""Find byte-identical images that lie in two splits: what is validated or tested on must not have been trained on."""

from __future__ import annotations

import hashlib
import os
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Duplicates:
    """Pairs of (split, file) with equal content, and how many of the ``files`` that may have one were ``compared``."""

    pairs: list[tuple[tuple[str, str], tuple[str, str]]]
    compared: int
    candidates: int


def between_splits(files: Mapping[str, Sequence[str]], seconds: float = 20.0) -> Duplicates:
    """Compare the ``files`` of each split by size, then by hash, for at most ``seconds``.

    One pair is listed for each file beyond the first of a content that two splits share.
    """
    by_size: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for split, paths in files.items():
        for path in paths:
            by_size[os.stat(path).st_size].append((split, path))
    groups = [group for group in by_size.values() if len({split for split, _ in group}) > 1]
    deadline, compared = time.monotonic() + seconds, 0
    pairs = []
    for group in groups:
        if time.monotonic() > deadline:
            break
        first: dict[str, tuple[str, str]] = {}
        for split, path in group:
            with open(path, "rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            known = first.setdefault(content, (split, path))
            if known[0] != split:
                pairs.append((known, (split, path)))
        compared += len(group)
    return Duplicates(pairs, compared, sum(map(len, groups)))
