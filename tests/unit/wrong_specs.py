"""A valid search space, and wrong variants of it: data, ``--set`` and whole files; the others are beside this file.

``^`` marks the wrong key; it is removed, and its position must be the line and column printed.
"""

from __future__ import annotations

from dataclasses import dataclass

RIGHT = """\
schema: st3sweep/v1
name: right
trial:
  recipe: paper
  model: {arch: cifar_resnet, depth: 8, width: 8}
  data: {dataset: digits, image_size: 16}
  train:
    epochs: 20
    batch_size: 64
  sparsity:
    method: st3
search:
  sparsity.criterion: {choice: [l1, sigma]}
  sparsity.target: {float: [0.5, 0.9], scale: log1m}
  optim.weight_decay.kind: {choice: [constant, cosine]}
  optim.weight_decay.final_ratio:
    when: {optim.weight_decay.kind: cosine}
    float: [1e-3, 1]
constraints:
  - sparsity.target < 0.95
objectives:
  - {metric: val_top1, goal: max}
  - {metric: gflops, goal: min}
searcher: {sampler: tpe}
budget: {trials: 8}
resources: {workers: 1, cpus_per_worker: 1}
"""


@dataclass(frozen=True)
class Wrong:
    """``edits``: text of RIGHT → its replacement. ``said``: the printed line, after the position."""

    kind: str
    edits: dict[str, str]
    said: str
    arguments: tuple[str, ...] = ()

    def text(self) -> str:
        text = RIGHT
        for old, new in self.edits.items():
            assert text.count(old) == 1, f"{self.kind}: {old!r} stands {text.count(old)} times in the right space"
            text = text.replace(old, new)
        return text


DATA_LINE = "data: {dataset: digits, image_size: 16}"
DATA_KEY, DATA_REST = "  data: {dataset: digits, image_size: 16}\n", "data: {dataset: digits, image_size: 16"
ST3 = "    method: st3\n"
TARGET = "  sparsity.target: {float: [0.5, 0.9], scale: log1m}\n"
CRITERION = "  sparsity.criterion: {choice: [l1, sigma]}\n"
RANGE = "{float: [0.5, 0.9], scale: log1m}"
KINDS = "{choice: [constant, cosine]}"
RATIO = "  optim.weight_decay.final_ratio:"
WHEN = "when: {optim.weight_decay.kind: cosine}"
DECAY = (
    "  optim.weight_decay.kind: {choice: [constant, cosine]}\n  optim.weight_decay.final_ratio:\n"
    "    when: {optim.weight_decay.kind: cosine}\n    float: [1e-3, 1]\n"
)
NETWORK = "{arch: cifar_resnet, depth: 8, width: 8}"
NETWORKS = "cifar_resnet, mobilenet_v1, resnet50, timm, torchvision, vgg11, vgg_small, wide_resnet"
SEARCH_LINE = "search:\n"
CONSTRAINT = "- sparsity.target < 0.95"
OBJECTIVES = "objectives:\n  - {metric: val_top1, goal: max}\n  - {metric: gflops, goal: min}\n"


def optim(text: str) -> dict[str, str]:
    """Return RIGHT with ``optim`` fixed and not searched."""
    return {DECAY: "", "  train:\n": f"  optim: {text}\n  train:\n"}


DATA = [
    Wrong("absent data folder", {DATA_LINE: "data: {dataset: cifar10, ^root: nowhere}"},
          "data.root: no such folder: {folder}/nowhere"),
    Wrong("folder without images", {DATA_LINE: "data: {dataset: imagenet, ^root: empty}"},
          "data.root: no images in {folder}/empty: looked for train/<class>/ with images (and test/ or val/ for the "
          "test set)"),
    Wrong("folder without CIFAR-10", {DATA_LINE: "data: {dataset: cifar10, ^root: empty}"},
          "data.root: no cifar10 in {folder}/empty: looked for the folder cifar-10-batches-py/ with all its batches "
          "and for *train*.parquet with *test*.parquet; data.download=true fetches the folder"),
    Wrong("batch larger than the training set", {"batch_size: 64": "^batch_size: 1201"},
          "train.batch_size: 1201 is more than the 1200 training images"),
    Wrong("searched batch larger than the training set",
          {"    batch_size: 64\n": "", SEARCH_LINE: f"{SEARCH_LINE}  ^train.batch_size: {{choice: [64, 1201]}}\n"},
          "train.batch_size: 1201 is more than the 1200 training images, at train.batch_size=1201"),
    Wrong("more validation than images", {"image_size: 16": "^validation: 1500"},
          "data.validation: 1500 images requested, but the training set has 1500: none left to train on"),
]  # fmt: skip


