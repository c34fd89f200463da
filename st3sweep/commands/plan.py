"""Describe what a sweep would do: data, model, searched fields, trials, slots, one sampled trial."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterator
from functools import cache
from typing import Any

import yaml

from st3sweep.commands.disk import disk
from st3sweep.commands.price_facts import price_facts
from st3sweep.commands.resource_facts import resource_facts
from st3sweep.data import DataError, inspect
from st3sweep.data.pack.staging import StagingError, described
from st3sweep.networks import build_model
from st3sweep.networks.flops import layer_costs, over_budget
from st3sweep.space.config import SpaceConfig
from st3sweep.space.distributions import Choice, FloatRange
from st3sweep.space.early_stopping import EarlyStoppingConfig
from st3sweep.space.first_points import first_points
from st3sweep.space.grid_size import grid_size
from st3sweep.space.overrides import COMMAND_LINE, PYTHON
from st3sweep.space.point_checks import at_search
from st3sweep.space.resources import Resources
from st3sweep.space.sample_points import sample_points
from st3sweep.space.space import ABSENT, Point, Space, look_up
from st3sweep.sweep.warm_start import EarlierRuns
from st3sweep.trial.data import OnDiskConfig
from st3sweep.trial.model import ModelConfig
from st3sweep.trial.recipes import with_recipe
from st3sweep.trial.settings import TrialSettings
from st3sweep.util.errors import Problem, SpecError
from st3sweep.util.text import counted, format_flops

_WIDTH = 116


def check_data(space: Space) -> Any:
    """Check the data that the space names and return its DataInfo. Raises SpecError naming line and field.

    Reads folders and headers only: no image is decoded.
    """
    inspected: dict[str, Any] = {}
    info = None
    for point in sample_points(space):
        trial = space.trial_for(point)
        key = trial.data.model_dump_json()
        try:
            info = inspected[key] = inspected.get(key) or inspect(trial.data)
        except DataError as error:
            raise SpecError([_problem(space, point, error.field, error.message)]) from None
        if trial.model.weights and not trial.model.weights_by_name and not os.path.isfile(trial.model.weights):
            raise SpecError([_problem(space, point, "model.weights", f"no such file: {trial.model.weights}")])
        if trial.train.batch_size > info.train:
            message = f"{trial.train.batch_size} is more than the {info.train} training images"
            raise SpecError([_problem(space, point, "train.batch_size", message)])
        if trial.gflops is not None:
            dense = _dense(trial.model, info.num_classes, info.channels, info.image_size)[1] / 1e9
            if excess := over_budget(trial.gflops.target, dense):
                raise SpecError([_problem(space, point, "gflops.target", excess)])
    return info


@cache
def _dense(model: ModelConfig, classes: int, channels: int, size: int) -> tuple[int, int]:
    """Return a model's number of prunable weights and its dense multiply-accumulates."""
    costs = layer_costs(build_model(model, classes, channels), (channels, size, size))
    return sum(cost.numel for cost in costs), sum(cost.macs for cost in costs)


def _problem(space: Space, point: Point, field: str, message: str) -> Problem:
    return at_search(space, space.document.problem(("trial", *field.split(".")), message).named(field), point)


def print_plan(space: Space) -> None:
    """Print the plan, and to stderr what prevents the sweep from running yet."""
    info, absent = None, None
    try:
        info = check_data(space)
    except SpecError as error:
        absent = error
    print(plan_text(space, info))
    for problem in absent.problems if absent else []:
        print(f"\nnot ready to run: {problem}", file=sys.stderr)


def plan_text(space: Space, info: Any | None) -> str:
    """Return the plan as text; ``info`` is None if the data could not be read."""
    spec = space.config
    points = sample_points(space)
    trial = space.trial_for(points[0])
    facts = [("sweep", spec.name)]
    networks = {one.model.label: one for one in map(space.trial_for, points)}
    facts += [("model", _network(one, info)) for one in networks.values()]
    facts.append(("data", _data(trial, info)))
    if info and isinstance(trial.data, OnDiskConfig) and trial.data.pack:
        facts.append(("pack", _pack(trial.data.pack)))
    facts.append(("recipe", trial.recipe))
    facts.append(("precision", _precision(trial, space.config.resources)))
    facts.append(("objectives", ", ".join(f"{metric} {goal}" for metric, goal in spec.goals())))
    facts.append(("sampler", _sampler(space)))
    if spec.early_stopping.name != "none":
        facts.append(("stopping", _early_stopping(spec.early_stopping)))
    if spec.warm_start:
        facts.append(("warm start", _warm_start(space)))
    facts.append(("trials", _trials(space, trial)))
    facts += [*_budget(space), *price_facts(space)]
    if known := _classes_and_channels(trial, info):
        facts.append(("disk", disk(space, map(space.trial_for, points), *known)))
    if spec.measures_latency or spec.measures_size:
        facts.append(("measured", _measured(spec)))
    facts += resource_facts(space)
    lines = [line for name, fact in facts for line in _hanging(f"{name:<10}  ", fact)]
    lines += ["", "searched"]
    width = max(map(len, spec.search))
    for path, distribution in spec.search.items():
        lines += _hanging(f"  {path:<{width}}  ", _range(distribution) + _condition(distribution.when or {}))
    if spec.constraints:
        lines += ["", "constraints", *(line for text in spec.constraints for line in _hanging("  ", text))]
    lines += ["", "one trial of the space, complete", *_trial_lines(space, points[0], trial)]
    return "\n".join(lines)


