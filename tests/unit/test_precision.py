"""Test that bf16 computes layers in bfloat16, on θ̂, and the loss and every gradient in float32."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from make_methods import st3
from torch import Tensor, nn

from st3sweep.data.records import Splits
from st3sweep.sparse.method import prunable
from st3sweep.sparse.methods.st3 import ST3
from st3sweep.training.batches import evaluation_batch
from st3sweep.training.evaluate import evaluate
from st3sweep.training.loop import fit
from st3sweep.training.numerics import with_precision_of
from st3sweep.training.optim import classification_loss, optimisation_step
from st3sweep.training.recalibrate import recalibrate
from st3sweep.training.state import EpochRecord
from st3sweep.training.world import World
from st3sweep.trial.settings import TrialSettings

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


def test_auto_is_bfloat16_on_gpus_only(tiny_trial: Callable[..., TrialSettings]) -> None:
    """Its digest is that of fp32, as it was when fp32 was the default; so is that of a deterministic trial."""
    trial = tiny_trial()
    assert trial.train.precision == "auto"
    assert with_precision_of(torch.device("cpu"), trial).train.precision == "fp32"
    for precision in ("fp32", "bf16"):
        asked = tiny_trial(train={"precision": precision})
        assert with_precision_of(torch.device("cuda"), asked) == asked
        assert (asked.digest() == trial.digest()) == (precision == "fp32")
    assert tiny_trial(train={"deterministic": True}).digest() == trial.digest()


def test_a_deterministic_trial_uses_deterministic_algorithms(
    tiny_trial: Callable[..., TrialSettings], digits: Splits, tmp_path: Path
) -> None:
    """They are in force while it trains and no longer; on a CPU the numbers are the same without."""
    plain = fit(tiny_trial(), World(), lambda _: False, tmp_path / "plain", digits)
    seen: list[bool] = []

    def report(_: EpochRecord) -> bool:
        seen.append(torch.are_deterministic_algorithms_enabled() and torch.backends.cudnn.deterministic)
        return False

    result = fit(tiny_trial(train={"deterministic": True}), World(), report, tmp_path / "again", digits)
    assert seen
    assert all(seen)
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.deterministic
    assert (result["precision"], result["val_loss"]) == ("fp32", plain["val_loss"])


def test_batches_of_evaluation_are_larger_on_a_gpu() -> None:
    assert [evaluation_batch(size, torch.device("cuda")) for size in (32, 160, 224, 448)] == [4096, 1003, 512, 512]
    assert evaluation_batch(32, torch.device("cpu")) == 512


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
