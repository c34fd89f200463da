"""Find the finished trial of a run that a command names by its number."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from st3sweep.runs.ledger import LEDGER, Ledger, Trial
from st3sweep.trial.plugins import check_foreign_components
from st3sweep.trial.recipes import resolve
from st3sweep.trial.settings import TrialSettings, unregistered
from st3sweep.util.errors import UserError


def finished_trial(run: Path, number: int, *, allow_changed: bool = False) -> tuple[Trial, TrialSettings]:
    """Return trial ``number`` of the run in folder ``run``, with its settings, which need the registry.

    Raises UserError if ``run`` is not a run, the trial does not exist or has not finished, or its settings cannot be
    read: they are of another version, or name a component of a plugin that was not imported, or whose code has changed
    since the run started, unless ``allow_changed``.
    """
    if not (run / LEDGER).is_file():
        raise UserError(f"{run}: not the folder of a run (it has no {LEDGER})")
    ledger = Ledger(run, read_only=True)
    trials = ledger.trials
    trial = trials.get(number)
    if trial is None:
        last = f"its last is {max(trials)}" if trials else "it has none"
        raise UserError(f"{run}: no trial {number}; {last}")
    if trial.status != "finished":
        raise UserError(f"{run}: trial {number} is {trial.status}; this needs a finished one")
    try:
        settings = resolve(trial.spec)
    except ValidationError as error:
        for key, name in unregistered(trial.spec):
            hint = " ".join(f"--plugin {plugin}" for plugin in ledger.plugins) or "--plugin"
            raise UserError(f"{run}: trial {number} has the {key} {name}; name its plugin with {hint}") from None
        reason = error.errors()[0]["msg"]
        raise UserError(f"{run}: trial {number} is of another version of st3sweep ({reason})") from None
    named = {
        f"{config.key} {getattr(config, config.key)}" for config in (settings.model, settings.data, settings.sparsity)
    }
    expected = {component: facts for component, facts in ledger.foreign.items() if component in named}
    check_foreign_components(run, expected, plugins=ledger.plugins, allow_changed=allow_changed)
    return trial, settings
