"""Fixtures and settings of all tests: one thread, a separate cache, and a trial that trains in a second."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import pytest
import torch
from object_store import ObjectStore

from st3sweep import data
from st3sweep.training.components import register_components
from st3sweep.trial.recipes import overlay, resolve
from st3sweep.trial.settings import TrialSettings

# Compiled modules are kept, also where the surroundings forbid it, as images of containers often do: every process of
# every test would compile the package again, and pytest all tests in each of its processes.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

torch.set_num_threads(1)
register_components()
hypothesis.settings.register_profile("st3sweep", deadline=None)
hypothesis.settings.register_profile("fast", deadline=None, max_examples=20)  # used by make fast
hypothesis.settings.load_profile("st3sweep")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip tests of GPUs without one. Among processes that steal tests, each begins with some integration tests."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
    if not hasattr(config, "workerinput"):
        return
    long = [item for item in items if "integration" in item.path.parts]
    rest = [item for item in items if "integration" not in item.path.parts]
    count, left, shared = int(config.workerinput["workercount"]), len(items), []
    for number in range(count):  # each begins with as many tests, in this order
        size, own = left // (count - number), long[number::count]
        more = max(size - len(own), 0)
        shared += [*own, *rest[:more]]
        rest, left = rest[more:], left - size
    items[:] = [*shared, *rest]


@pytest.fixture(autouse=True)
def _not_connected() -> Iterator[None]:
    """Refuse a test that leaves this process connected to Ray: it would end when the cluster of another test does."""
    yield
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        ray.shutdown()
        pytest.fail("connected this process to Ray")


@pytest.fixture(scope="session", autouse=True)
def _cache_of_its_own() -> Iterator[None]:
    """Keep decoded data of tests out of the user's cache."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ST3SWEEP_CACHE"] = folder
        yield


@pytest.fixture(scope="session")
def _object_store() -> Iterator[ObjectStore]:
    for package in ("s3fs", "moto", "flask_cors"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    store = ObjectStore()
    yield store
    store.close()


@pytest.fixture
def object_store(_object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    """Return an S3 server without faults, for this program and those that it starts."""
    for name, value in _object_store.environment().items():
        monkeypatch.setenv(name, value)
    _object_store.faults()
    yield _object_store
    _object_store.faults()


TINY: dict[str, Any] = {
    "model": {"arch": "cifar_resnet", "depth": 8, "width": 4},
    "data": {"dataset": "digits", "image_size": 8, "train_limit": 128, "validation": 100},
    "train": {"epochs": 3, "batch_size": 32},
    "sparsity": {"method": "st3", "target": 0.8},
}


@pytest.fixture(scope="session")
def tiny_trial() -> Callable[..., TrialSettings]:
    """Return a function for a trial of ResNet-8, width 4, on 128 digits: ``tiny_trial(train={"epochs": 4})``."""
    return lambda **overrides: resolve(overlay(TINY, overrides))


@pytest.fixture(scope="session")
def digits(tiny_trial: Callable[..., TrialSettings]) -> data.Splits:
    """Return the data of every tiny trial."""
    return data.load(tiny_trial().data)