def _hanging(head: str, text: str) -> list[str]:
    """Wrap ``text`` with a hanging indent after ``head``."""
    return textwrap.wrap(
        text, _WIDTH, initial_indent=head, subsequent_indent=" " * len(head), break_long_words=False,
        break_on_hyphens=False, drop_whitespace=True,
    ) or [head.rstrip()]  # fmt: skip


def _network(trial: TrialSettings, info: Any | None) -> str:
    size, known = trial.data.image_size, _classes_and_channels(trial, info)
    if known is None:
        return trial.model.label
    weights, macs = _dense(trial.model, *known, size)
    return (
        f"{trial.model.label}: {weights:,} prunable weights; dense, at {size} pixels:"
        f" {macs:,} multiply-accumulates ({format_flops(macs / 1e9)})"
    )


def _classes_and_channels(trial: TrialSettings, info: Any | None) -> tuple[int, int] | None:
    """Return the numbers of classes and of channels of the data, if known: it may not be on this machine."""
    if info:
        return info.num_classes, info.channels
    return (trial.data.known_classes, trial.data.channels) if trial.data.known_classes else None


def _data(trial: TrialSettings, info: Any | None) -> str:
    if info is None:
        return trial.data.dataset
    counts = f"{info.train:,} to train on, {info.validation:,} to validate, {info.test:,} to test"
    note = f"; {info.note}" if info.note else ""
    return f"{trial.data.dataset}: {info.num_classes:,} classes; images: {counts}{note}"


def _pack(pack: str) -> str:
    """Say where workers map the pack from, as far as this machine's ``ST3SWEEP_STAGE`` tells."""
    try:
        return f"{pack}, {described(pack)}"
    except StagingError as error:
        return str(error)


def _precision(trial: TrialSettings, resources: Resources) -> str:
    asked, on_gpus = trial.train.precision, bool(resources.gpus)
    words = {"bf16": "bfloat16 by autocast", "fp32": "float32, with TF32 products" if on_gpus else "float32"}
    words["auto"] = f"{words['bf16']} on GPUs that have it, else {words['fp32']}" if on_gpus else words["fp32"]
    return words[asked] + ("; deterministic algorithms" if trial.train.deterministic else "")


def _sampler(space: Space) -> str:
    searcher = space.config.searcher
    startup = f", {searcher.startup_trials} random trials first" if searcher.startup_trials else ""
    population = f", population {searcher.population}" if searcher.population else ""
    return f"{searcher.sampler}{startup}{population}; seed {space.config.seed}"


def _measured(spec: SpaceConfig) -> str:
    """Describe what is measured of finished trials, and when."""
    latency = (
        "latency on this machine: predicted when a trial ends; measured at the end of the sweep, one trial after "
        "another, in the sparse runtime on one thread"
    )
    size = "size of the packed file, when a trial ends"
    return "; ".join(text for text, asked in ((latency, spec.measures_latency), (size, spec.measures_size)) if asked)


def _early_stopping(rule: EarlyStoppingConfig) -> str:
    rungs = ", ".join(f"{rung:g}" for rung in rule.rungs)
    when = f"{rungs} of the ramp, then every {rule.every:g} of training"
    if rule.name == "asha":
        when = f"{rungs} of training"
    best = f"keeps the best 1/{rule.reduction_factor:g} at {when}"
    reached = "has reached" if rule.min_trials == 1 else "have reached"
    return f"{rule.name}: {best}, once {counted(rule.min_trials, 'trial')} {reached} a rung"


