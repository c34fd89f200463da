"""Points of a search space: their fields, values and resolved trials; and the digest of a trial."""

from __future__ import annotations

import copy
import itertools
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wrong_specs import RIGHT

from st3sweep.space.constraints import Constraint, ConstraintError
from st3sweep.space.distributions import Choice, FloatRange, IntRange, scaled, unscaled
from st3sweep.space.loading import load_space, load_trial
from st3sweep.space.space import ABSENT, Space, settled
from st3sweep.trial.recipes import resolve
from st3sweep.util.errors import SpecError
from st3sweep.util.yaml_lines import read_yaml

Load = Callable[..., Space]
DECAY, RATIO = "optim.weight_decay.kind", "optim.weight_decay.final_ratio"


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Return ``load(text, **{"train.epochs": "3"})``, which loads the space ``text`` with ``--set``."""

    def load(text: str = RIGHT, **overrides: str) -> Space:
        (tmp_path / "space.yaml").write_text(text)
        return load_space(tmp_path / "space.yaml", overrides)

    return load


# -- conditional fields -----------------------------------------------------------------------------------------


def test_conditional_fields_are_drawn_where_they_are_active_and_nowhere_else(load: Load):
    space, rng = load(), random.Random(0)
    points = [space.draw(rng) for _ in range(200)]
    assert {point[DECAY] for point in points} == {"constant", "cosine"}
    assert all((RATIO in point) == (point[DECAY] == "cosine") for point in points)


def test_a_condition_on_a_list_on_a_default_and_on_a_conditional_field(load: Load):
    chain = RIGHT.replace("{choice: [constant, cosine]}", "{choice: [constant, cosine, with_sparsity]}").replace(
        "when: {optim.weight_decay.kind: cosine}", "when: {optim.weight_decay.kind: [cosine, with_sparsity]}"
    )
    chain = chain.replace("float: [1e-3, 1]", "choice: [0.1, 1]").replace(
        "search:\n",
        f"search:\n  sparsity.soft: {{when: {{{RATIO}: 0.1, sparsity.backward: straight_through}}, "
        "choice: [true, false]}\n",
    )
    space, rng = load(chain), random.Random(0)
    assert space.order().index(DECAY) < space.order().index(RATIO) < space.order().index("sparsity.soft")
    points = [space.draw(rng) for _ in range(300)]
    for point in points:
        assert (RATIO in point) == (point[DECAY] != "constant")
        assert ("sparsity.soft" in point) == (point.get(RATIO) == 0.1)
    assert {"sparsity.soft" in point for point in points} == {True, False}


def test_a_point_becomes_the_trial_with_its_values(load: Load):
    space = load()
    point = {"sparsity.criterion": "sigma", "sparsity.target": 0.7, DECAY: "cosine", RATIO: 0.5}
    trial = space.trial_for(point)
    assert (trial.sparsity.criterion, trial.sparsity.target) == ("sigma", 0.7)
    assert trial.optim.weight_decay.model_dump() == {"kind": "cosine", "value": 1e-4, "final_ratio": 0.5}
    assert space.config.trial["sparsity"] == {"method": "st3"}, "the fixed part must not be written into"


def test_settings_of_a_method_are_searched_where_it_is_chosen(load: Load):
    methods = RIGHT.replace("  sparsity:\n    method: st3\n", "").replace(
        "  sparsity.criterion: {choice: [l1, sigma]}\n",
        "  sparsity.method: {choice: [st3, gmp]}\n"
        "  sparsity.criterion: {when: {sparsity.method: st3}, choice: [l1, sigma]}\n"
        "  sparsity.interval: {when: {sparsity.method: gmp}, choice: [0.02, 0.05]}\n"
        "  sparsity.ramp.end: {float: [0.4, 0.6]}\n",
    )
    space, rng = load(methods), random.Random(0)
    seen = set()
    for _ in range(40):
        point = space.draw(rng)
        trial = space.trial_for(point)
        seen.add(trial.sparsity.label)
        assert trial.sparsity.ramp.end == point["sparsity.ramp.end"]
        assert trial.sparsity.ramp.start == pytest.approx(5 / 160)
        assert ("sparsity.criterion" in point, "sparsity.interval" in point) == (
            trial.sparsity.method == "st3",
            trial.sparsity.method == "gmp",
        )
    assert seen == {"ST-3", "ST-3σ", "GMP"}


# -- ranges -----------------------------------------------------------------------------------------------------

bounds = st.tuples(st.floats(1e-12, 0.9999999), st.floats(1e-12, 0.9999999)).filter(lambda pair: pair[0] < pair[1])


class Corner(random.Random):
    """Draw only the ends of a range, where rounding would leave it first."""

    def uniform(self, a: float, b: float) -> float:
        return self.choice([a, b])


@given(bounds, st.sampled_from(["linear", "log", "log1m"]), st.sampled_from([random.Random, Corner]), st.integers())
def test_values_stay_in_the_range(pair: tuple[float, float], scale: str, kind: type[random.Random], seed: int):
    distribution = FloatRange(float=pair, scale=scale)
    rng = kind(seed)
    assert all(pair[0] <= distribution.draw(rng) <= pair[1] for _ in range(5))


@given(st.integers(-50, 50), st.integers(1, 60), st.integers(1, 20), st.integers(0, 2**32))
def test_integers_are_multiples_of_their_step(low: int, length: int, step: int, seed: int):
    if step > length:
        with pytest.raises(ValueError, match="a single value"):
            IntRange(int=(low, low + length), step=step)
        return
    distribution = IntRange(int=(low, low + length), step=step)
    value = distribution.draw(random.Random(seed))
    assert low <= value <= low + length
    assert (value - low) % step == 0
    assert distribution.ends() == [low, low + length - length % step]


@given(st.floats(1e-9, 0.999999), st.sampled_from(["linear", "log", "log1m"]))
def test_unscaled_undoes_scaled(value: float, scale: str):
    assert unscaled(scaled(value, scale), scale) == pytest.approx(value, rel=1e-9)


def test_draws_are_uniform_on_their_scale():
    """The middle of a log range is the geometric mean; of a log1m range, that of the densities."""
    rng = random.Random(0)
    middle = {"linear": 0.505, "log": 0.1, "log1m": 1 - math.sqrt(0.99 * 0.01)}
    ends = {"linear": (0.01, 1.0), "log": (0.01, 1.0), "log1m": (0.01, 0.99)}
    for scale, expected in middle.items():
        distribution = FloatRange(float=ends[scale], scale=scale)
        above = sum(distribution.draw(rng) > expected for _ in range(4000))
        assert above / 4000 == pytest.approx(0.5, abs=0.03), scale


def test_a_choice_keeps_the_types_of_its_values(load: Load):
    assert [type(value) for value in Choice(choice=[True, 2, 0.5, "x", None]).values()] == [
        bool, int, float, str, type(None),
    ]  # fmt: skip


def test_a_number_needs_no_dot_before_its_exponent(load: Load, tmp_path: Path):
    (tmp_path / "numbers.yaml").write_text("{a: 1e-4, b: 1.5E3, c: -2e+1, d: 1e, e: e4, f: 0x1e4}")
    data = read_yaml(tmp_path / "numbers.yaml").data
    assert data == {"a": 1e-4, "b": 1500.0, "c": -20.0, "d": "1e", "e": "e4", "f": 0x1E4}
    assert isinstance(data["a"], float)
    assert load(**{"optim.lr": "1e-2"}).config.trial["optim"]["lr"] == 0.01


def test_merged_mappings_may_be_overridden(tmp_path: Path):
    (tmp_path / "merged.yaml").write_text("base: &base {a: 1, b: 2}\nown:\n  <<: *base\n  b: 3\n")
    document = read_yaml(tmp_path / "merged.yaml")
    assert document.data["own"] == {"a": 1, "b": 3}
    assert document.marks["own", "b"][1:] == (4, 3)
    assert document.marks["own", "a"][1:] == (1, 14)


# -- the grid ---------------------------------------------------------------------------------------------------

GRID = (
    RIGHT.replace("float: [1e-3, 1]", "choice: [0.1, 1]")
    .replace("{float: [0.5, 0.9], scale: log1m}", "{choice: [0.5, 0.9, 0.99]}")
    .replace("sampler: tpe", "sampler: grid")
    .replace("budget: {trials: 8}\n", "")
)


def test_the_grid_is_the_conditional_product_in_order_within_the_constraints(load: Load):
    points = list(load(GRID).grid())
    expected = [
        {"sparsity.criterion": criterion, "sparsity.target": target, DECAY: kind} | rest
        for criterion, target in itertools.product(["l1", "sigma"], [0.5, 0.9])  # 0.99 is forbidden
        for kind, rest in [("constant", {}), ("cosine", {RATIO: 0.1}), ("cosine", {RATIO: 1})]
    ]
    assert points == expected
    assert [list(point) for point in points] == [list(point) for point in expected]


def test_a_grid_of_integers(load: Load):
    text = GRID.replace("    epochs: 20\n", "").replace(
        "search:\n", "search:\n  train.epochs: {int: [2, 7], step: 2}\n"
    )
    assert list(dict.fromkeys(point["train.epochs"] for point in load(text).grid())) == [2, 4, 6]


# -- constraints ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "violated"),
    [
        ("a < 2", False),
        ("a > 2", True),
        ("0 < a <= 1", False),
        ("0 < a < 1", True),
        ("a + 2 * b.c - 1 >= 6", False),
        ("b.c / 2 == 1.5", False),
        ("-a < 0 and not b.c < 3", False),
        ("a > 1 or b.c > 1", False),
        ("a > 1 and b.c > 1", True),
        ("word == 'x'", False),
        ("word != 'x'", True),
        ("absent > 5", False),  # a field that the point lacks violates no constraint
        ("not absent > 5", False),
        ("absent > 5 and a > 5", False),
        ("a > 5 and absent > 5", True),
        ("word < 1", True),  # not comparable: never met, never a crash
        ("a / 0 < 1", True),
    ],
)
def test_a_constraint(text: str, violated: bool):
    values = {"a": 1, "b.c": 3, "word": "x"}
    assert Constraint.parse(text).violated(values.get) is violated


@pytest.mark.parametrize(
    "text",
    ["a <", "a", "-a", "a and b", "a + 1", "1 < 2", "f(a) < 1", "a[0] < 1", "a in [1]", "a is 1", "(lambda: a) < 1",
     "a ** 2 < 1", "__import__('os').system('x') < a", "a < b'x'", "a := 3", "", "a < 1; b < 1", "a\x00 < 1"],
)  # fmt: skip
def test_invalid_constraints(text: str):
    with pytest.raises(ConstraintError):
        Constraint.parse(text)


def test_constraints_see_the_recipe_the_defaults_and_times_in_epochs(load: Load):
    def allowed(constraint: str, text: str = RIGHT, **values: Any) -> bool:
        space = load(text.replace("- sparsity.target < 0.95", f"- {constraint} or sparsity.target > 0.5"))
        only = Constraint.parse(constraint)
        point = {"sparsity.criterion": "l1", "sparsity.target": 0.6, DECAY: "constant"} | values
        return not only.violated(space.values_at(point))

    assert allowed("optim.lr == 0.1")  # the recipe's
    assert allowed("sparsity.backward == 'straight_through'")  # default
    assert not allowed("model.depth > 8")  # fixed
    assert allowed("optim.weight_decay.final_ratio > 5")  # constant weight decay has none
    assert not allowed("optim.weight_decay.final_ratio > 5", **{DECAY: "cosine", RATIO: 0.5})
    in_epochs = RIGHT.replace("method: st3", "method: st3\n    ramp: {end: {epochs: 15}}")
    assert allowed("sparsity.ramp.end == 0.75", in_epochs)


def test_defaults_are_those_of_the_kind_of_node():
    assert settled({"optim": {"weight_decay": {"kind": "constant"}}}, "optim.weight_decay.value") == 1e-4
    assert settled({"optim": {"weight_decay": {"kind": "by_target"}}}, "optim.weight_decay.value") is ABSENT
    assert settled({"model": {"arch": "mobilenet_v1"}}, "model.width") == 1.0
    assert settled({"model": {"arch": "cifar_resnet"}}, "model.width") == 16
    assert settled({"data": {"dataset": "digits"}}, "data.augment.padding") == 1
    assert settled({"data": {"dataset": "cifar10"}}, "data.augment.padding") == 4
    assert settled({}, "model.width") is ABSENT


# -- precedence -------------------------------------------------------------------------------------------------


def test_command_line_over_space_over_recipe_over_default(load: Load):
    def lr_and_soft(text: str, **overrides: str) -> tuple[float, bool]:
        space = load(text, **overrides)
        trial = space.trial_for({"sparsity.target": 0.6, "sparsity.criterion": "l1", DECAY: "constant"})
        return trial.optim.lr, trial.sparsity.soft

    fixed = RIGHT.replace("  train:\n", "  optim: {lr: 0.3}\n  train:\n").replace("st3\nse", "st3\n    soft: false\nse")
    assert lr_and_soft(RIGHT) == (0.1, True)  # recipe, default
    assert lr_and_soft(fixed) == (0.3, False)  # space
    assert lr_and_soft(fixed, **{"optim.lr": "0.7", "sparsity.soft": "true"}) == (0.7, True)  # command line


def test_set_on_a_searched_field_fixes_it(load: Load):
    space = load(**{"sparsity.target": "0.75"})
    assert "sparsity.target" not in space.config.search
    assert space.trial_for(space.draw(random.Random(0))).sparsity.target == 0.75


def test_set_on_a_kind_drops_what_is_searched_for_other_kinds_only(load: Load):
    assert set(load(**{DECAY: "constant"}).config.search) == {"sparsity.criterion", "sparsity.target"}
    assert RATIO in load(**{DECAY: "cosine"}).config.search


def test_set_on_a_part_replaces_it_and_what_is_searched_below(load: Load):
    space = load(sparsity="{method: dense}")
    assert set(space.config.search) == {DECAY, RATIO}
    assert space.trial_for({DECAY: "constant"}).sparsity.method == "dense"


def test_set_reaches_the_top_the_search_and_the_trial_by_its_full_path(load: Load):
    space = load(
        **{"seed": "7", "budget.trials": "3", "search.sparsity.target": "{choice: [0.6]}", "trial.train.epochs": "4"}
    )
    assert (space.config.seed, space.config.budget.trials) == (7, 3)
    assert space.config.search["sparsity.target"].ends() == [0.6]
    trial = space.trial_for({"sparsity.target": 0.6, "sparsity.criterion": "l1", DECAY: "constant"})
    assert (trial.seed, trial.train.epochs) == (7, 4)


def test_data_root_is_made_absolute_and_variables_are_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ST3SWEEP_SOMEWHERE", "/somewhere")
    monkeypatch.chdir(tmp_path)
    Path("trial.yaml").write_text(
        "model: {arch: cifar_resnet}\ndata: {dataset: cifar10, root: $ST3SWEEP_SOMEWHERE/cifar}\n"
        "sparsity: {method: st3, target: 0.5}\n"
    )
    assert load_trial("trial.yaml").data.root == "/somewhere/cifar"
    assert load_trial("trial.yaml", {"data.root": "here"}).data.root == str(tmp_path / "here")


def test_every_checked_point_is_valid_and_an_invalid_one_is_found(load: Load):
    """An invalid choice, one in forty, must be found before a sweep starts."""
    choices = ", ".join(f"{0.01 * step:.2f}" for step in range(39))
    with pytest.raises(SpecError, match=r"start 0\.6, end 0\.5"):
        load(RIGHT.replace("search:\n", f"search:\n  sparsity.ramp.start: {{choice: [{choices}, 0.6]}}\n"))


# -- the digest -------------------------------------------------------------------------------------------------

CIFAR: dict[str, Any] = {
    "recipe": "paper",
    "seed": 0,
    "model": {"arch": "cifar_resnet", "depth": 8, "width": 16, "weights": None, "classifier": "trained"},
    "data": {
        "dataset": "cifar10", "root": "a", "pack": "p", "bad_images": "error", "download": False,
        "validation": 100, "train_limit": 500,
        "augment": {"padding": 4, "fill": "zero", "flip": True},
    },
    "train": {
        "epochs": 10, "batch_size": 64, "label_smoothing": 0.0, "precision": "auto", "deterministic": False,
        "compile": False, "graph": "auto", "bn_momentum": 0.1,
        "bn_recalibration": 5, "finetune_epochs": 1, "finetune_lr": 0.01,
    },
    "optim": {
        "lr": 0.1, "momentum": 0.9, "clip_norm": 3.0,
        "schedule": {"kind": "step", "milestones": [0.5, 0.75], "gamma": 0.1, "warmup": 0.0},
        "weight_decay": {"kind": "cosine", "value": 1e-4, "final_ratio": 0.5},
    },
    "sparsity": {
        "method": "st3", "target": 0.9, "criterion": "family", "shape_power": 1.0, "mac_power": 0.5, "soft": True,
        "rescale": True, "backward": "straight_through", "ramp": {"start": 0.1, "end": 0.5, "power": 3.0},
    },
    "gflops": None,
}  # fmt: skip
# Another value for each field; another node if the field decides which others exist.
OTHER: dict[str, Any] = {
    "recipe": "authors", "seed": 1, "model.arch": {"arch": "mobilenet_v1"}, "model.depth": 14, "model.width": 8,
    "model.weights": "w.safetensors",
    "model.classifier": {"arch": "cifar_resnet", "weights": "w.safetensors", "classifier": "new"},
    "data.dataset": "cifar100", "data.root": "b", "data.pack": None, "data.bad_images": "skip",
    "data.download": True, "data.validation": 99,
    "data.train_limit": None, "data.augment.padding": 3, "data.augment.fill": "edge", "data.augment.flip": False,
    "train.epochs": 11, "train.batch_size": 65, "train.label_smoothing": 0.1, "train.precision": "bf16",
    "train.compile": True, "train.deterministic": True, "train.graph": "off",
    "train.bn_momentum": 0.2, "train.bn_recalibration": 0, "train.finetune_epochs": 2, "train.finetune_lr": None,
    "optim.lr": 0.2, "optim.momentum": 0.8, "optim.clip_norm": None, "optim.schedule.kind": {"kind": "cosine"},
    "optim.schedule.milestones": [0.5, 0.8], "optim.schedule.gamma": 0.2, "optim.schedule.warmup": {"epochs": 1},
    "optim.weight_decay.kind": "with_sparsity", "optim.weight_decay.value": 0, "optim.weight_decay.final_ratio": 0.4,
    "sparsity.method": {"method": "dense"}, "sparsity.target": 0.900001,
    "sparsity.criterion": {"method": "st3", "target": 0.9, "criterion": "l1", "ramp": {"start": 0.1, "end": 0.5}},
    "sparsity.shape_power": 0.0, "sparsity.mac_power": 0.0,
    "gflops": {**CIFAR, "gflops": {"target": 0.01}, "sparsity": {**CIFAR["sparsity"], "target": None}},
    "sparsity.soft": False, "sparsity.rescale": False, "sparsity.backward": "masked", "sparsity.ramp.start": 0.11,
    "sparsity.ramp.end": 0.51, "sparsity.ramp.power": 3.1,
}  # fmt: skip
APART = {"recipe", "seed", "data.root", "data.pack", "data.download", "train.deterministic", "train.graph"}


def leaves(tree: dict[str, Any], above: str = "") -> list[str]:
    paths = []
    for key, value in tree.items():
        paths += leaves(value, f"{above}{key}.") if isinstance(value, dict) else [above + key]
    return paths


def perturbed(path: str) -> dict[str, Any]:
    """Return a CIFAR trial with OTHER's value at ``path``."""
    tree = copy.deepcopy(CIFAR)
    *parents, last = path.split(".")
    node = tree
    for key in parents:
        node = node[key]
    other = OTHER[path]
    if isinstance(other, dict) and last in other:
        node.clear()
        node.update(other)
    else:
        node[last] = other
    return tree


def test_all_fields_of_a_trial_are_perturbed():
    assert set(leaves(resolve(CIFAR).model_dump())) == set(leaves(CIFAR)) == set(OTHER)


@pytest.mark.parametrize("path", leaves(CIFAR))
def test_the_digest_depends_on_what_decides_the_numbers_and_on_nothing_else(path: str):
    before, after = resolve(CIFAR), resolve(perturbed(path))
    assert before != after
    assert (before.digest() == after.digest()) is (path in APART)


def test_the_digest_is_of_the_resolved_trial():
    """An explicit default, or an integer for a float, is the same trial."""
    short = {
        "model": {"arch": "cifar_resnet"},
        "data": {"dataset": "digits"},
        "sparsity": {"method": "st3", "target": 0.5},
    }
    long = copy.deepcopy(short)
    long["model"] |= {"depth": 20, "width": 16}
    long["sparsity"] |= {"soft": True, "ramp": {"power": 3}}
    assert resolve(short).digest() == resolve(long).digest()
    assert len(resolve(short).digest()) == 12
