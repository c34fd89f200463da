"""Test that bf16 computes layers in bfloat16, on θ̂, and the loss and every gradient in float32."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from make_methods import st3
from torch import Tensor, nn

from st3sweep.sparse.method import prunable
from st3sweep.sparse.methods.st3 import ST3
from st3sweep.training.evaluate import evaluate
from st3sweep.training.optim import classification_loss, optimisation_step
from st3sweep.training.recalibrate import recalibrate
from st3sweep.training.world import World

DTYPES = pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])


class Net(nn.Sequential):
    """A linear layer and batch norm, which records the dtypes of the layer's outputs."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(nn.Linear(8, 5), nn.BatchNorm1d(5))
        self.seen: list[torch.dtype] = []
        self[0].register_forward_hook(lambda _module, _inputs, output: self.seen.append(output.dtype))


def pruned(net: Net) -> tuple[list[nn.Parameter], ST3]:
    weights = list(prunable(net).values())
    method = st3(weights, target=0.5)
    method.refresh(1.0, weights)
    return weights, method


def batch() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(16, 8), torch.randint(5, (16,))


@DTYPES
def test_training(precision: str, dtype: torch.dtype) -> None:
    net, (x, y) = Net(), batch()
    weights, method = pruned(net)
    sparse = (method.sparsify(weights) or [])[0].requires_grad_()
    layer = F.linear(x.to(dtype), sparse.to(dtype), net[0].bias.detach().to(dtype))
    expected = F.cross_entropy(layer.float(), y, label_smoothing=0.1)
    (by_hand,) = torch.autograd.grad(expected, [sparse])
    loss, _ = optimisation_step(
        net,
        weights,
        method,
        torch.optim.SGD(net.parameters(), lr=0.1),
        classification_loss(net[0], x, y, label_smoothing=0.1, precision=precision),
        progress=1.0,
        clip_norm=None,
    )
    assert net.seen == [dtype]
    assert loss.dtype == weights[0].grad.dtype == torch.float32  # type: ignore[union-attr]
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(weights[0].grad, by_hand)


@DTYPES
def test_evaluation_and_recalibration(precision: str, dtype: torch.dtype) -> None:
    net = Net()
    weights, method = pruned(net)
    evaluate(net, weights, method, [batch()], precision=precision)
    recalibrate(net, weights, method, [batch()], World(), precision=precision)
    assert net.seen == [dtype, dtype]
    (sparse,) = method.sparsify(weights) or []
    layer = F.linear(batch()[0].to(dtype), sparse.to(dtype), net[0].bias.detach().to(dtype))
    torch.testing.assert_close(net[1].running_mean, layer.float().mean(0))
