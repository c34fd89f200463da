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
# # Which settings matter, which act together, and what should be searched next?
#
# Any run: the folder named by the environment variable `ST3_RUN`, by default the CIFAR-10 sweep of
# `docs/results/early_stopping`, 64 random trials. A setting *matters* if it explains more than shuffled copies of all
# settings do; *cannot be told* says that these trials do not show an effect, and not that there is none.

# %%
# %matplotlib inline
from st3sweep.analysis.forests import fit_forests
from st3sweep.analysis.importance import importance, interactions
from st3sweep.analysis.importance_plots import plot_importance, plot_interactions, plot_slices
from st3sweep.analysis.slices import advice, slices
from st3sweep.analysis.tables import load_trials, objectives_of, run_folder

run = run_folder(default="early_stopping/cifar10")
trials = load_trials(run)
fits = fit_forests(trials, objectives_of(run))
found = importance(fits)
print(found[["of", "setting", "importance", "above_noise", "r2", "verdict"]].round(2).to_string(index=False))

# %% [markdown]
# ## Importance
#
# For each objective, and for accuracy at equal cost: what remains once the usual accuracy at a trial's GFLOPs is taken
# off. That is what a search over one setting can gain; the target sparsity only moves a model along the front.

# %%
plot_importance(found)

# %% [markdown]
# ## Interactions

# %%
plot_interactions(interactions(fits), pairs=4)

# %% [markdown]
# ## Along each setting

# %%
plot_slices(slices(fits))

# %% [markdown]
# ## What to search next

# %%
print(advice(fits).to_string(index=False))
