# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Your own network, your own data
#
# Train a module of your own at 90 % sparsity, then sweep it: real Ray workers, two trials at a time. Run the notebook
# again after an interruption, and the sweep continues where it was.

# %%
# %matplotlib inline
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import st3sweep


class Net(nn.Module):
    """Three convolutions and a classifier; (B, 1, 8, 8) -> (B, classes)."""

    def __init__(self, classes: int, width: int):
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.conv3 = nn.Conv2d(width, width, 3, padding=1)
        self.classifier = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        for conv in (self.conv1, self.conv2, self.conv3):
            x = F.relu(conv(x))
        return self.classifier(x.mean((2, 3)))


def patterns(images: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return noisy pictures (N, 1, 8, 8) of horizontal stripes, vertical stripes, a chessboard and nothing."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    clean = torch.stack([rows % 2, columns % 2, (rows + columns) % 2, torch.zeros_like(rows)]) * 70.0
    labels = torch.randint(0, 4, (images,), generator=generator)
    noise = 185 * torch.rand(images, 1, 8, 8, generator=generator)
    return (clean[labels][:, None] + noise).to(torch.uint8), labels


# %% [markdown]
# ## One trial
# `model` is any module, `data` three pairs of images and labels, or datasets that are indexed. A copy of the module is
# trained; the result has the sparse one.

# %%
trial = {
    "train": {"epochs": 10, "batch_size": 64},
    "optim": {"lr": 0.1},
    "sparsity": {"method": "st3", "target": 0.9},
}
data = patterns(1024, seed=0), patterns(256, seed=1), patterns(256, seed=2)
result = st3sweep.train(trial, model=Net(4, width=16), data=data)
zeros = {name: float((weight == 0).float().mean()) for name, weight in st3sweep.prunable(result.model).items()}
print(f"test {result.test_top1:.1f} % at {result.gflops * 1e3:.3f} of {result.gflops_dense * 1e3:.3f} MFLOPs")
print("zeros:", {name: round(share, 2) for name, share in zeros.items()})

# %% [markdown]
# ## A sweep
# What is registered has a name in the search space; the parameters of the function are its settings. A metric of your
# own is a column, and chooses each trial's best epoch; it may be an objective too.


# %%
def worst_class(outputs: Tensor, labels: Tensor) -> float:
    """Return the accuracy on the class that is recognised worst, in percent."""
    correct = outputs.argmax(1) == labels
    return min(100 * float(correct[labels == label].float().mean()) for label in labels.unique())


@st3sweep.register_model("net", metric=st3sweep.Metric("worst_class", worst_class, goal="max"))
def build(num_classes: int, width: int = 16) -> nn.Module:
    """Build the network."""
    return Net(num_classes, width)


@st3sweep.register_dataset("patterns")
def load(images: int = 1024) -> tuple:
    """Make training, validation and test images."""
    return patterns(images, seed=0), patterns(256, seed=1), patterns(256, seed=2)


space = {
    "schema": "st3sweep/v1",
    "name": "own",
    "trial": {
        "model": {"arch": "net"},
        "data": {"dataset": "patterns"},
        "train": trial["train"],
        "optim": trial["optim"],
        "sparsity": {"method": "st3"},
    },
    "search": {
        "sparsity.target": {"choice": [0.5, 0.9, 0.97]},
        "model.width": {"choice": [8, 16]},
    },
    "searcher": {"sampler": "grid"},
    "resources": {"slots": 2, "workers": 1, "cpus_per_worker": 1},
}
folder = Path("runs/own")  # is there if the sweep was interrupted
run = st3sweep.load_run(folder).resume() if folder.exists() else st3sweep.run(space, storage="runs")
print(run.state, len(run.trials), "trials")

# %% [markdown]
# ## What came out

# %%
run.front()[["trial", "sparsity", "val_top1", "val_worst_class", "gflops"]]

# %%
run.plot()

# %%
chosen = run.pick()
file = run.export(int(chosen["trial"]), "own.safetensors")
model = run.load_model(int(chosen["trial"]))
print(f"{file}: {chosen['val_top1']:.1f} % validation, {sum(int((w == 0).sum()) for w in model.parameters())} zeros")
