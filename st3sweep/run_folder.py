"""A run's folder and the files in it that are not tables."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import yaml

from st3sweep.errors import UserError
from st3sweep.provenance import provenance
from st3sweep.space import Space

SPACE, RESOLVED, PROVENANCE = "space.yaml", "resolved.yaml", "provenance.json"


def new_run(space: Space, source: Path, storage: Path, name: str | None) -> Path:
    """Make the folder of a new run: the space as given, the same with ``--set`` applied, and the provenance.

    ``name`` must be free; without one, the space's name is used, numbered from 2 where it is taken.
    """
    if ":/" in str(storage):  # a Path has folded the second slash
        raise UserError(f"--storage {storage}: must be a folder that every machine of the cluster reaches")
    if name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UserError(f"--name {name}: letters, digits, dot, dash and underscore only")
    base = name or space.spec.name
    number = 1
    while True:
        folder = (storage / (base if number == 1 else f"{base}-{number}")).absolute()
        try:
            folder.mkdir(parents=True)
            break
        except FileExistsError:
            if name is not None:
                raise UserError(f"{folder}: exists; resume it with `st3sweep resume`, or choose another name") from None
            number += 1
        except OSError as error:
            raise UserError(f"{folder}: cannot be made ({error.strerror})") from None
    shutil.copyfile(source, folder / SPACE)
    (folder / RESOLVED).write_text(yaml.safe_dump(space.document.data, sort_keys=False, allow_unicode=True))
    data: dict[str, Any] = space.spec.trial.get("data", {})
    facts = json.dumps(provenance(data.get("root")), indent=2, ensure_ascii=False)
    (folder / PROVENANCE).write_text(facts + "\n")
    return folder


def existing_run(folder: Path) -> Path:
    """``folder``, absolute, if it is that of a run."""
    if not (folder / RESOLVED).is_file():
        raise UserError(f"{folder}: not the folder of a run (it has no {RESOLVED})")
    return folder.absolute()


def trial_folder(run: Path, trial: int) -> Path:
    """Where trial number ``trial`` of the run in folder ``run`` has its settings and checkpoints."""
    return run / "trials" / f"{trial:04d}"
