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
# # Which trials are the best for their cost, and how sure is that?
#
# Any run: the folder named by the environment variable `ST3_RUN`, by default `docs/results/methods`, a comparison of
# all methods with three seeds each. All computations and figures are functions of `st3sweep.analysis`.

# %%
# %matplotlib inline
from st3sweep.analysis.fronts import front, front_hypervolume
from st3sweep.analysis.plots import plot_run
from st3sweep.analysis.selection import plot_selection
from st3sweep.analysis.tables import front_table, load_epochs, load_layers, load_trials, run_folder
from st3sweep.analysis.trial_plots import plot_layers, plot_ramp

run = run_folder(default="methods")
trials, epochs, layers = load_trials(run), load_epochs(run), load_layers(run)
print(f"{run.name}: {len(trials)} trials")

# %% [markdown]
# ## The front
#
# A trial is on the front if no other one is at least as accurate on the validation set and at least as cheap, and
# better in one of the two. If results for this model and dataset have been published, a second panel compares the test
# accuracies of the trials with them.

# %%
plot_run(trials)

# %%
print(front_table(trials))

# %% [markdown]
# The hypervolume is the area under the staircase, from 0 % accuracy up to the front and from the cost of the dense
# model down. Compare it only between runs of the same model; higher is better.

# %%
print(f"hypervolume: {front_hypervolume(trials):.5g} % × GFLOPs")

# %% [markdown]
# ## What selecting the front adds
#
# The front selects the best of many noisy validation accuracies, so its members look better than they are. Test
# accuracy has no part in the selection.

# %%
plot_selection(trials)

# %% [markdown]
# ## Accuracy over the ramp
#
# All trials. During the ramp, accuracy is that of a model denser than the final one.

# %%
plot_ramp(epochs, trials)

# %% [markdown]
# ## Density of the layers
#
# Trials of the front only, layers in the order of the forward pass. A layer far above the others keeps more of its
# weights than the model does on average.

# %%
plot_layers(layers, front(trials))
