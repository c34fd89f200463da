"""What a sweep would do, before it does it: data, network, searched fields, trials, slots, one sampled trial."""

from __future__ import annotations

import random
from typing import Any

import yaml

from st3sweep.distributions import Choice, FloatRange
from st3sweep.errors import Problem, SpecError
from st3sweep.space import Space
from st3sweep.spec import TrialSpec


def sample_trials(space: Space, points: int = 50) -> list[TrialSpec]:
    """Random trials of the space that meet its constraints; at least one, since the space was checked."""
    rng = random.Random(space.spec.seed)
    drawn = (space.draw(rng) for _ in range(100 * points))
    trials = []
    for point in drawn:
        if space.allows(point):
            trials.append(space.trial_for(point))
        if len(trials) == points:
            break
    return trials


def check_data(space: Space) -> Any:
    """Look at the data that the space names; returns its DataInfo. Raises SpecError, naming line and field.

    Looks at folders and headers only: no image is decoded and torch is not imported.
    """
    from st3sweep.data import DataError, inspect

    problems: dict[str, Problem] = {}
    info = None
    inspected: dict[str, Any] = {}
    workers = space.spec.resources.workers
    for trial in sample_trials(space):
        key = trial.data.model_dump_json()
        try:
            if key not in inspected:
                inspected[key] = inspect(trial.data)
            info, batch = inspected[key], trial.train.batch_size
            if batch > info.train:
                _note(space, problems, "train.batch_size", f"{batch} is more than the {info.train} training images")
            if batch % workers:
                _note(space, problems, "train.batch_size", f"{batch} does not divide among {workers} workers")
        except DataError as error:
            _note(space, problems, error.field, error.message)
            break
    if problems:
        raise SpecError(problems.values())
    return info


def _note(space: Space, problems: dict[str, Problem], field: str, message: str) -> None:
    searched = ("search", field)
    path = searched if searched in space.document.marks else ("trial", *field.split("."))
    found = space.document.problem(path, message)
    problems.setdefault(field, Problem(found.where, found.line, found.column, field, message))


def plan_text(space: Space, info: Any | None, slots: str) -> str:
    """The plan as text. ``info`` is None where the data could not be looked at."""
    spec = space.spec
    trial = sample_trials(space, 1)[0]
    lines = [f"sweep       {spec.name}"]
    lines.append(f"network     {trial.model.name}" + (_cost(trial, info) if info else ""))
    if info:
        counts = f"{info.train} to train on, {info.validation} to validate, {info.test} to test"
        lines.append(f"data        {trial.data.dataset}: {info.num_classes} classes; images: {counts}")
    else:
        lines.append(f"data        {trial.data.dataset}")
    lines.append(f"objectives  {', '.join(f'{metric} {goal}' for metric, goal in spec.goals())}")
    lines.append(f"sampler     {spec.searcher.sampler}, seed {spec.seed}")
    lines.append(f"trials      {_count(space)}, {trial.train.epochs} epochs each" + _finetune(trial))
    lines.append(f"resources   {_resources(space)}; {slots}")
    lines += ["", "searched"]
    width = max(map(len, spec.search))
    for path, distribution in spec.search.items():
        when = "".join(f", when {other} is {wanted}" for other, wanted in (distribution.when or {}).items())
        lines.append(f"  {path:<{width}}  {_range(distribution)}{when}")
    lines += [f"  with {text}" for text in spec.constraints]
    lines += ["", "one trial of the space, complete"]
    dumped = yaml.safe_dump(trial.model_dump(mode="json"), sort_keys=False, default_flow_style=None, width=100)
    lines += [f"  {line}" for line in dumped.splitlines()]
    return "\n".join(lines)


def _cost(trial: TrialSpec, info: Any) -> str:
    from st3sweep.cost import layer_costs
    from st3sweep.models import build_model

    model = build_model(trial.model, info.num_classes, info.channels)
    costs = layer_costs(model, (info.channels, info.image_size, info.image_size))
    weights, macs = sum(c.numel for c in costs), sum(c.macs for c in costs)
    return f": {weights:,} prunable weights, {macs:,} multiply-accumulates at {info.image_size} pixels, dense"


def _count(space: Space) -> str:
    if space.spec.searcher.sampler != "grid":
        return str(space.spec.budget.trials)
    grid, budget = sum(1 for _ in space.grid()), space.spec.budget.trials
    return f"{min(grid, budget)} of the {grid} points of the grid" if budget else f"{grid}, the whole grid"


def expected_trials(space: Space) -> int | None:
    """How many trials the sweep will have."""
    budget = space.spec.budget.trials
    if space.spec.searcher.sampler != "grid":
        return budget
    grid = sum(1 for _ in space.grid())
    return min(grid, budget) if budget else grid


def _finetune(trial: TrialSpec) -> str:
    return f" and {trial.train.finetune_epochs} with fixed masks" if trial.train.finetune_epochs else ""


def _resources(space: Space) -> str:
    resources = space.spec.resources
    gpus = f" and {resources.gpus_per_worker:g} GPU" if resources.gpus_per_worker else ""
    return f"{resources.workers} worker(s) a trial, each {resources.cpus_per_worker} CPU(s){gpus}"


def _range(distribution: Any) -> str:
    if isinstance(distribution, Choice):
        return "one of " + ", ".join(map(str, distribution.choice))
    if isinstance(distribution, FloatRange):
        low, high = distribution.float_
        return f"{low:g} to {high:g}" + ("" if distribution.scale == "linear" else f", {distribution.scale}")
    values = distribution.values()
    return f"{values[0]} to {values[-1]}, whole" + (f", step {distribution.step}" if distribution.step > 1 else "")
