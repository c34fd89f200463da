"""Registering components from outside the package, and reading stored trials that name them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import ray
from pydantic import ValidationError

from st3sweep.execution.worker import _register
from st3sweep.runs.finished_trial import finished_trial
from st3sweep.runs.trial_summary import TrialSummary
from st3sweep.sparse.method import Method
from st3sweep.sparse.methods.gmp import GMPConfig
from st3sweep.training.world import World
from st3sweep.trial.paths import all_paths
from st3sweep.trial.plugins import check_foreign_components, foreign_components
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
    nothing = ray.cloudpickle.dumps([])
    error = _register(["no_such_plugin"], nothing, World())
    assert isinstance(error, UserError)
    assert str(error).startswith("--plugin no_such_plugin: cannot be imported (ModuleNotFoundError")
    assert _register([], nothing, World()) is None
    unknown = ray.cloudpickle.dumps([("arch", "mine", 1, {}, "")]).replace(b"mine", b"m\xff\xffe")
    error = _register([], unknown, World())
    assert str(error).startswith("a registered function cannot be imported by a worker (UnicodeDecodeError")


def test_foreign_components_are_those_that_the_space_names(other: type[MethodConfig]) -> None:
    assert foreign_components({"trial": {"sparsity": {"method": "gmp"}}}) == {}
    [(name, facts)] = foreign_components({"search": {"sparsity.method": {"choice": ["gmp", "other"]}}}).items()
    assert name == "method other"
    assert facts["module"] == __name__
    assert facts["code"] == other.code == hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]


def test_a_run_expects_the_code_that_it_started_with(other: type[MethodConfig], tmp_path: Path) -> None:
    expected = foreign_components({"method": "other"})
    check_foreign_components(tmp_path, expected, plugins=[], allow_changed=False)
    changed = {"method other": {**expected["method other"], "code": "0" * 12}}
    check_foreign_components(tmp_path, changed, plugins=[], allow_changed=True)
    with pytest.raises(UserError, match=rf"the code of the method other has changed .* \(in {__name__}\)"):
        check_foreign_components(tmp_path, changed, plugins=[], allow_changed=False)
    for module, plugins, remedy in (
        ("theirs", ["theirs"], "name it with --plugin theirs"),
        ("theirs", [], "install the plugin theirs"),
        ("__main__", [], "register it again"),
    ):
        gone = {"arch gone": {"module": module, "code": "0"}}
        with pytest.raises(UserError, match=f"uses the arch gone, which is not registered here; {remedy}$"):
            check_foreign_components(tmp_path, gone, plugins=plugins, allow_changed=False)


def test_the_digest_has_the_code(other: type[MethodConfig], tiny_trial: TinyTrial) -> None:
    before = tiny_trial(sparsity={"method": "other"}).digest()
    other.code = "0" * 12
    assert tiny_trial(sparsity={"method": "other"}).digest() != before


SCRIPT = """
import pickle, sys
import ray
from st3sweep import register_model
from st3sweep.training.components import components_from_functions, register_components, register_from_functions
from st3sweep.trial.model import ModelConfig

register_components()
WIDTH = {width}
def layers(): return [{width}]
@register_model("mine")
def build(num_classes: int, width: int = 4): return (num_classes, width, layers(), WIDTH)
if sys.argv[1] == "write":
    sys.stdout.buffer.write(ray.cloudpickle.dumps(components_from_functions()))
print(ModelConfig.registered["mine"].code, file=sys.stderr)
"""
READ = """
import sys
import ray
from st3sweep.training.components import register_components, register_from_functions
from st3sweep.trial.model import ModelConfig

register_components()
register_from_functions(ray.cloudpickle.loads(sys.stdin.buffer.read()))
mine = ModelConfig.registered["mine"]
print(mine.code, mine(arch="mine").build(3, 1))
"""


# Imports what the scripts import, and runs each in a process of its own, with a standard input and output in files.
FORK = """
import os, runpy, sys
import ray
import st3sweep.data.formats, st3sweep.networks, st3sweep.sparse.methods, st3sweep.training.components

for name, given, written, told in zip(*[iter(sys.argv[1:])] * 4):
    if (child := os.fork()) == 0:
        for number, (path, flags) in enumerate([(given, os.O_RDONLY), (written, 65), (told, 65)]):  # 65: write, create
            os.dup2(os.open(path, flags), number)
        sys.argv = [name, "write"]
        runpy.run_path(name, run_name="__main__")
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, name
"""


def test_functions_of_a_script_travel_by_value(tmp_path: Path) -> None:
    for name, program in {"8": SCRIPT.format(width=8), "9": SCRIPT.format(width=9), "read": READ}.items():
        (tmp_path / f"{name}.py").write_text(program)
    files = ["8.py", os.devnull, "8.pickle", "8.txt", "9.py", os.devnull, "9.pickle", "9.txt"]
    files += ["read.py", "8.pickle", "read.txt", "error.txt"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", FORK, *files], cwd=tmp_path, check=True, env=environment)
    code, changed, read = ((tmp_path / f"{name}.txt").read_text().strip() for name in ("8", "9", "read"))
    assert read == f"{code} (3, 4, [8], 8)"
    assert changed != code, "a function that it calls has changed"


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