def _set(kind: str, argument: str, said: str) -> Wrong:
    return Wrong(kind, {}, said, ("--set", argument))


ARGUMENTS = [
    _set("--set without =", "train.epochs",
         "st3sweep: --set train.epochs: must be PATH=VALUE, e.g. --set train.epochs=10"),
    _set("--set of an unknown field", "train.epoch=3",
         "--set train.epoch=3: train.epoch: unknown field; did you mean train.epochs?"),
    _set("--set of a last name", "epochs=3", "--set epochs=3: epochs: unknown field; did you mean train.epochs?"),
    _set("--set out of range", "train.epochs=0", "--set train.epochs=0: train.epochs: must be at least 1 (got 0)"),
    _set("--set of a searched field out of range", "sparsity.target=1.5",
         "--set sparsity.target=1.5: sparsity.target: must be below 1 (got 1.5)"),
    _set("--set of a wrong type at the top", "budget.trials=all",
         "--set budget.trials=all: budget.trials: must be a whole number (got 'all')"),
    _set("--set of a wrong range", "search.sparsity.target={float: [0.5, 1.5]}",
         "--set search.sparsity.target={float: [0.5, 1.5]}: search.sparsity.target: can become 1.5: must be below 1"),
    _set("--set that is not YAML", "train.epochs=[3",
         "--set train.epochs=[3: train.epochs: not YAML: expected ',' or ']', but got '<stream end>'"),
    Wrong("--set of all that is searched", {CRITERION: "", DECAY: ""},
          "--set sparsity.target=0.7: sparsity.target: leaves nothing to search; run a single trial with: "
          "st3sweep train", ("--set", "sparsity.target=0.7")),
    Wrong("--name of two words", {}, "st3sweep: --name two words: letters, digits, dot, dash and underscore only",
          ("--name", "two words")),
]  # fmt: skip

# Files that are not a search space: text, with ^ as above, and the printed line.
FILES = {
    "brace left open": (
        RIGHT.replace("{trials: 8}\nresources:", "{trials: 8\nresources^:"),
        "not YAML: expected ',' or '}', but got ':' (while parsing a flow mapping that starts on line 25)",
    ),
    "no colon": (
        RIGHT.replace("name: right\ntrial", "name right\n^trial"),
        "not YAML: could not find expected ':' (while scanning a simple key that starts on line 2)",
    ),
    "tab": (RIGHT.replace("    batch_size", "^\tbatch_size"), "not YAML: a tab; indent with spaces"),
    "control character": (
        RIGHT.replace("name: right", "name: ri^\x01ght"),
        "not YAML: the character U+0001 is not allowed",
    ),
    "two documents": (RIGHT + "^---\nname: second\n", "not YAML: a second document starts here; expected one"),
    "key twice": (
        RIGHT.replace("    batch_size: 64\n", "    batch_size: 64\n    ^epochs: 30\n"),
        "train.epochs: given twice; first on line 8",
    ),
    "number as a name": (RIGHT.replace("batch_size: 64", "^3: 64"), "train.3: a name must be text; put it in quotes"),
    "alias of itself": ("name: &name {x: *name}\n".replace("&", "^&"), "name.x: refers to itself"),
    "empty file": ("# nothing\n", "expected a mapping of names to values at the top, found an empty file"),
    "list at the top": ("^- a\n", "expected a mapping of names to values at the top, found a list"),
    "one trial": (
        "^model: {arch: cifar_resnet}\n",
        "this is a single trial, not a search space; run it with: st3sweep train",
    ),
}
