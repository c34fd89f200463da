"""Fit the predictor of latency once a machine: time a fixed set of random networks in the sparse engine.

The set (``networks``): ResNets of CIFAR, MobileNetV1, wide ResNets and VGG at 8 to 128 pixels, with random weights and
a density from 3 to 50 %, by ERK or the same in all layers; it is the same in every call. The fit is kept beside the
compiled engine, named after the engine and the processor.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from st3sweep import sparse_runtime
from st3sweep.export.folding import fold_batch_norms, traced
from st3sweep.export.sparse_folder import packed
from st3sweep.export.sparse_ops import sparse_ops
from st3sweep.export.timing import timed
from st3sweep.networks.cifar_resnet import CifarResNet
from st3sweep.networks.flops import layer_costs
from st3sweep.networks.latency import FEATURES, Layer, Predictor, features, fit
from st3sweep.networks.mobilenet_v1 import MobileNetV1
from st3sweep.networks.vgg import VGG, VGG11
from st3sweep.networks.wide_resnet import WideResNet
from st3sweep.sparse.allocation import allocate
from st3sweep.sparse.method import prunable
from st3sweep.sparse_runtime.compiled import CompilerError, cache_folder, engine
from st3sweep.sparse_runtime.grid import ROUND
from st3sweep.sparse_runtime.model_folder import FORMAT, VERSION, checked
from st3sweep.sparse_runtime.plan import Plan
from st3sweep.sparse_runtime.sparse_model import SparseModel
from st3sweep.sparse_runtime.tuning import fastest, written
from st3sweep.util.errors import UserError

RUNTIME = Path(sparse_runtime.__file__).parent
LEAST_DENSITY, MOST_DENSITY = 0.03, 0.5
LIMIT_SECONDS = 120.0  # after which no further network is timed, once there are LEAST_NETWORKS
LEAST_NETWORKS = 20
_RESNETS = (  # depth, width, pixels, channels
    (8, 4, 8, 1), (8, 16, 8, 1), (14, 8, 8, 1), (20, 8, 16, 3), (8, 16, 16, 3), (20, 16, 16, 3), (8, 8, 32, 3),
    (8, 16, 32, 3), (8, 32, 32, 3), (14, 8, 32, 3), (14, 24, 32, 3), (20, 8, 32, 3), (20, 16, 32, 3), (20, 32, 32, 3),
    (32, 16, 32, 3), (8, 64, 32, 3),
)  # fmt: skip
_MOBILENETS = (  # width, pixels, stride of the first layer
    (0.25, 32, 1), (0.5, 32, 1), (1.0, 32, 1), (0.25, 32, 2), (1.0, 32, 2), (0.25, 64, 2), (0.5, 96, 2), (0.25, 128, 2),
    (0.5, 128, 2), (1.0, 96, 2),
)  # fmt: skip
_ROUNDS = 2  # of the set, each with other densities


@dataclass(frozen=True)
class RandomNetwork:
    """A network of the set; ``layers`` are rows as in a run's table of layers."""

    name: str
    model: nn.Module
    input_shape: tuple[int, int, int]
    layers: list[Layer]


def predictor() -> Predictor | None:
    """Return the predictor of this machine; None before ``calibrate``, or without a C compiler."""
    try:
        found = json.loads(_path().read_text(encoding="utf-8"))
        known = Predictor(**found)
        return known if set(known.times) == set(FEATURES) else None
    except (OSError, ValueError, TypeError, CompilerError):
        return None


def engine_missing() -> str | None:
    """Return in a line why the sparse engine cannot run on this machine; None if it can."""
    try:
        engine(RUNTIME)
    except CompilerError as error:
        return str(error)
    return None


