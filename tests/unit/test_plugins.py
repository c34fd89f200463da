"""Registering components from outside the package, and reading stored trials that name them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import ValidationError

from st3sweep.execution.worker import _register
from st3sweep.runs.finished_trial import finished_trial
from st3sweep.runs.trial_summary import TrialSummary
from st3sweep.sparse.method import Method
from st3sweep.sparse.methods.gmp import GMPConfig
from st3sweep.training.world import World
from st3sweep.trial.paths import all_paths
from st3sweep.trial.settings import TrialSettings
from st3sweep.trial.sparsity import MethodConfig, register_method
from st3sweep.util.errors import UserError

TinyTrial = Callable[..., TrialSettings]
RUN = Path(__file__).parents[1] / "data" / "run_0_1"


@pytest.fixture
def other() -> Iterator[type[MethodConfig]]:
    """A method that is registered for one test."""

    @register_method
    class OtherConfig(MethodConfig):
        method: Literal["other"] = "other"
        strength: float = 0.5

        def build(self, *_: Any) -> Method:
            return Method()

    yield OtherConfig
    del MethodConfig.registered["other"]
    TrialSettings.model_rebuild(force=True)


def test_a_registered_method_is_part_of_a_trial(other: type[MethodConfig], tiny_trial: TinyTrial) -> None:
    trial = tiny_trial(sparsity={"method": "other", "strength": 0.25})
    assert isinstance(trial.sparsity, other)
    assert TrialSettings.model_validate(trial.model_dump()) == trial
    assert "sparsity.strength" in all_paths()
    with pytest.raises(ValidationError, match="strengh"):
        tiny_trial(sparsity={"method": "other", "strengh": 0.25})


def test_a_method_that_was_never_registered_is_refused(tiny_trial: TinyTrial) -> None:
    with pytest.raises(ValidationError, match="'other' found using 'method'"):
        tiny_trial(sparsity={"method": "other"})
    assert "sparsity.strength" not in all_paths()


def test_a_name_can_be_registered_once_only(other: type[MethodConfig]) -> None:
    assert register_method(other) is other, "the same class again, as when its module is reloaded"
    with pytest.raises(ValueError, match=r"method gmp is registered already, by st3sweep\.sparse"):

        @register_method
        class Second(MethodConfig):
            method: Literal["gmp"] = "gmp"

    assert MethodConfig.registered["gmp"] is GMPConfig
    with pytest.raises(ValueError, match="must be a Literal of one name or more"):

        @register_method
        class Nameless(MethodConfig):
            pass


def test_a_worker_reports_a_plugin_that_it_cannot_import() -> None:
    error = _register(["no_such_plugin"], World())
    assert isinstance(error, UserError)
    assert str(error).startswith("--plugin no_such_plugin: cannot be imported (ModuleNotFoundError")
    assert _register([], World()) is None


@pytest.mark.parametrize(("part", "key", "kind"), [("sparsity", "method", "method"), ("model", "arch", "arch")])
def test_a_stored_trial_of_an_unknown_component_names_the_plugin(
    part: str, key: str, kind: str, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(RUN, tmp_path / "run"))
    events = [json.loads(line) for line in (run / "ledger.jsonl").read_text().splitlines()]
    for event in events:
        if event["event"] == "trial":
            event["spec"][part][key] = "theirs"
        if event["event"] == "session":
            event["plugins"] = ["their_plugin"]
    (run / "ledger.jsonl").write_text("".join(f"{json.dumps(event)}\n" for event in events))
    with pytest.raises(UserError, match=f"has the {kind} theirs; name its plugin with --plugin their_plugin"):
        finished_trial(run, 0)


SUMMARISE = """\
import json, sys
from st3sweep.runs.trial_summary import TrialSummary
print(TrialSummary.from_stored(json.loads(sys.argv[1])))
"""


@pytest.mark.parametrize("change", [{}, {"gflops": 0.05}, {"sparsity": 3}, {"train": 3}], ids=str)
def test_stored_settings_are_summarised_with_and_without_the_registry(
    change: dict[str, Any], tiny_trial: TinyTrial
) -> None:
    settings = tiny_trial().model_dump(mode="json") | change
    found = TrialSummary.from_stored(settings)
    command = [sys.executable, "-c", SUMMARISE, json.dumps(settings)]
    elsewhere = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    if change:
        assert (found, elsewhere) == (None, "None")
    else:
        assert found == TrialSummary("ST-3", "resnet8_w4", "digits", 0, 0.8, None, 3)
        assert elsewhere == str(TrialSummary("st3", "cifar_resnet", "digits", 0, 0.8, None, 3))
