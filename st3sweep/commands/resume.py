"""Resume a run: keep finished trials, continue unfinished ones from their checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from st3sweep.commands.reading import read_space
from st3sweep.commands.run import check_before_start, run_to_the_end
from st3sweep.runs.folder import RESOLVED, existing_run
from st3sweep.runs.ledger import Ledger
from st3sweep.space.changes import check_unchanged
from st3sweep.util.errors import UserError


def resume(
    folder: Path,
    overrides: Mapping[str, str],
    *,
    extend: bool,
    promote: Sequence[int],
    address: str | None,
    track: Sequence[str],
    plugins: Sequence[str],
    as_json: bool,
    verbose: bool,
) -> int:
    """Run what remains of the run in ``folder``; return the program's exit code.

    With ``extend``, budget, replicates and resources may differ from those that the run started with. ``promote`` are
    early-stopped trials to train to the end. Raises SpecError and UserError before anything is started.
    """
    folder = existing_run(folder)
    ledger = Ledger(folder, read_only=True)
    if absent := [name for name in ledger.plugins if name not in plugins]:
        raise UserError(f"{folder}: was run with --plugin {' --plugin '.join(absent)}; name it again")
    space = read_space(folder / RESOLVED, overrides, plugins)
    if ledger.space is not None:
        check_unchanged(ledger.space, space.document.data, extend=extend)
    check_before_start(space, address, track)
    return run_to_the_end(
        space, folder, address, promote=promote, track=track, plugins=plugins, as_json=as_json, verbose=verbose
    )
