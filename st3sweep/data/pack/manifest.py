"""The manifest of a pack: what it is and was made from, and which files it has, with sizes and SHA-256."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from st3sweep.data.records import DataError

FORMAT = 2  # of files and decoding
MANIFEST = "manifest.json"


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of the pack in ``folder``. Raises DataError where there is none that this version reads."""
    if not folder.is_dir():
        raise DataError("data.pack", f"no pack in {folder}; make one with: st3sweep data pack FILE --out {folder}")
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        if manifest["format"] != FORMAT:
            message = f"{folder} has format {manifest['format']}, this version reads {FORMAT}; {again(folder)}"
            raise DataError("data.pack", message)
        _ = manifest["dataset"], manifest["size"], manifest["source"], manifest["classes"], manifest["splits"]["train"]
    except FileNotFoundError:
        message = f"{folder} is an incomplete pack: it has no {MANIFEST}; {again(folder)}"
        raise DataError("data.pack", message) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError("data.pack", f"cannot read {folder / MANIFEST}: {error!r}; {again(folder)}") from error
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


def check_files(folder: Path, manifest: dict[str, Any]) -> None:
    """Raise DataError unless all files of the pack are there, of their sizes."""
    for name, size in sizes(manifest).items():
        path = folder / name
        found = path.stat().st_size if path.is_file() else None
        if found != size:
            is_ = "is missing" if found is None else f"has {found} bytes, not {size}"
            raise DataError("data.pack", f"{path} {is_}; {again(folder)}")


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def again(folder: Path) -> str:
    """Return what to do about an unusable pack."""
    return f"make it again with: st3sweep data pack FILE --out {folder}"
