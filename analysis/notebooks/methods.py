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
# # Which method should I use at which cost?
#
# Fourteen variants at three sparsities and three seeds on one recipe: `docs/results/methods`, a proxy on small images,
# described beside it. Every seed repeats the whole comparison, so the front has a spread.

# %%
# %matplotlib inline
from st3sweep.analysis.attainment import attainment, plot_attainment
from st3sweep.analysis.fronts import front
from st3sweep.analysis.layer_profiles import layer_profiles
from st3sweep.analysis.plots import plot_front
from st3sweep.analysis.profile_plots import plot_layer_profiles
from st3sweep.analysis.replicates import replicates
from st3sweep.analysis.seeds import average_seeds
from st3sweep.analysis.tables import committed_sweep, load_layers, load_trials

run = committed_sweep("methods")
trials = load_trials(run)
means = average_seeds(trials)
print(front(means)[["method", "sparsity", "val_top1", "test_top1", "gflops"]].round(5).to_string(index=False))

# %% [markdown]
# ## Accuracy over cost, means of three seeds

# %%
plot_front(means, metric="test_top1")

# %% [markdown]
# ## How much of the front is luck?
#
# What all, half and any of the three repetitions attain at each cost: where the band is wider than the lead of a
# method, the lead cannot be told.

# %%
plot_attainment(attainment(trials, by="seed"))

# %% [markdown]
# ## At equal sparsity
#
# Means of three seeds with their 95 % intervals.

# %%
table = replicates(trials)
print(
    table[table["sparsity_target"] == 0.95]
    .round({"mean": 2, "standard_error": 2, "half_width": 2})
    .to_string(index=False)
)

# %% [markdown]
# ## Where do the front's models keep their weights?

# %%
plot_layer_profiles(layer_profiles(load_layers(run), trials))