def calibrate(advance: Callable[[int, int], None] = lambda *_: None) -> Predictor:
    """Time the random networks, fit the predictor of this machine, and store it.

    ``advance(done, of)`` shows progress. Raises UserError without a C compiler.
    """
    try:
        path = _path()
        builds = list(networks())
        rows, times, disturbed, begin = [], [], 0, time.monotonic()
        for number, build in enumerate(builds):
            advance(number, len(builds))
            if number >= LEAST_NETWORKS and time.monotonic() > begin + LIMIT_SECONDS:
                break
            network = build()
            found = timed(compiled(network))
            rows.append(features(network.layers))
            times.append(found.milliseconds)
            disturbed += found.disturbed
    except CompilerError as error:
        raise UserError(f"latency cannot be measured: {error}") from None
    fitted = fit(np.array(rows), np.array(times), disturbed=disturbed > len(rows) / 4)
    written(path, json.dumps(asdict(fitted)))
    return fitted


def networks() -> Iterator[Callable[[], RandomNetwork]]:
    """Yield what builds each network of the set, in an order that mixes their kinds."""
    kinds: list[tuple[str, Callable[[], nn.Module], tuple[int, int, int]]] = []
    for depth, width, size, channels in _RESNETS:
        build = partial(CifarResNet, depth, width, 10, channels)
        kinds.append((f"resnet{depth}, width {width}", build, (channels, size, size)))
    for scale, size, stride in _MOBILENETS:
        classes = 10 if size == 32 else 1000
        kinds.append(
            (f"mobilenet_v1, width {scale:g}", partial(MobileNetV1, classes, 3, scale, stride), (3, size, size))
        )
    kinds += [(f"wrn{depth}-2", partial(WideResNet, depth, 2, 10), (3, 32, 32)) for depth in (10, 16)]
    kinds.append(("vgg11", partial(VGG, VGG11, 10), (3, 32, 32)))
    random = np.random.default_rng(0)
    for number in range(_ROUNDS):
        for place in random.permutation(len(kinds)):
            density = float(np.exp(random.uniform(np.log(LEAST_DENSITY), np.log(MOST_DENSITY))))
            allocation = ("erk", "uniform")[int(random.integers(2))]
            name, build, shape = kinds[place]
            yield partial(_built, name, build, shape, density, allocation, number)


def compiled(network: RandomNetwork) -> SparseModel:
    """Return the network in the engine, on one thread, each layer on its fastest kernel. Raises CompilerError."""
    ops, arrays = sparse_ops(fold_batch_norms(traced(network.model)), network.input_shape)
    tensors, content = packed(arrays)
    classes = next(len(arrays[op["bias"]]) for op in reversed(ops) if "bias" in op)
    about: dict[str, Any] = {"format": FORMAT, "version": VERSION, "input": network.input_shape, "classes": classes}
    model = checked(json.dumps({**about, "ops": ops, "tensors": tensors, "about": {}}), content)
    plan = Plan(model)
    arena = np.zeros(plan.arena + plan.scratch + 2 * ROUND, np.float32)
    addresses = np.array([-(-arena.ctypes.data // 64) * 64], np.int64)
    choices = fastest(engine(RUNTIME), plan.convolutions, addresses.ctypes.data, plan.arena)
    return SparseModel.of_plan(plan, choices)


def _built(
    name: str, build: Callable[[], nn.Module], shape: tuple[int, int, int], density: float, allocation: str, seed: int
) -> RandomNetwork:
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = build().eval()
        weights = list(prunable(model).values())
        counts = allocate(allocation, [one.shape for one in weights], density)
        for weight, kept in zip(weights, counts, strict=True):
            mask = torch.zeros(weight.numel())
            mask[torch.randperm(weight.numel())[:kept]] = 1.0
            weight.mul_(mask.view_as(weight))
    layers: list[Layer] = [
        {
            "shape": "x".join(map(str, cost.shape)),
            "numel": cost.numel,
            "density": float(torch.count_nonzero(weight)) / cost.numel,
            "macs_dense": cost.macs,
        }
        for cost, weight in zip(layer_costs(model, shape), weights, strict=True)
    ]
    return RandomNetwork(f"{name} at {shape[1]} pixels, {density:.2f} {allocation}", model, shape, layers)


def _path() -> Path:
    """Return the file of the predictor. Raises CompilerError."""
    library = Path(engine(RUNTIME)._name).stem
    processor = hashlib.sha256(_processor().encode()).hexdigest()[:8]
    return cache_folder() / f"latency-{library}-{processor}.json"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.lower().startswith("model name")), platform.processor())
