"""``SGD``: torch's, which can hold learning rate and weight decay in tensors so that a CUDA graph reads new values."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import torch
from torch import Tensor

from st3sweep.sparse import flat


class Rates(NamedTuple):
    """Learning rate and weight decay of a step: numbers, or on a GPU 0-d tensors there, whose values change."""

    lr: float | Tensor
    weight_decay: float | Tensor  # of the first group


class SGD(torch.optim.SGD):
    """torch's SGD, without the wrappers that keep torch.compile out of it: they import torch._dynamo, for seconds.

    After ``set_rates`` on a GPU, a step reads them from tensors, without host-device synchronisation: torch's fused
    kernel does so with a learning rate. It takes weight decay as a number only: unless ``constant_decay``, the decay is
    added to the gradients before. Numbers equal those of the kernel that gets numbers.
    """

    def __init__(self, params: Any, *, constant_decay: bool = False, **settings: Any):
        super().__init__(params, **settings)
        self.constant_decay = constant_decay
        self._held: Rates | None = None  # tensors, from the first ``set_rates`` on a GPU on

    add_param_group = inspect.unwrap(torch.optim.SGD.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.SGD.zero_grad)
    state_dict = inspect.unwrap(torch.optim.SGD.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.SGD.load_state_dict)
    _step_by_numbers = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))

    def set_rates(self, lr: float, weight_decay: float) -> None:
        """Set the learning rate of all parameters and the weight decay of the first group, for the steps to come."""
        for group in self.param_groups:
            group["lr"] = lr
        assert not (self.constant_decay and self._held) or weight_decay == self.param_groups[0]["weight_decay"]
        self.param_groups[0]["weight_decay"] = weight_decay
        like = self.param_groups[0]["params"][0]
        if self._held is None and flat.launch_bound(like):
            # The fused kernel of CUDA reads a float32; a CPU's converts it to the dtype of the parameters.
            dtype = torch.float32 if like.is_cuda else like.dtype
            empty = torch.empty((), dtype=dtype, device=like.device)
            self._held = Rates(empty, torch.empty_like(empty))
        if self._held is not None:
            for tensor, value in zip(self._held, (lr, weight_decay), strict=True):
                tensor.fill_(value)  # type: ignore[union-attr]

    @property
    def rates(self) -> Rates:
        """Return the rates of the next step."""
        group = self.param_groups[0]
        return self._held or Rates(group["lr"], group["weight_decay"])

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        if self._held is None:
            self._step_by_numbers(closure)
        else:
            self._step_by_tensors(self._held)

    @torch.no_grad()
    def _step_by_tensors(self, rates: Rates) -> None:
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            gradients: list[Tensor] = [p.grad for p in params]
            decay = group["weight_decay"]
            if group is self.param_groups[0] and not self.constant_decay:
                decayed = torch._foreach_mul(params, rates.weight_decay)  # type: ignore[arg-type]
                torch._foreach_add_(decayed, gradients)
                gradients, decay = [*decayed], 0.0
            momenta = []
            if group["momentum"]:
                for p in params:  # from 0, the first step's is the gradient, as torch's
                    self.state[p].setdefault("momentum_buffer", None)
                    if self.state[p]["momentum_buffer"] is None:
                        self.state[p]["momentum_buffer"] = torch.zeros_like(p)
                    momenta.append(self.state[p]["momentum_buffer"])
            torch._fused_sgd_(
                params,
                gradients,
                momenta,
                weight_decay=decay,
                momentum=group["momentum"],
                lr=rates.lr,
                dampening=group["dampening"],
                nesterov=group["nesterov"],
                maximize=group["maximize"],
                is_first_step=False,
            )