def _warm_start(space: Space) -> str:
    """Describe the points to try first and the results to reuse."""
    points, earlier = len(first_points(space)), EarlierRuns(space)
    hints = 0 if space.config.searcher.sampler == "grid" else len(earlier.hints)
    first = [text for count, text in ((points, f"{points} given"), (hints, f"{hints} from earlier fronts")) if count]
    parts = [f"{' and '.join(first)} first"] if first else []
    parts += [f"{counted(earlier.count, 'result')} of earlier trials to reuse if proposed"] if earlier.count else []
    return "; ".join(parts) or "no trial of the earlier runs lies in this space"


def _trials(space: Space, trial: TrialSettings) -> str:
    searched = space.config.search.get("train.epochs")
    first = f"{searched.ends()[0]:,} to " if searched else ""
    epochs = first + counted(searched.ends()[-1] if searched else trial.train.epochs, "epoch")
    finetune = f" and {trial.train.finetune_epochs:,} with fixed masks" if trial.train.finetune_epochs else ""
    count, grid = space.expected_trials(), ""
    if space.config.searcher.sampler == "grid":
        size = grid_size(space)
        bound = "" if size.exact else "at most "
        grid = ", the whole grid" if size.points == count else f" of the {bound}{size.points:,} points of the grid"
    many = "as many as the budget allows" if count is None else f"{count:,}{grid}"
    return f"{many}; {epochs} each{finetune}"


def _budget(space: Space) -> Iterator[tuple[str, str]]:
    budget, replicates = space.config.budget, space.config.replicates
    limits = [("wall", f"{budget.wall} of wall time"), ("gpu_hours", f"{budget.gpu_hours or 0:g} GPU-hours")]
    price = f"{budget.price_per_device_hour or 0:g} an hour of a {'GPU' if space.config.resources.gpus else 'CPU'}"
    limits.append(("money", f"{budget.money or 0:g} in money at {price}"))
    set_ = [text for name, text in limits if name in budget.limits()]
    if set_:
        kept = f"; {replicates.share_kept:.0%} of it reserved for replicates" if replicates else ""
        yield "budget", f"at most {', '.join(set_)}{kept}"
    if replicates:
        near = f" or at most {replicates.near:g} points below it" if replicates.near else ""
        yield "replicates", f"{replicates.seeds} seeds, the first included, for trials on the front{near}"


def _range(distribution: Any) -> str:
    if isinstance(distribution, Choice):
        return ", ".join(map(_scalar, distribution.choice))
    if isinstance(distribution, FloatRange):
        low, high = distribution.float_
        return f"{low:g} to {high:g}" + ("" if distribution.scale == "linear" else f", scale {distribution.scale}")
    values = distribution.values()
    return f"{values[0]:,} to {values[-1]:,}, integers" + (
        f", step {distribution.step}" if distribution.step > 1 else ""
    )


def _condition(when: dict[str, Any]) -> str:
    words = []
    for path, wanted in when.items():
        values = [_scalar(value) for value in (wanted if isinstance(wanted, list) else [wanted])]
        words.append(f"{path} is {' or '.join([', '.join(values[:-1]), values[-1]] if values[1:] else values)}")
    return f"; only when {' and '.join(words)}" if words else ""


def _trial_lines(space: Space, point: Point, trial: TrialSettings) -> list[str]:
    """Return the trial as YAML lines, with a comment on each value that is not from the file's fixed part."""
    rows = list(_rows(trial.model_dump(mode="json"), ()))
    width = max(len(text) for text, path in rows if path and len(text) < 60)
    with_base = with_recipe(space.raw_trial(point))
    lines = []
    for text, path in rows:
        note = _source(space, point, with_base, path) if path else ""
        lines.append(f"  {text:<{width}}  # {note}" if note else f"  {text}")
    return lines


def _rows(tree: dict[str, Any], above: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield lines of YAML, each with the dotted path of its field, or "" for the name of a mapping."""
    for name, value in tree.items():
        head, path = f"{'  ' * len(above)}{name}:", (*above, name)
        if isinstance(value, dict):
            yield head, ""
            yield from _rows(value, path)
        else:
            yield f"{head} {_scalar(value)}", ".".join(path)


def _scalar(value: Any) -> str:
    """Format a value as one line of YAML, a long float with four significant digits."""
    if isinstance(value, float) and len(repr(value)) > 10:
        value = float(f"{value:.4g}")
    return yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True).split("\n")[0]


def _source(space: Space, point: Point, with_base: dict[str, Any], path: str) -> str:
    mark = space.document.marks.get(("trial", *path.split(".")))
    if path in point:
        return "searched"
    if mark and mark[0].startswith((f"{COMMAND_LINE} ", f"{PYTHON} ")):
        return mark[0].split()[0]
    if look_up(space.config.trial, path) is not ABSENT:
        return ""
    if path == "seed":
        return "the sweep's"
    return "default" if look_up(with_base, path) is ABSENT else "recipe"
