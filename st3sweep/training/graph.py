"""Take the steps of a trial as a CUDA graph, recorded once and replayed; or one by one, saying why.

A small model's step waits for its kernel launches, of which a graph is one. It repeats what was recorded, at the same
addresses: a batch is copied into lasting tensors, the host fills tensors with what changes (``step.py``), and a step in
which the host has something else to do, like an update of masks, is taken eagerly in between.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from st3sweep.data.batches import Inputs
from st3sweep.sparse.method import Method
from st3sweep.sparse.stochastic import passes_of
from st3sweep.training.step import TrainingStep
from st3sweep.training.world import World
from st3sweep.trial.settings import TrialSettings
from st3sweep.util.errors import UserError

EAGER_FIRST = 3  # steps of a form before it is recorded: they choose kernels and make momenta and cached tensors


class Recorder(Protocol):
    """What can record the operations of a function."""

    def record(self, function: Callable[[], None]) -> Callable[[], None]:
        """Return a function that repeats the operations of ``function``; may leave out to execute them now."""
        ...


class CudaRecorder:
    """Recorder of CUDA graphs, in the stream of ``own_stream``."""

    def record(self, function: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        # thread_local: other threads may still use the device, to prefetch images or to save a checkpoint.
        with torch.cuda.graph(graph, stream=torch.cuda.current_stream(), capture_error_mode="thread_local"):
            function()
        return graph.replay


def recorder_of(device: torch.device) -> Recorder | None:
    """Return what records steps on ``device``; None where nothing does: anywhere but on a GPU."""
    return CudaRecorder() if device.type == "cuda" else None


def eager_because(spec: TrialSettings, world: World, method: Method) -> str:
    """Return why the steps of a trial cannot be recorded, empty where they can. ``train.graph: off`` is no reason.

    Raises UserError for ``train.graph: on`` without a GPU.
    """
    if recorder_of(world.device) is None:
        if spec.train.graph == "on":
            raise UserError("train.graph: on needs a GPU, and this trial trains on a CPU: use auto or off")
        return f"it trains on a {world.device.type.upper()}"
    if world.size > 1 and not world.recordable:
        return f"its {world.size} workers average gradients by gloo; only NCCL's averages can be part of a CUDA graph"
    if method.eager_because:
        return f"method {spec.sparsity.method}: {method.eager_because}"
    return ""


@contextmanager
def own_stream(spec: TrialSettings, device: torch.device) -> Iterator[None]:
    """Do everything in a stream of the trial's own while open, as recording needs, if ``spec`` asks for graphs."""
    if device.type != "cuda" or spec.train.graph == "off":
        yield
        return
    outside, stream = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    stream.wait_stream(outside)
    try:
        with torch.cuda.stream(stream):
            yield
    finally:
        outside.wait_stream(stream)


class _Recorded(NamedTuple):
    inputs: Inputs  # the tensors that a replay reads
    replay: Callable[[], None]


class Steps:
    """Take the steps of a trial: by a recording of the same form where there is one, else eagerly.

    ``recordings`` counts what was recorded, ``eager`` and ``replayed`` the steps taken.
    """

    def __init__(self, step: TrainingStep, spec: TrialSettings, world: World):
        self.step, self.recordings, self.eager, self.replayed = step, 0, 0, 0
        self._asked, self._world, self._spec = spec.train.graph, world, spec
        self._recorder: Recorder | None = None
        self._said = False
        self._recorded: dict[Hashable, _Recorded] = {}
        self._seen: Counter[Hashable] = Counter()
        self.new_method()

    def new_method(self) -> None:
        """Forget what was recorded: the trial's method is another one from now on."""
        self._recorded.clear()
        self._seen.clear()
        reason = eager_because(self._spec, self._world, self.step.state.method)
        self._recorder = None if reason or self._asked == "off" else recorder_of(self._world.device)
        if recorder_of(self._world.device) is not None and self._asked != "off" and reason:
            self._say(reason)

    def take(self, inputs: Inputs, progress: float) -> None:
        """Take the step to ``progress``, a fraction of training, on ``inputs`` of ``TrainBatches``."""
        method = self.step.state.method
        if self._recorder is None or not method.replays(progress):
            self._take_eagerly(inputs, progress)
            return
        form = (passes_of(method), tuple((tensor.shape, tensor.dtype, tensor.stride()) for tensor in inputs))
        if self._first_of(form):
            self._take_eagerly(inputs, progress)
            return
        self.step.schedule(progress)
        if form not in self._recorded:
            try:
                self._recorded[form] = self._record(self._recorder, inputs, progress)
            except RuntimeError as error:  # of a model, loss or method that waits for the device
                self._recorder = None
                self._say(f"recording failed ({' '.join(str(error).split())[:300]})")
                self._take_eagerly(inputs, progress)
                return
        held = self._recorded[form]
        for place, tensor in zip(held.inputs, inputs, strict=True):
            place.copy_(tensor)
        held.replay()
        self.replayed += 1

    def _take_eagerly(self, inputs: Inputs, progress: float) -> None:
        self.eager += 1
        self.step.eager(inputs, progress)

    def _first_of(self, form: Hashable) -> bool:
        """Return whether the step is one of the first of its form, which are taken eagerly."""
        self._seen[form] += 1
        return self._seen[form] <= EAGER_FIRST

    def _record(self, recorder: Recorder, inputs: Inputs, progress: float) -> _Recorded:
        held: tuple[Tensor, ...] = tuple(tensor.clone() for tensor in inputs)
        replay = recorder.record(lambda: self.step.replayable(held, progress))
        self.recordings += 1
        return _Recorded(held, replay)

    def _say(self, reason: str) -> None:
        """Say once why steps are taken one by one."""
        if not self._said:
            warnings.warn(f"train.graph: steps run one by one, more slowly: {reason}", RuntimeWarning, stacklevel=3)
        self._said = True
