"""Decide how many trials share a GPU, by measuring one of them on a GPU of the cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ray

from st3sweep.space.resources import Resources
from st3sweep.space.sample_points import largest_trials
from st3sweep.space.space import Space
from st3sweep.training.components import components_from_functions
from st3sweep.trial.recipes import resolve
from st3sweep.util.errors import UserError


def decided(resources: Resources, space: Space, plugins: Sequence[str], say: Callable[[str], None]) -> Resources:
    """Return ``resources`` with a number in place of ``trials_per_gpu: auto``: as many as have room on a GPU.

    A task of Ray measures, so that no process keeps a context on the GPU; 1, and the reason, where it fails.
    """
    if resources.trials_per_gpu != "auto":
        return resources
    specs = [trial.model_dump(mode="json") for trial in largest_trials(space)]
    functions = ray.cloudpickle.dumps(components_from_functions())
    task = ray.remote(max_calls=1)(_measured).options(
        num_cpus=resources.cpus_per_worker,
        num_gpus=1,
        max_retries=0,
        resources={name: amount for name, amount in resources.of_worker().items() if name.startswith("accelerator")},
    )
    try:
        number, text = ray.get(task.remote(specs, list(plugins), functions))
    except Exception as error:
        reason = str(error).strip().splitlines()[-1]  # of a remote traceback, the error
        number, text = 1, f"the memory of a trial could not be measured ({reason})"
    say(f"trials_per_gpu: {number}: {text}")
    return resources.with_trials_per_gpu(number)


def _measured(specs: list[dict[str, Any]], plugins: list[str], functions: bytes) -> tuple[int, str]:
    import torch

    from st3sweep.training.components import register_components, register_from_functions
    from st3sweep.training.gpu_memory import measured, trials_that_fit

    register_components(plugins)
    register_from_functions(ray.cloudpickle.loads(functions))
    if not torch.cuda.is_available():
        raise UserError("torch sees no GPU there")
    memory = measured(map(resolve, specs), torch.device("cuda"))
    return trials_that_fit(memory), f"a trial takes {memory}"
