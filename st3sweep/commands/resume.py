"""Resume a run: keep finished trials, continue unfinished ones from their checkpoints."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from st3sweep.commands.reading import read_space
from st3sweep.commands.run import check_before_start, run_to_the_end
from st3sweep.commands.stored import kept_in_store, unfinished_trials
from st3sweep.runs.bring import bring_models, local_run
from st3sweep.runs.folder import RESOLVED, existing_run
from st3sweep.runs.ledger import Ledger
from st3sweep.space.changes import check_unchanged
from st3sweep.space.loading import load_stored_space
from st3sweep.space.overrides import Overrides
from st3sweep.sweep.measuring import unmeasured
from st3sweep.training.components import register_components
from st3sweep.trial.plugins import check_foreign_components
from st3sweep.util.errors import UserError


def resume(
    folder: Path,
    overrides: Mapping[str, str],
    *,
    trials: str | None = None,
    extend: bool,
    promote: Sequence[int],
    address: str | None,
    track: Sequence[str],
    plugins: Sequence[str],
    allow_changed_plugins: bool = False,
    as_json: bool,
    verbose: bool,
) -> int:
    """Run what remains of the run in ``folder``; return the program's exit code.

    ``trials`` is the new number of trials of the search, or with a sign how many to add. With ``extend``, budget,
    replicates and resources may differ from those that the run started with. ``promote`` are early-stopped trials to
    train to the end. Raises SpecError and UserError before anything is started.
    """
    folder = existing_run(local_run(folder))
    if trials is not None:
        overrides, extend = Overrides.of(overrides).updated("budget.trials", str(_extended(folder, trials))), True
    ledger = Ledger(folder, read_only=True)
    if absent := [name for name in ledger.plugins if name not in plugins]:
        raise UserError(f"{folder}: was run with --plugin {' --plugin '.join(absent)}; name it again")
    register_components(plugins)
    check_foreign_components(folder, ledger.foreign, plugins=ledger.plugins, allow_changed=allow_changed_plugins)
    space = read_space(folder / RESOLVED, overrides, plugins)
    if ledger.space is not None:
        check_unchanged(ledger.space, space.document.data, extend=extend)
    check_before_start(space, address, track)
    if space.config.measures_latency and address is None:
        bring_models(folder, [trial.number for trial in unmeasured(ledger)])

    def needed() -> list[int]:
        return [*([] if address else unfinished_trials(folder)), *promote]

    with kept_in_store(folder, checkpoints=address is None, needed=needed) as keep_only:
        return run_to_the_end(
            space, folder, address, keep_only,
            promote=promote, track=track, plugins=plugins, as_json=as_json, verbose=verbose,
        )  # fmt: skip


def _extended(folder: Path, trials: str) -> int:
    """Return the number of trials that ``trials`` asks for: a number, or +N more than the run's."""
    if not re.fullmatch(r"\+?[1-9][0-9]*", trials):
        raise UserError(f"--trials {trials}: must be a number of trials, or +N for N more")
    if not trials.startswith("+"):
        return int(trials)
    before = load_stored_space(folder / RESOLVED).config.budget.trials
    if before is None:
        raise UserError(f"--trials {trials}: the run has no budget.trials to add to; give a number without a sign")
    return before + int(trials)
