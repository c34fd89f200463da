"""Wrong variants of the valid search space: fields beside its trial and search."""

from __future__ import annotations

from wrong_specs import OBJECTIVES, SEARCH_LINE, Wrong

SWEEP = [
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
        "budget.money: needs budget.price_per_device_hour or budget.prices",
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
        "top-level field in the trial",
        {"  train:\n": "  ^resources: {}\n  train:\n"},
        "resources: unknown field in a trial; it belongs at the top level of a search space",
    ),
    Wrong(
        "a graph on a CPU",
        {"epochs: 20": "epochs: 20\n    ^graph: on"},
        "trial.train.graph: on needs a GPU, but resources.gpus_per_worker is 0: use auto or off",
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
    Wrong("searched early_stopping", {SEARCH_LINE: f"{SEARCH_LINE}  ^early_stopping.every: {{float: [0.1, 0.2]}}\n"},
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
        "test accuracy as an objective",
        {"{metric: val_top1": "{^metric: test_top1"},
        "objectives.0.metric: is 'test_top1', allowed: val_top1, val_loss, gflops, latency_ms, size_mb, sparsity, "
        "wall_seconds",
    ),
    Wrong("objective twice", {"objectives:": "^objectives:", "gflops, goal: min": "val_top1, goal: min"},
          "objectives: contains val_top1 twice"),
    Wrong("no objective", {OBJECTIVES: "^objectives: []\n"}, "objectives: is empty: give at least one"),
    Wrong("another schema", {"schema: st3sweep/v1": "^schema: st3sweep/v9"},
          "schema: is 'st3sweep/v9', allowed: st3sweep/v1"),
    Wrong("name of a folder elsewhere", {"name: right": "^name: ../right"},
          "name: must be letters, digits, dots, dashes and underscores, a letter or digit first (got '../right')"),
    Wrong("negative seed", {"trial:\n": "^seed: -1\ntrial:\n"}, "seed: must be at least 0 (got -1)"),
    Wrong("no trials", {"searcher: {sampler: tpe}\nbudget: {trials: 8}\n": "searcher: {^sampler: tpe}\n"},
          "budget.trials: is missing: sampler tpe needs budget.trials or budget.wall"),
]  # fmt: skip
