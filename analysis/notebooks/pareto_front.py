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
# # The Pareto front of a run
#
# Which trials give the best validation accuracy for their cost, how they got there, and where they keep their weights.
# The run is the folder that the environment variable `ST3_RUN` names, or else the newest one under `runs/`.
#
# Everything is computed and drawn by functions of `analysis`; this notebook only calls them.

# %%
# %matplotlib inline
from st3sweep.analysis.fronts import front, front_hypervolume
from st3sweep.analysis.plots import plot_layers, plot_ramp, plot_run
from st3sweep.analysis.tables import front_table, load_epochs, load_layers, load_trials, run_folder

run = run_folder()
trials, epochs, layers = load_trials(run), load_epochs(run), load_layers(run)
print(f"{run.name}: {len(trials)} trials")

# %% [markdown]
# ## The front
#
# A trial is on the front when no other one is at least as accurate on the validation set and at least as cheap, and
# better in one of the two. Where others have published results for this model and data set, a second panel sets the
# test accuracy of the same trials among them.

# %%
plot_run(trials)

# %%
print(front_table(trials))

# %% [markdown]
# The hypervolume is the area under the staircase, from 0 % up and down from the cost of the dense network. Compare it
# between runs of the same model only; higher is better.

# %%
print(f"hypervolume: {front_hypervolume(trials):.5g} % × GFLOPs")

# %% [markdown]
# ## Accuracy over the ramp
#
# All trials. While sparsity rises, accuracy is that of a network denser than the final one.

# %%
plot_ramp(epochs, trials)

# %% [markdown]
# ## Density of the layers
#
# Trials of the front only, in the order of the forward pass. A layer far above the others keeps more of its weights
# than the network does on average.

# %%
plot_layers(layers, front(trials))
