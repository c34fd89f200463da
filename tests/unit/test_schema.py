"""The JSON Schema accepts the shipped spaces and rejects what the loader rejects."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from wrong_specs import RIGHT

from st3sweep.space.json_schema import space_schema
from st3sweep.trial.paths import all_paths
from st3sweep.util.yaml_lines import read_yaml

jsonschema = pytest.importorskip("jsonschema")
SPACES = sorted((Path(__file__).parents[2] / "search_spaces").glob("*.yaml"))


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = space_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_shipped_spaces_are_valid(path: Path, validator: Any):
    assert [error.message for error in validator.iter_errors(read_yaml(path).data)] == []


def test_the_list_of_shipped_spaces():
    assert [path.stem for path in SPACES] == [
        *("ablation_cifar10", "ablation_proxy", "cifar10_resnet20", "criterion_family"),
        *("early_stopping_proxy", "latency_digits", "methods_cifar10", "methods_proxy", "mobilenet", "quickstart"),
    ]


@pytest.fixture
def right(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "space.yaml").write_text(RIGHT)
    return read_yaml(tmp_path / "space.yaml").data


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("budgets",), {"trials": 3}),
        (("trial", "trian"), {}),
        (("trial", "train", "batchsize"), 64),
        (("trial", "model", "depht"), 8),
        (("trial", "train", "epochs"), "many"),
        (("trial", "sparsity", "target"), 1.2),
        (("search", "sparsity.targt"), {"choice": [0.5]}),
        (("search", "resources.workers"), {"choice": [1]}),
        (("search", "sparsity.ramp"), {"choice": [1]}),
        (("search", "sparsity.soft"), {"choices": [True]}),
        (("searcher", "sampler"), "tp"),
        (("resources", "checkpoints"), "best"),
        (("schema",), "st3sweep/v2"),
    ],
    ids=lambda part: ".".join(part) if isinstance(part, tuple) else "",
)
def test_wrong_fields_are_refused(path: tuple[str, ...], value: Any, right: dict[str, Any], validator: Any):
    assert validator.is_valid(right)
    wrong = copy.deepcopy(right)
    node = wrong
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    assert not validator.is_valid(wrong)


def test_a_trial_may_leave_out_what_its_recipe_or_search_sets(right: dict[str, Any], validator: Any):
    right["trial"] = {"model": {"depth": 8}, "optim": {"weight_decay": {"value": 1e-5}}}
    right["trial"]["sparsity"] = {"ramp": {"end": 0.4}}
    right["search"]["model.arch"] = {"choice": ["cifar_resnet", "mobilenet_v1"]}
    assert [error.message for error in validator.iter_errors(right)] == []


def test_an_editor_can_complete_every_searchable_field():
    names = set(space_schema()["properties"]["search"]["properties"])
    assert {"optim.lr", "sparsity.target", "sparsity.ramp.start", "sparsity.ramp.start.epochs", "model.arch"} <= names
    assert not {"sparsity.ramp", "model", "recipe", "data.root", "optim.schedule.milestones"} & names
    assert names < set(all_paths())
