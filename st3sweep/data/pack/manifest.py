"""The manifest of a pack: what it is and was made from, and which files it has, with sizes and SHA-256."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from st3sweep.data.pack.place import Place
from st3sweep.data.records import DataError

FORMAT = 2  # of files and decoding
MANIFEST = "manifest.json"


def read_manifest(place: Place) -> dict[str, Any]:
    """Return the manifest of the pack. Raises DataError where there is none that this version reads."""
    if place.folder is not None and not place.folder.is_dir():
        raise DataError("data.pack", f"no pack in {place}; make one with: st3sweep data pack FILE --out {place}")
    try:
        manifest: dict[str, Any] = json.loads(place.read(MANIFEST))
        if manifest["format"] != FORMAT:
            message = f"{place} has format {manifest['format']}, this version reads {FORMAT}; {again(place)}"
            raise DataError("data.pack", message)
        _ = manifest["dataset"], manifest["size"], manifest["source"], manifest["classes"], manifest["splits"]["train"]
    except FileNotFoundError:
        message = f"{place} is an incomplete pack: it has no {MANIFEST}; {again(place)}"
        raise DataError("data.pack", message) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError("data.pack", f"cannot read {place}/{MANIFEST}: {error!r}; {again(place)}") from error
    return manifest


def sizes(manifest: dict[str, Any]) -> dict[str, int]:
    """Return the bytes of each file of the pack."""
    return {name: size for facts in manifest["splits"].values() for name, size in facts["bytes"].items()}


def digests(manifest: dict[str, Any]) -> dict[str, str | None]:
    """Return the SHA-256 of each file; None for the pixels of a pack made before the manifest had theirs."""
    found: dict[str, str | None] = {}
    for split, facts in manifest["splits"].items():
        found |= {f"{split}.pixels": facts.get("pixels_sha256"), f"{split}.npz": facts["sha256"]}
    return found


def check_files(place: Place, manifest: dict[str, Any]) -> None:
    """Raise DataError unless all files of the pack are there, of their sizes; those in object stores are not asked."""
    if place.folder is None:
        return
    for name, size in sizes(manifest).items():
        path = place.folder / name
        found = path.stat().st_size if path.is_file() else None
        if found != size:
            is_ = "is missing" if found is None else f"has {found} bytes, not {size}"
            raise DataError("data.pack", f"{path} {is_}; {again(place)}")


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def again(place: Place) -> str:
    """Return what to do about an unusable pack."""
    if place.folder is None:
        return "make it again with st3sweep data pack, and copy it there"
    return f"make it again with: st3sweep data pack FILE --out {place}"
