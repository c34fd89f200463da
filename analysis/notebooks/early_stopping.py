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
# # What does early stopping save, and which trials does it lose?
#
# Two sweeps of 64 trials that were all trained to the end, replayed with early stopping in 20 random orders of
# arrival: `docs/results/early_stopping`, where the figures are of 400 orders and four sweeps. A rule pays where its
# line is above the grey one: more hypervolume for the same compute.

# %%
# %matplotlib inline
from dataclasses import asdict

from st3sweep.analysis.profile_plots import plot_timeline, plot_training_curves
from st3sweep.analysis.replay_plots import plot_replays
from st3sweep.analysis.tables import committed_sweep, load_epochs, load_trials
from st3sweep.analysis.timeline import stops_by_rung
from st3sweep.analysis.training_curves import training_curves
from st3sweep.early_stopping.replay import replay, replay_table, replay_timeline
from st3sweep.space.early_stopping import EarlyStoppingConfig

RULES = [EarlyStoppingConfig(name=name) for name in ("ramp_pareto", "asha")]
found = {}
for name in ("20_epochs", "cifar10"):
    run = committed_sweep(f"early_stopping/{name}")
    trials, epochs = load_trials(run), load_epochs(run)
    results = [replay(trials, epochs, rule, orders=20) for rule in RULES]
    print(name, replay_table(results), sep="\n", end="\n\n")
    found[name] = [asdict(one) | {"early_stopping": one.early_stopping.model_dump()} for one in results]

# %%
plot_replays(found)

# %% [markdown]
# ## One sweep, trial by trial
#
# The CIFAR-10 sweep in one of these orders, four trials at a time: a dot on an orange bar is a trial of the front that
# was stopped.

# %%
timeline = replay_timeline(trials, epochs, RULES[0])
plot_timeline(timeline)

# %%
print(stops_by_rung(timeline).round(2).to_string(index=False))

# %% [markdown]
# ## Why the ramp matters
#
# Before the ramp ends, accuracy is that of a model denser than the final one.

# %%
plot_training_curves(training_curves(epochs, trials), measures=("ratio", "val_top1"))
