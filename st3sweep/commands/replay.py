"""Replay early-stopping rules on a completed run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from st3sweep.commands.pictures import check_picture, save_picture
from st3sweep.early_stopping.replay import Replay, Unit, replay, replay_table
from st3sweep.runs.tables import read_table
from st3sweep.space.early_stopping import EarlyStoppingConfig
from st3sweep.util.errors import UserError

RULES = ("ramp_pareto", "residual", "asha")


def print_replay(
    folder: Path,
    rules: Sequence[str],
    reduction_factor: float,
    *,
    slots: int,
    orders: int,
    overshoot: int,
    unit: Unit,
    seed: int,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Print what each of ``rules`` (default: all that stop trials) would have saved and lost, and plot it."""
    check_picture(plot)
    found = replays(
        folder, rules, reduction_factor, slots=slots, orders=orders, overshoot=overshoot, unit=unit, seed=seed
    )
    plain = [asdict(one) | {"early_stopping": one.early_stopping.model_dump()} for one in found]
    print(json.dumps(plain) if as_json else replay_table(found))
    if plot is not None:
        from st3sweep.analysis.replay_plots import plot_replays

        save_picture(plot_replays({folder.resolve().name: plain}), plot)


def replays(
    folder: Path,
    rules: Sequence[str],
    reduction_factor: float,
    *,
    slots: int,
    orders: int,
    overshoot: int,
    unit: Unit,
    seed: int,
) -> list[Replay]:
    """Replay each of ``rules`` (default: all that stop trials) on the run in ``folder``."""
    if reduction_factor <= 1:
        raise UserError(f"--reduction-factor {reduction_factor:g}: must be above 1")
    factor: dict[str, Any] = {"reduction_factor": reduction_factor}
    configs = [
        EarlyStoppingConfig.model_validate({"name": name, **({} if name == "none" else factor)})
        for name in rules or RULES
    ]
    trials, epochs = read_table(folder, "trials"), read_table(folder, "epochs")
    return [
        replay(trials, epochs, config, slots=slots, seed=seed, orders=orders, unit=unit, overshoot=overshoot)
        for config in configs
    ]
