"""Say where a run's numbers come from, and how to get them again."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Any

from st3sweep.runs.folder import PROVENANCE, RESOLVED, SPACE
from st3sweep.runs.ledger import LEDGER


def origin_of(folder: Path, label: str) -> dict[str, Any]:
    """Return a run's name, path, provenance, the commands that repeat it, and its search space as text.

    ``exportable`` says whether the folder is a whole run: of tables alone no model can be exported.
    """
    shown = shlex.quote(_short(folder))
    whole = (folder / RESOLVED).is_file() and (folder / LEDGER).is_file()
    return {
        "label": label,
        "path": shown,
        "exportable": whole,
        "provenance": _provenance(folder),
        "reproduce": _commands(folder, shown, whole),
        "space": _text(folder / SPACE) or _text(folder / RESOLVED),
    }


def _short(folder: Path) -> str:
    """Return the path from the working directory where it lies below, else the absolute one."""
    path = Path(os.path.abspath(folder))
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _commands(folder: Path, shown: str, whole: bool) -> list[list[str]]:
    """Return pairs (what it does, command)."""
    if not whole:
        return []
    commands = [["Run the same search again", f"st3sweep run {shown}/{SPACE}"]]
    if (folder / SPACE).is_file() is False:
        commands = [["Run the same search again", f"st3sweep run {shown}/{RESOLVED}"]]
    return [
        *commands,
        ["Train one trial again and compare every number", f"st3sweep reproduce {shown} TRIAL"],
        ["Write this report again", f"st3sweep report {shown}"],
    ]


def _provenance(folder: Path) -> list[list[str]]:
    """Return pairs (name, value) of what was recorded when the run started; none for tables alone."""
    text = _text(folder / PROVENANCE)
    try:
        record = json.loads(text) if text else {}
    except ValueError:
        return [["provenance", f"{PROVENANCE} is not JSON"]]
    if not isinstance(record, dict):
        return [["provenance", f"{PROVENANCE} holds no record"]]
    git, host = record.get("git") or {}, record.get("host") or {}
    packages = record.get("packages") or {}
    facts = {
        "started": record.get("time"),
        "command": shlex.join(map(str, record.get("command") or [])),
        "st3sweep": record.get("st3sweep"),
        "commit": git.get("commit"),
        "uncommitted changes": _changes(git.get("diff")),
        "Python": record.get("python"),
        "packages": ", ".join(f"{name} {version}" for name, version in packages.items() if version),
        "system": host.get("system"),
        "processor": f"{host.get('processor') or 'unknown'}, {host.get('cpus')} cores" if host else None,
        "data": _data(record.get("data")),
        "plugins": ", ".join(sorted(record.get("plugins") or {})),
    }
    return [[name, str(value)] for name, value in facts.items() if value]


def _changes(diff: Any) -> str | None:
    if diff is None:
        return None
    return f"{len(str(diff).splitlines())} lines of diff" if diff else "none"


def _data(data: Any) -> str | None:
    if isinstance(data, dict):
        return f"{data.get('root')}: {data.get('count')} files"
    return None if data is None else str(data)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
