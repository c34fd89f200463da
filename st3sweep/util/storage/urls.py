"""Addresses of object stores: what they look like, and how pathlib spoils them."""

from __future__ import annotations

import re
from pathlib import Path

from st3sweep.util.errors import UserError

SCHEMES = ("s3", "gs", "az")
_URL = re.compile(r"([a-z][a-z0-9]+):/+(.*)", re.DOTALL)


def url_of(place: Path | str) -> str | None:
    """Return ``place`` as an address, ``s3://bucket/folder``, if it is one; pathlib removes its second slash."""
    found = _URL.fullmatch(str(place))
    return None if found is None else f"{found[1]}://{found[2].strip('/')}"


def check_url(url: str) -> str:
    """Return the address without a slash at its end. Raises UserError unless it names a bucket of a known store."""
    scheme, _, rest = (url_of(url) or "").partition("://")
    if "@" in rest.split("/")[0]:
        raise UserError(f"{scheme}://…: an address holds no credentials; the store's own variables and files do")
    if scheme not in SCHEMES:
        raise UserError(f"{url}: must be a folder, or an address that begins with s3://, gs:// or az://")
    if not rest or rest.startswith("/"):
        raise UserError(f"{url}: names no bucket; it must be {scheme}://bucket/folder")
    return f"{scheme}://{rest}"
