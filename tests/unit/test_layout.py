"""Test the choice of memory layout: it does not change results, and never overruns memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from st3sweep.networks.cifar_resnet import CifarResNet
from st3sweep.networks.mobilenet_v1 import MobileNetV1
from st3sweep.networks.vgg import VGG, VGG11, VGG_SMALL
from st3sweep.training.layout import fastest_layout

CPU = torch.device("cpu")
GUARD = Path(__file__).with_name("guard_malloc.c")
# Every width that the rule allows, and kernels, strides and groups as models have them.
TRAIN = """\
import sys, torch
from torch import nn
from st3sweep.training.layout import fastest_layout
torch.set_num_threads(1)
tried = 0
for c_in in (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20, 24, 32, 48):
    for kernel, stride, groups in ((1, 1, 1), (1, 2, 1), (3, 1, 1), (3, 2, 1), (3, 1, c_in), (3, 2, c_in)):
        for c_out in (c_in,) if groups > 1 else (4, 10, 16, 24):
            conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups)
            if not int(sys.argv[1]) and fastest_layout(conv, torch.device("cpu")) is not torch.channels_last:
                continue
            conv = conv.to(memory_format=torch.channels_last)
            for batch in (1, 7):
                x = torch.randn(batch, c_in, 8, 8).to(memory_format=torch.channels_last).requires_grad_()
                conv(x).square().sum().backward()
                tried += 1
print(tried)
"""


@pytest.mark.parametrize(
    ("model", "layout"),
    [
        (CifarResNet(20, 16, 10), torch.channels_last),
        (CifarResNet(20, 8, 10), torch.contiguous_format),  # its shortcuts: 1x1, stride 2, 8 channels in
        (MobileNetV1(10, width=0.25), torch.channels_last),
        (VGG(VGG11, 10), torch.channels_last),
        (VGG(VGG_SMALL, 10), torch.channels_last),
        (nn.Conv2d(4, 8, 1, stride=2), torch.contiguous_format),
        (nn.Conv2d(4, 8, 1), torch.channels_last),
        (nn.Conv2d(32, 64, 1, stride=2, groups=4), torch.contiguous_format),
    ],
)
def test_layout_on_a_cpu(model: nn.Module, layout: torch.memory_format) -> None:
    assert fastest_layout(model, CPU) is layout


def test_on_a_gpu_the_width_does_not_matter() -> None:
    assert fastest_layout(CifarResNet(20, 8, 10), torch.device("cuda")) is torch.channels_last


def test_the_layout_does_not_change_the_numbers() -> None:
    torch.manual_seed(0)
    model = CifarResNet(8, 16, 10).double()
    x = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        model.to(memory_format=layout)  # type: ignore[call-overload]
        model.zero_grad()
        model(x).square().sum().backward()
        found.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
@pytest.mark.skipif(sys.platform != "linux", reason="needs LD_PRELOAD")
def test_the_layout_never_overruns_memory(tmp_path: Path) -> None:
    """Every tensor ends at a protected page: writing past it kills the process.

    The rule must also be needed: without it some width must crash, else the kernel is fixed and the rule obsolete.
    """
    library = tmp_path / "guard.so"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", str(GUARD), "-o", str(library), "-ldl"], check=True)

    def run(every: bool) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", TRAIN, str(int(every))]
        environment = {**os.environ, "LD_PRELOAD": str(library)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    chosen = run(every=False)
    assert chosen.returncode == 0, chosen.stderr
    assert int(chosen.stdout) > 400
    if "avx512f" in Path("/proc/cpuinfo").read_text():
        pytest.skip("no overrun; AVX-512 has other kernels, so whether the rule is needed cannot be tested")
    assert run(every=True).returncode == -11
