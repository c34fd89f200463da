"""Put the report together: one HTML file with its style, its script and its data inside, and no third-party code.

The data are JSON in a script element that runs nothing, and the script inserts them as text, so no name or error text
can become part of the page. A policy in the page allows only this script, by its hash, and no network.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

from st3sweep.util.storage.atomic import atomic_write
from st3sweep.util.text import json_line

SCRIPTS = tuple(
    f"{name}.js"
    for name in (
        "values", "drawing", "chart", "front", "pointing", "budget", "details", "table", "timeline", "sections", "main",
    )
)  # fmt: skip


def render(data: dict[str, Any], *, live: bool = False) -> str:
    """Return the page that shows ``report_data(...)``; a ``live`` one asks its server for newer data."""
    script = f'"use strict";\n(() => {{\n{"".join(map(asset, SCRIPTS))}}})();\n'
    style = asset("style.css")
    parts = {
        "policy": _policy(script, style, live),
        "title": html.escape(str(data["title"])),
        "live": "yes" if live else "no",
        "style": style,
        "summary": "".join(f"<p>{html.escape(str(text))}</p>" for text in data["summary"]),
        "data": in_script(data),
        "script": script,
    }
    # One pass: what is inserted is not searched again.
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], asset("page.html"))


def write_page(data: dict[str, Any], path: Path) -> None:
    """Write the page to ``path``, whole or not at all. Raises OSError."""
    with atomic_write(path, sync=False) as file:
        file.write(render(data).encode(errors="backslashreplace"))


def in_script(data: Any) -> str:
    """Return ``data`` as JSON that can stand in a script element: it holds neither ``<`` nor ``&``."""
    try:
        text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError:  # a searched value that is not finite
        text = json_line(data)
    # Outside of strings, JSON has none of these; < would end the element or open a comment.
    return text.translate({ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"})


def asset(name: str) -> str:
    """Return the text of a file of the page."""
    return resources.files(__package__).joinpath("assets", name).read_text(encoding="utf-8")


def _policy(script: str, style: str, live: bool) -> str:
    network = "'self'" if live else "'none'"
    return (
        f"default-src 'none'; script-src 'sha256-{_digest(script)}'; style-src 'sha256-{_digest(style)}'; "
        f"connect-src {network}; img-src data:; base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
