"""A valid search space, and one wrong variant of it for each kind of mistake.

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


_DATA = "data: {dataset: digits, image_size: 16}"
_DATA_KEY, _DATA_REST = "  data: {dataset: digits, image_size: 16}\n", "data: {dataset: digits, image_size: 16"
_ST3 = "    method: st3\n"
_TARGET = "  sparsity.target: {float: [0.5, 0.9], scale: log1m}\n"
_CRITERION = "  sparsity.criterion: {choice: [l1, sigma]}\n"
_RANGE = "{float: [0.5, 0.9], scale: log1m}"
_KINDS = "{choice: [constant, cosine]}"
_RATIO = "  optim.weight_decay.final_ratio:"
_WHEN = "when: {optim.weight_decay.kind: cosine}"
_DECAY = (
    "  optim.weight_decay.kind: {choice: [constant, cosine]}\n  optim.weight_decay.final_ratio:\n"
    "    when: {optim.weight_decay.kind: cosine}\n    float: [1e-3, 1]\n"
)
_NETWORK = "{arch: cifar_resnet, depth: 8, width: 8}"
_NETWORKS = "cifar_resnet, mobilenet_v1, resnet50, timm, torchvision, vgg11, vgg_small, wide_resnet"
_SEARCH = "search:\n"
_CONSTRAINT = "- sparsity.target < 0.95"
_OBJECTIVES = "objectives:\n  - {metric: val_top1, goal: max}\n  - {metric: gflops, goal: min}\n"


def _optim(text: str) -> dict[str, str]:
    """Return RIGHT with ``optim`` fixed and not searched."""
    return {_DECAY: "", "  train:\n": f"  optim: {text}\n  train:\n"}


FIELDS = [
    Wrong(
        "unknown field of the trial",
        {"batch_size: 64": "^batchsize: 64"},
        "train.batchsize: unknown field; did you mean train.batch_size?",
    ),
    Wrong(
        "unknown field without a similar one",
        {"batch_size: 64": "^colour: 64"},
        "train.colour: unknown field; train has: epochs, batch_size, label_smoothing, precision, deterministic, "
        "compile, graph, bn_momentum, bn_recalibration, finetune_epochs, finetune_lr",
    ),
    Wrong("unknown field at the top", {"budget:": "^budgets:"}, "budgets: unknown field; did you mean budget?"),
    Wrong(
        "unknown field of the searcher",
        {"sampler: tpe": "sampler: tpe, ^startuptrials: 3"},
        "searcher.startuptrials: unknown field; did you mean searcher.startup_trials?",
    ),
    Wrong(
        "unknown field of the budget",
        {"{trials: 8}": "{trials: 8, ^gpuhours: 3}"},
        "budget.gpuhours: unknown field; did you mean budget.gpu_hours?",
    ),
    Wrong(
        "a time without a unit",
        {"{trials: 8}": "{trials: 8, ^wall: 72}"},
        "budget.wall: must be a number above 0 with a unit: s, m, h or d, e.g. 72h (got 72)",
    ),
    Wrong(
        "an empty time",
        {"cpus_per_worker: 1}": "cpus_per_worker: 1, ^hang_limit: 0m}"},
        "resources.hang_limit: must be a number above 0 with a unit: s, m, h or d, e.g. 72h (got '0m')",
    ),
    Wrong(
        "GPU-hours of trials without a GPU",
        {"{trials: 8}": "{trials: 8, ^gpu_hours: 3}"},
        "budget.gpu_hours: has no effect: resources.gpus_per_worker is 0",
    ),
    Wrong(
        "money without a price",
        {"{trials: 8}": "{^money: 100}"},
        "budget.money: needs budget.price_per_device_hour",
    ),
    Wrong(
        "a part of a GPU for two workers",
        {"workers: 1, cpus_per_worker: 1": "workers: 2, ^gpus_per_worker: 0.5"},
        "resources.gpus_per_worker: must be 0 or 1 with 2 workers: two ranks cannot share a GPU (got 0.5)",
    ),
    Wrong(
        "a kind of GPU for trials without a GPU",
        {"workers: 1, cpus_per_worker: 1": "workers: 1, ^accelerator: A100"},
        "resources.accelerator: has no effect: resources.gpus_per_worker is 0",
    ),
    Wrong(
        "several trials a GPU without a GPU",
        {"workers: 1, cpus_per_worker: 1": "workers: 1, ^trials_per_gpu: auto"},
        "resources.trials_per_gpu: has no effect: resources.gpus_per_worker is 0",
    ),
    Wrong(
        "several trials on a part of a GPU",
        {"workers: 1, cpus_per_worker: 1": "gpus_per_worker: 0.5, ^trials_per_gpu: 4"},
        "resources.trials_per_gpu: needs gpus_per_worker: 1 (got 0.5)",
    ),
    Wrong(
        "several trials a GPU, each of two workers",
        {"workers: 1, cpus_per_worker: 1": "workers: 2, gpus_per_worker: 1, ^trials_per_gpu: auto"},
        "resources.trials_per_gpu: must be 1 with 2 workers: two ranks cannot share a GPU (got auto)",
    ),
    Wrong(
        "a GPU's decoder for trials without a GPU",
        {"{dataset: digits, image_size: 16}": "{dataset: image_folder, root: photographs, ^decoder: nvjpeg}"},
        "trial.data.decoder: nvjpeg needs a GPU, but resources.gpus_per_worker is 0: use pillow",
    ),
    Wrong(
        "a decoder of what is decoded",
        {"{dataset: digits, image_size: 16}": "{dataset: image_folder, root: photographs, pack: p, ^decoder: nvjpeg}",
         "workers: 1, cpus_per_worker: 1": "workers: 1, gpus_per_worker: 1"},
        "data.decoder: nvjpeg has no effect: data.pack holds decoded images",
    ),
    Wrong(
        "a share for replicates without a limit",
        {"{trials: 8}": "{trials: 8}\nreplicates: {^share: 0.3}"},
        "replicates.share: has no effect: budget has none of wall, gpu_hours and money",
    ),
    Wrong(
        "replicates without the default objectives",
        {
            "{trials: 8}": "{trials: 8}\n^replicates: {seeds: 3}",
            "{metric: gflops, goal: min}": "{metric: sparsity, goal: max}",
        },
        "replicates: needs the objectives val_top1 and gflops, in this order",
    ),
    Wrong(
        "unknown field of the resources",
        {"workers: 1, ": "workers: 1, ^gpus: 1, "},
        "resources.gpus: unknown field; allowed: workers, cpus_per_worker, gpus_per_worker, trials_per_gpu, "
        "accelerator, memory_per_worker, preemptions_per_hour, slots, hang_limit, trials_per_process, checkpoints",
    ),
    Wrong(
        "unknown setting of the checkpoints",
        {"workers: 1, ": "workers: 1, ^checkpoints: best, "},
        "resources.checkpoints: is 'best', allowed: front, finished, all",
    ),
    Wrong(
        "trial field at the top level",
        {"budget:": "^optim: {lr: 0.1}\nbudget:"},
        "optim: unknown field here; it belongs under trial",
    ),
    Wrong(
        "top-level field in the trial",
        {"  train:\n": "  ^resources: {}\n  train:\n"},
        "resources: unknown field in a trial; it belongs at the top level of a search space",
    ),
    Wrong("wrong type", {"epochs: 20": "^epochs: many"}, "train.epochs: must be a whole number (got 'many')"),
    Wrong("truth for a number", {"epochs: 20": "^epochs: true"}, "train.epochs: must not be true or false (got true)"),
    Wrong("an empty section", {"  train:\n    epochs: 20\n    batch_size: 64\n": "  ^train:\n"},
          "train: must be a mapping of names to values (got null)"),
    Wrong("out of range", {_TARGET: "", _ST3: f"{_ST3}    ^target: 1.2\n"},
          "sparsity.target: must be below 1 (got 1.2)"),
    Wrong("not a number", _optim("{^lr: .nan}"), "optim.lr: must be a finite number (got nan)"),
    Wrong(
        "either of two types",
        {"image_size: 16": "^validation: 1.5"},
        "data.validation: must be a whole number, or below 1 (got 1.5)",
    ),
    Wrong(
        "wrong choice",
        {_CRITERION: "", _ST3: f"{_ST3}    ^criterion: l2\n"},
        "sparsity.criterion: is 'l2', allowed: l1, sigma, lamp, family",
    ),
    Wrong(
        "unknown model",
        {"{arch: cifar_resnet": "{^arch: cifar_resnt"},
        f"model.arch: is 'cifar_resnt', allowed: {_NETWORKS}; did you mean cifar_resnet?",
    ),
    Wrong(
        "unknown dataset",
        {"{dataset: digits": "{^dataset: digit"},
        "data.dataset: is 'digit', allowed: cifar10, cifar100, digits, image_folder, imagenet, image_parquet; "
        "did you mean digits?",
    ),
    Wrong(
        "unknown method",
        {"method: st3": "^method: st33"},
        "sparsity.method: is 'st33', allowed: dense, dnw, gmp, granet, probmask, rigl, st3, static, str; "
        "did you mean st3?",
    ),
    Wrong(
        "unknown recipe",
        {"recipe: paper": "^recipe: papers"},
        "recipe: is 'papers', allowed: paper, authors; did you mean paper?",
    ),
    Wrong(
        "no model",
        {"trial:\n": "^trial:\n", "  model: {arch: cifar_resnet, depth: 8, width: 8}\n": ""},
        "model: is missing: neither fixed under trial nor searched",
    ),
    Wrong(
        "model without its kind",
        {"model: {arch: cifar_resnet, ": "^model: {"},
        f"model.arch: is missing: neither fixed under trial nor searched; allowed: {_NETWORKS}",
    ),
    Wrong(
        "target neither fixed nor searched",
        {_TARGET: "", "  sparsity:\n": "  ^sparsity:\n"},
        "sparsity.target: is missing: neither fixed under trial nor searched (or gflops.target in its place)",
    ),
    Wrong(
        "a sparsity and a budget",
        {"  sparsity:\n": "  gflops: {^target: 0.01}\n  sparsity:\n"},
        "gflops.target: excludes sparsity.target: give one of them, at sparsity.target=0.8524",
    ),
    Wrong(
        "a budget beyond the dense model",
        {
            _TARGET: "",
            "constraints:\n  - sparsity.target < 0.95\n": "",
            "  sparsity:\n": "  gflops: {^target: 1}\n  sparsity:\n",
        },
        "gflops.target: 1 is more than the dense model's 0.000772416",
    ),
    Wrong(
        "a power that the criterion does not have",
        {_ST3: _ST3 + "    ^mac_power: 0.5\n"},
        "sparsity.mac_power: has no effect with criterion sigma, at sparsity.criterion='sigma'",
    ),
    Wrong(
        "a budget for a method that takes none",
        {"method: st3": "method: dnw", _CRITERION: "", "  sparsity:\n": "  gflops: {^target: 0.01}\n  sparsity:\n"},
        "gflops.target: has no effect with method dnw",
    ),
    Wrong(
        "a weight decay with_sparsity for a method without a ramp",
        {"method: st3": "method: dnw", _CRITERION: "",
         **_optim("{weight_decay: {^kind: with_sparsity, value: 1e-4, final_ratio: 0}}")},
        "optim.weight_decay.kind: with_sparsity has no effect with method dnw, whose sparsity is constant",
    ),
    Wrong(
        "a weight decay by_target without a target",
        {"method: st3": "method: str\n    s_init: -3200", _CRITERION: "", _TARGET: "  optim.lr: {choice: [0.1, 0.2]}\n",
         "constraints:\n  - sparsity.target < 0.95\n": "", **_optim("{weight_decay: {^kind: by_target}}"),
         "{arch: cifar_resnet, depth: 8, width: 8}": "{arch: torchvision, network: resnet50}",
         "{dataset: digits, image_size: 16}": "{dataset: cifar10, root: empty}"},
        "optim.weight_decay.kind: by_target needs sparsity.target, which s_init replaces",
    ),
    Wrong(
        "a compiled step of several passes",
        {"method: st3": "method: probmask", _CRITERION: "", "epochs: 20": "epochs: 20\n    ^compile: true"},
        "train.compile: is not supported with method probmask: the passes of a step would share a CUDA graph's output",
    ),
    Wrong(
        "a graph on a CPU",
        {"epochs: 20": "epochs: 20\n    ^graph: on"},
        "trial.train.graph: on needs a GPU, but resources.gpus_per_worker is 0: use auto or off",
    ),
    Wrong(
        "a ramp that ends before it starts, by default",
        {"method: st3": "method: probmask\n    ^ramp: {end: 0.1}", _CRITERION: ""},
        "sparsity.ramp: must start before it ends (start 0.16, end 0.1 of training)",
    ),
    Wrong(
        "a start value for a target",
        {"method: st3": "method: str\n    ^s_init: -3", _CRITERION: ""},
        "sparsity.s_init: excludes sparsity.target: give one of them, at sparsity.target=0.8715",
    ),
    Wrong(
        "a calibration without a target",
        {"method: st3": "method: str\n    s_init: -3\n    ^calibrate: {runs: 3}", _CRITERION: "",
         _TARGET: "  optim.lr: {choice: [0.1, 0.2]}\n", "constraints:\n  - sparsity.target < 0.95\n": ""},
        "sparsity.calibrate: has no effect with s_init; it finds s_init for sparsity.target",
    ),
    Wrong(
        "pilots of length 0",
        {"method: st3": "method: str\n    calibrate: {^pilot: {epochs: 0}}", _CRITERION: ""},
        "sparsity.calibrate.pilot: must be above 0",
    ),
    Wrong(
        "neither a start value nor a target",
        {"  sparsity:\n": "  ^sparsity:\n", "method: st3": "method: str", _CRITERION: "",
         _TARGET: "  optim.lr: {choice: [0.1, 0.2]}\n", "constraints:\n  - sparsity.target < 0.95\n": ""},
        "sparsity.s_init: is missing: neither fixed under trial nor searched (or sparsity.target in its place)",
    ),
    Wrong(
        "a threshold that prunes everything",
        {"method: st3": "method: str\n    ^s_init: 3", _CRITERION: "", _TARGET: "",
         "constraints:\n  - sparsity.target < 0.95\n": ""},
        "sparsity.s_init: must be at most 0 (got 3)",
    ),
    Wrong("depth that no network has", {"depth: 8": "^depth: 12"}, "model.depth: must be 6n+2: 8 or 14 (got 12)"),
    Wrong("depth that no wide model has", {_NETWORK: "{arch: wide_resnet, ^depth: 20}"},
          "model.depth: must be 6n+4: 16 or 22 (got 20)"),
    Wrong("dropout of 1", {_NETWORK: "{arch: wide_resnet, ^dropout: 1}"},
          "model.dropout: must be below 1 (got 1)"),
    Wrong("setting of another model", {_NETWORK: "{arch: vgg11, ^depth: 13}"},
          "model.depth: has no effect with arch vgg11, which has weights, classifier"),
    Wrong("torchvision model without its name", {f"model: {_NETWORK}": "^model: {arch: torchvision}"},
          "model.network: is missing: neither fixed under trial nor searched"),
    Wrong("model that torchvision does not have", {_NETWORK: "{arch: torchvision, ^network: efficientnet_b00}"},
          "model.network: must be a convolutional classifier of torchvision; did you mean efficientnet_b0? "
          "(got 'efficientnet_b00')"),
    Wrong("attention model", {_NETWORK: "{arch: torchvision, ^network: vit_b_16}"},
          "model.network: must consist of conv and linear layers, without attention (got 'vit_b_16')"),
    Wrong("torchvision model for one channel", {_NETWORK: "{^arch: torchvision, network: resnet18}"},
          "model.arch: torchvision_resnet18 takes images of 3 channels; digits has 1"),
    Wrong("images too small for the model", {_NETWORK: "{^arch: vgg11}"},
          "model.arch: vgg11 needs images of at least 32 pixels; these have 16"),
    Wrong(
        "images too small for a torchvision model",
        {_NETWORK: "{^arch: torchvision, network: inception_v3}", _DATA: "data: {dataset: cifar10, root: empty}"},
        "model.arch: torchvision_inception_v3 needs images of at least 75 pixels; these have 32",
    ),
    Wrong(
        "kind without such a field",
        _optim("{weight_decay: {kind: constant, ^final_ratio: 0.1}}"),
        "optim.weight_decay.final_ratio: has no effect with kind constant, which has value",
    ),
    Wrong(
        "fine-tuning that does not happen",
        {"epochs: 20": "epochs: 20\n    ^finetune_lr: 0.1"},
        "train.finetune_lr: has no effect while train.finetune_epochs is 0",
    ),
    Wrong(
        "startup of a random sampler",
        {"sampler: tpe": "sampler: random, ^startup_trials: 3"},
        "searcher.startup_trials: has no effect with sampler random",
    ),
    Wrong("unknown early_stopping", {"searcher:": "early_stopping: {^name: ramp}\nsearcher:"},
          "early_stopping.name: is 'ramp', allowed: none, ramp_pareto, residual, asha"),
    Wrong("unknown field of early stopping", {"searcher:": "early_stopping: {name: asha, ^rung: [0.5]}\nsearcher:"},
          "early_stopping.rung: unknown field; did you mean early_stopping.rungs?"),
    Wrong("rungs without early stopping", {"searcher:": "early_stopping: {^rungs: [0.5, 1]}\nsearcher:"},
          "early_stopping.rungs: has no effect with early_stopping none"),
    Wrong("min_trials without a rule", {"searcher:": "early_stopping: {name: none, ^min_trials: 9}\nsearcher:"},
          "early_stopping.min_trials: has no effect with early_stopping none"),
    Wrong("reduction without early stopping", {"searcher:": "early_stopping: {^reduction_factor: 3}\nsearcher:"},
          "early_stopping.reduction_factor: has no effect with early_stopping none"),
    Wrong("rungs after the ramp for early stopping without a ramp",
          {"searcher:": "early_stopping: {name: asha, ^every: 0.2}\nsearcher:"},
          "early_stopping.every: has no effect with early_stopping asha"),
    Wrong("rungs that fall", {"searcher:": "early_stopping: {name: asha, ^rungs: [0.5, 0.5]}\nsearcher:"},
          "early_stopping.rungs: must rise (got [0.5, 0.5])"),
    Wrong("rung past the end", {"searcher:": "early_stopping: {name: residual, rungs: [0.5, ^1.5]}\nsearcher:"},
          "early_stopping.rungs.1: must be at most 1 (got 1.5)"),
    Wrong("only a rung past the end", {"searcher:": "early_stopping: {name: residual, rungs: [^1.5]}\nsearcher:"},
          "early_stopping.rungs.0: must be at most 1 (got 1.5)"),
    Wrong("no rungs", {"searcher:": "early_stopping: {name: residual, ^rungs: []}\nsearcher:"},
          "early_stopping.rungs: is empty: give at least one"),
    Wrong("reduction factor of 1", {"searcher:": "early_stopping: {name: residual, ^reduction_factor: 1}\nsearcher:"},
          "early_stopping.reduction_factor: must be above 1 (got 1)"),
    Wrong("rungs that never come", {"searcher:": "early_stopping: {name: residual, ^every: 0}\nsearcher:"},
          "early_stopping.every: must be above 0 (got 0)"),
    Wrong("early_stopping for other objectives",
          {"gflops, goal: min": "wall_seconds, goal: min", "searcher:": "^early_stopping: {name: residual}\nsearcher:"},
          "early_stopping: needs the objectives val_top1 max and gflops min, and no other"),
    Wrong("searched early_stopping", {_SEARCH: f"{_SEARCH}  ^early_stopping.every: {{float: [0.1, 0.2]}}\n"},
          "search.early_stopping.every: cannot be searched: it is not a field of a trial"),
    Wrong(
        "startup trials of a Sobol' sequence",
        {"{sampler: tpe}": "{sampler: qmc, ^startup_trials: 3}"},
        "searcher.startup_trials: has no effect with sampler qmc",
    ),
    Wrong(
        "empty warm start",
        {"budget:": "^warm_start: {}\nbudget:"},
        "warm_start: has no effect without points and from",
    ),
    Wrong(
        "more points to start from than trials",
        {"budget: {trials: 8}": "warm_start:\n  ^points: [{sparsity.target: 0.6}, {sparsity.target: 0.7}]\n"
         "budget: {trials: 1}"},
        "warm_start.points: has 2 points, but budget.trials is 1",
    ),
    Wrong(
        "unknown field of the warm start",
        {"budget:": "warm_start:\n  ^form: [runs/a]\nbudget:"},
        "warm_start.form: unknown field; did you mean warm_start.from?",
    ),
    Wrong(
        "missing earlier run",
        {"budget:": "warm_start:\n  from: [^runs/a]\nbudget:"},
        "warm_start.from[0]: {folder}/runs/a/trials.parquet: not found; is {folder}/runs/a the folder of a run?",
    ),
    Wrong(
        "population of a Gaussian process",
        {"{sampler: tpe}": "{sampler: gp, ^population: 20}"},
        "searcher.population: has no effect with sampler gp",
    ),
    Wrong(
        "conditional field of a Gaussian process",
        {"{sampler: tpe}": "{sampler: gp}", "    when: {opt": "    ^when: {opt"},
        "search.optim.weight_decay.final_ratio.when: sampler gp models only fields that every trial has; "
        "leave out when, or use sampler tpe",
    ),
    Wrong(
        "weight decay of another model",
        _optim("{weight_decay: {^kind: by_target}}"),
        "optim.weight_decay.kind: by_target has no row for resnet8_w8; the table names mobilenet_v1, resnet50",
    ),
    Wrong(
        "ramp that ends before it starts",
        {_ST3: f"{_ST3}    ^ramp: {{start: 0.6, end: 0.5}}\n"},
        "sparsity.ramp: must start before it ends (start 0.6, end 0.5 of training)",
    ),
    Wrong("setting of another method", {_ST3: f"{_ST3}    ^interval: 0.1\n"},
          "sparsity.interval: has no effect with method st3, which has target, criterion, shape_power, mac_power, "
          "soft, rescale, backward, ramp"),
    Wrong("updates without an interval", {_CRITERION: "", _ST3: "    method: gmp\n    ^interval: 0\n"},
          "sparsity.interval: must be above 0"),
    Wrong("ramp of another method that ends before it starts",
          {_CRITERION: "", _ST3: "    method: gmp\n    ^ramp: {start: 0.6}\n"},
          "sparsity.ramp: must start before it ends (start 0.6, end 0.5 of training)"),
    Wrong("updates that never come", {_CRITERION: "", _ST3: "    method: rigl\n    ^interval: 0.75\n"},
          "sparsity.interval: must be below sparsity.stop, or no update happens (interval 0.75, stop 0.75)"),
    Wrong("a criterion that ranks nothing",
          {_CRITERION: "", _ST3: "    method: gmp\n    ^criterion: lamp\n"},
          "sparsity.criterion: lamp has no effect with allocation uniform"),
    Wrong("a budget for a criterion that counts weights",
          {_CRITERION: "", _TARGET: "", "  sparsity:\n": "  gflops: {^target: 0.0001}\n  sparsity:\n",
           "constraints:\n  - sparsity.target < 0.95\n": "", _ST3: f"{_ST3}    criterion: lamp\n"},
          "gflops.target: excludes criterion lamp, which counts weights"),
    Wrong("weight decay that follows a constant sparsity",
          {_CRITERION: "", _ST3: "    method: rigl\n",
           **_optim("{weight_decay: {^kind: with_sparsity, final_ratio: 0.1}}")},
          "optim.weight_decay.kind: with_sparsity has no effect with method rigl, whose sparsity is constant"),
    Wrong("a start without weights", {_CRITERION: "", _ST3: "    method: granet\n    ^initial_density: 0\n"},
          "sparsity.initial_density: must be above 0 (got 0)"),
    Wrong("a drop of nothing", {_CRITERION: "", _ST3: "    method: rigl\n    ^drop_fraction: 0\n"},
          "sparsity.drop_fraction: must be above 0 (got 0)"),
    Wrong("a stop past the end", {_CRITERION: "", _ST3: "    method: rigl\n    ^stop: {epochs: 21}\n"},
          "sparsity.stop: 21 epochs is past the end of training (train.epochs is 20)"),
    Wrong("a budget for a method that has none",
          {_CRITERION: "", "  sparsity:\n": "  gflops: {^target: 0.01}\n  sparsity:\n", _ST3: "    method: gmp\n"},
          "gflops.target: has no effect with method gmp"),
    Wrong(
        "milestones that fall",
        _optim("{schedule: {^milestones: [0.75, 0.5]}}"),
        "optim.schedule.milestones: must rise (got 0.75, 0.5 of training)",
    ),
    Wrong(
        "milestone out of range",
        _optim("{schedule: {milestones: [0.5, ^2]}}"),
        "optim.schedule.milestones.1: must be at most 1 (got 2)",
    ),
    Wrong(
        "time past the end",
        {_ST3: f"{_ST3}    ramp: {{^end: {{epochs: 500}}}}\n"},
        "sparsity.ramp.end: 500 epochs is past the end of training (train.epochs is 20)",
    ),
    Wrong(
        "time misspelt",
        {_ST3: f"{_ST3}    ramp: {{end: {{^epoch: 10}}}}\n"},
        "sparsity.ramp.end.epoch: unknown field; did you mean sparsity.ramp.end.epochs?",
    ),
    Wrong(
        "test accuracy as an objective",
        {"{metric: val_top1": "{^metric: test_top1"},
        "objectives.0.metric: is 'test_top1', allowed: val_top1, val_loss, gflops, latency_ms, size_mb, sparsity, "
        "wall_seconds",
    ),
    Wrong("objective twice", {"objectives:": "^objectives:", "gflops, goal: min": "val_top1, goal: min"},
          "objectives: contains val_top1 twice"),
    Wrong("no objective", {_OBJECTIVES: "^objectives: []\n"}, "objectives: is empty: give at least one"),
    Wrong("another schema", {"schema: st3sweep/v1": "^schema: st3sweep/v9"},
          "schema: is 'st3sweep/v9', allowed: st3sweep/v1"),
    Wrong("name of a folder elsewhere", {"name: right": "^name: ../right"},
          "name: must be letters, digits, dots, dashes and underscores, a letter or digit first (got '../right')"),
    Wrong("negative seed", {"trial:\n": "^seed: -1\ntrial:\n"}, "seed: must be at least 0 (got -1)"),
    Wrong("unset variable", {_DATA: "data: {dataset: cifar10, ^root: $ST3SWEEP_NOWHERE/x}"},
          "data.root: the environment variable ST3SWEEP_NOWHERE is not set (got '$ST3SWEEP_NOWHERE/x')"),
    Wrong("no data folder given", {_DATA: "^data: {dataset: cifar10}"}, "data.root: is missing"),
    Wrong(
        "more workers than divide a batch",
        {"{workers: 1,": "{workers: 3,", "batch_size: 64": "^batch_size: 64"},
        "train.batch_size: 64 is not a multiple of 3 workers (resources.workers)",
    ),
    Wrong(
        "more workers than divide the recipe's batch",
        {"{workers: 1,": "{^workers: 3,", "    batch_size: 64\n": ""},
        "train.batch_size: 128 is not a multiple of 3 workers (resources.workers)",
    ),
    Wrong("no trials", {"searcher: {sampler: tpe}\nbudget: {trials: 8}\n": "searcher: {^sampler: tpe}\n"},
          "budget.trials: is missing: sampler tpe needs budget.trials or budget.wall"),
]  # fmt: skip

SEARCH = [
    Wrong(
        "range past the field's bounds",
        {f"  sparsity.target: {_RANGE}": "  ^sparsity.target: {float: [0.5, 1.2]}"},
        "search.sparsity.target: can become 1.2: must be below 1",
    ),
    Wrong(
        "choice that the field does not have",
        {"sparsity.criterion: {choice: [l1, sigma]}": "^sparsity.criterion: {choice: [l1, sigmas]}"},
        "search.sparsity.criterion: can become 'sigmas', allowed: l1, lamp, sigma, family; did you mean sigma?",
    ),
    Wrong(
        "choice misspelt that another field waits for",
        {f"  optim.weight_decay.kind: {_KINDS}": "  ^optim.weight_decay.kind: {choice: [constant, cosin]}"},
        "search.optim.weight_decay.kind: can become 'cosin', allowed: constant, by_target, with_sparsity, cosine; "
        "did you mean cosine?",
    ),
    Wrong(
        "choice that a rule refuses",
        {"depth: 8, ": "", _SEARCH: f"{_SEARCH}  ^model.depth: {{choice: [8, 9]}}\n"},
        "model.depth: must be 6n+2: 8 or 14, at model.depth=9",
    ),
    Wrong(
        "choice that torchvision does not have",
        {_NETWORK: "{arch: torchvision}",
         _SEARCH: f"{_SEARCH}  ^model.network: {{choice: [resnet18, resnet19]}}\n"},
        "search.model.network: can become 'resnet19': must be a convolutional classifier of torchvision; "
        "did you mean resnet18?",
    ),
    Wrong(
        "point that breaks a rule between fields",
        {_SEARCH: f"{_SEARCH}  ^sparsity.ramp.start: {{choice: [0.1, 0.7]}}\n"},
        "sparsity.ramp: must start before it ends (start 0.7, end 0.5 of training), at sparsity.ramp.start=0.7",
    ),
    Wrong(
        "point that lacks a field",
        {_KINDS: "{choice: [cosine, with_sparsity]}", _RATIO: f"  ^{_RATIO.strip()}"},
        "optim.weight_decay.final_ratio: is missing: neither fixed under trial nor searched, "
        "at optim.weight_decay.kind='with_sparsity'",
    ),
    Wrong(
        "point with a field too many",
        {f"    {_WHEN}\n": "", _RATIO: f"  ^{_RATIO.strip()}"},
        "optim.weight_decay.final_ratio: has no effect with kind constant, which has value, "
        "at optim.weight_decay.kind='constant'",
    ),
    Wrong(
        "unknown searched field",
        {"  sparsity.target:": "  ^sparsity.targt:"},
        "search.sparsity.targt: no such field in a trial; did you mean sparsity.target?",
    ),
    Wrong("searched field without its part", {_SEARCH: f"{_SEARCH}  ^lr: {{float: [0.1, 1]}}\n"},
          "search.lr: no such field in a trial; did you mean optim.lr?"),
    Wrong("empty search", {_CRITERION: "", _TARGET: "", _DECAY: "", _SEARCH: "^search: {}\n"},
          "search: is empty: give at least one"),
    Wrong("no search", {_CRITERION: "", _TARGET: "", _DECAY: "", _SEARCH: "", "schema:": "^schema:"},
          "search: is missing"),
    Wrong(
        "reversed range",
        {"  sparsity.target: {float: [0.5, 0.9]": "  ^sparsity.target: {float: [0.9, 0.5]"},
        "search.sparsity.target: an empty range: the lower bound 0.9 must be below the upper bound 0.5",
    ),
    Wrong(
        "logarithm of zero",
        {f"  sparsity.target: {_RANGE}": "  ^sparsity.target: {float: [0, 0.9], scale: log}"},
        "search.sparsity.target: scale log needs bounds above 0, got 0",
    ),
    Wrong("one bound", {"{float: [0.5, 0.9]": "{^float: [0.5]"},
          "search.sparsity.target.float: must be two numbers: [low, high]"),
    Wrong("bound that is text", {"{float: [0.5, 0.9]": "{float: [0.5, ^high]"},
          "search.sparsity.target.float.1: must be a number (got 'high')"),
    Wrong("unknown field of a range", {"scale: log1m": "^scal: log1m"},
          "search.sparsity.target.scal: unknown field; did you mean search.sparsity.target.scale?"),
    Wrong("unknown scale", {"scale: log1m": "^scale: log1p"},
          "search.sparsity.target.scale: is 'log1p', allowed: linear, log, log1m; did you mean log1m?"),
    Wrong("scale of a choice", {"[l1, sigma]}": "[l1, sigma], ^scale: log}"},
          "search.sparsity.criterion.scale: has no effect with choice, which has when, choice"),
    Wrong("no range", {_CRITERION: "  ^sparsity.criterion: l1\n"},
          "search.sparsity.criterion: needs exactly one of float: [low, high], int: [low, high] or "
          "choice: [a, b, ...]"),
    Wrong("list as a choice", {"[l1, sigma]": "[^[l1], sigma]"},
          "search.sparsity.criterion.choice.0: must be a single value: text, a number, true, false or null "
          "(got ['l1'])"),
    Wrong("choice twice", {"  sparsity.criterion: {choice: [l1, sigma]}": "  ^sparsity.criterion: {choice: [l1, l1]}"},
          "search.sparsity.criterion: duplicate value in ['l1', 'l1']"),
    Wrong("range for whole numbers",
          {"    epochs: 20\n": "", _SEARCH: f"{_SEARCH}  ^train.epochs: {{float: [1, 9]}}\n"},
          "search.train.epochs: is a whole number: search it with int: [low, high]"),
    Wrong("condition on a field that is not there", {_WHEN: "when: {^optim.weight_decay.kid: cosine}"},
          "search.optim.weight_decay.final_ratio.when.optim.weight_decay.kid: no such field in a trial; "
          "did you mean optim.weight_decay.kind?"),
    Wrong("condition on a value that never is", {_WHEN: "when: {^optim.weight_decay.kind: cosin}"},
          "search.optim.weight_decay.final_ratio.when.optim.weight_decay.kind: is never 'cosin'; "
          "its choices: constant, cosine; did you mean cosine?"),
    Wrong("condition on a fixed field", {_WHEN: "when: {optim.weight_decay.kind: cosine, ^train.epochs: 30}"},
          "search.optim.weight_decay.final_ratio.when.train.epochs: is fixed to 20, so this is never active"),
    Wrong("conditions in a circle",
          {_KINDS: "{^when: {optim.weight_decay.final_ratio: 1}, choice: [constant, cosine]}",
           "float: [1e-3, 1]": "choice: [0.1, 1]"},
          "search.optim.weight_decay.kind.when: circular `when`: optim.weight_decay.kind → "
          "optim.weight_decay.final_ratio → optim.weight_decay.kind"),
    Wrong("fixed and searched", {_ST3: f"{_ST3}    target: 0.7\n", "  sparsity.target:": "  ^sparsity.target:"},
          "search.sparsity.target: is searched, but also fixed under trial on line 12; remove one"),
    Wrong("searched below a value", {"  sparsity:\n    method: st3\n": "  ^sparsity: st3\n"},
          "sparsity: must be a mapping of names to values (got 'st3'): fields below it are searched"),
    Wrong("searched part", {_SEARCH: f"{_SEARCH}  ^sparsity.ramp: {{choice: [1, 2]}}\n"},
          "search.sparsity.ramp: is not a single value; search one of its fields: sparsity.ramp.start, "
          "sparsity.ramp.start.epochs, sparsity.ramp.end, sparsity.ramp.end.epochs, sparsity.ramp.power"),
    Wrong("searched resources", {_SEARCH: f"{_SEARCH}  ^resources.workers: {{int: [1, 4]}}\n"},
          "search.resources.workers: cannot be searched: it is not a field of a trial"),
    Wrong("grid of a range", {"sampler: tpe": "sampler: grid", _TARGET: "", _ST3: f"{_ST3}    target: 0.5\n",
                              _RATIO: f"  ^{_RATIO.strip()}"},
          "search.optim.weight_decay.final_ratio: sampler grid needs choice or int here, not float"),
    Wrong("constraint that nothing satisfies", {_CONSTRAINT: "- ^sparsity.target > 0.95"},
          "constraints.0: 'sparsity.target > 0.95': none of 10,000 random points satisfies it"),
    Wrong("constraints that exclude each other",
          {"constraints:": "^constraints:", _CONSTRAINT: "- sparsity.target > 0.8\n  - sparsity.target < 0.6"},
          "constraints: none of 10,000 random points satisfies all of them: "
          "sparsity.target > 0.8; sparsity.target < 0.6"),
    Wrong("constraint that is cut off", {_CONSTRAINT: "- ^sparsity.target <"},
          "constraints.0: 'sparsity.target <': cannot be read (invalid syntax)"),
    Wrong("constraint that calls a function", {_CONSTRAINT: "- ^abs(sparsity.target) < 1"},
          "constraints.0: 'abs(sparsity.target) < 1': abs(sparsity.target) is not allowed in a constraint, only "
          "fields, numbers, text, + - * /, comparisons, and, or, not"),
    Wrong("constraint that is no condition", {_CONSTRAINT: "- ^sparsity.target - 1"},
          "constraints.0: 'sparsity.target - 1': is not a condition: compare with <, <=, >, >=, == or !="),
    Wrong("constraint on an unknown field", {_CONSTRAINT: "- ^sparsity.targt < 1"},
          "constraints.0: 'sparsity.targt < 1': unknown field sparsity.targt; did you mean sparsity.target?"),
    Wrong("constraint between text and a number", {_CONSTRAINT: "- ^sparsity.criterion < 1"},
          "constraints.0: 'sparsity.criterion < 1': compares, or calculates with, values of different kinds"),
]  # fmt: skip

DATA = [
    Wrong("absent data folder", {_DATA: "data: {dataset: cifar10, ^root: nowhere}"},
          "data.root: no such folder: {folder}/nowhere"),
    Wrong("folder without images", {_DATA: "data: {dataset: imagenet, ^root: empty}"},
          "data.root: no images in {folder}/empty: looked for train/<class>/ with images (and test/ or val/ for the "
          "test set)"),
    Wrong("folder without CIFAR-10", {_DATA: "data: {dataset: cifar10, ^root: empty}"},
          "data.root: no cifar10 in {folder}/empty: looked for the folder cifar-10-batches-py/ with all its batches "
          "and for *train*.parquet with *test*.parquet; data.download=true fetches the folder"),
    Wrong("batch larger than the training set", {"batch_size: 64": "^batch_size: 1201"},
          "train.batch_size: 1201 is more than the 1200 training images"),
    Wrong("searched batch larger than the training set",
          {"    batch_size: 64\n": "", _SEARCH: f"{_SEARCH}  ^train.batch_size: {{choice: [64, 1201]}}\n"},
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
    Wrong("--set of all that is searched", {_CRITERION: "", _DECAY: ""},
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
