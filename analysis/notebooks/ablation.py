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
# # Do soft thresholding and rescaling both help, and does the score matter?
#
# ST-3 thresholds weights softly and rescales what is left. The ablation trains all four combinations at 90 and 95 %
# sparsity, three seeds each, with L1 scores; the comparison of methods has LAMP scores for the full method. Data:
# `docs/results/ablation` and `docs/results/methods`, proxies on small images, described beside them.

# %%
# %matplotlib inline
from st3sweep.analysis.fronts import finished
from st3sweep.analysis.replicates import paired_difference, plot_replicates, replicates
from st3sweep.analysis.tables import committed_sweep, load_trials

trials = load_trials(committed_sweep("ablation"))
DIGITS = {"mean": 2, "standard_error": 2, "half_width": 2, "gflops": 6}
print(replicates(trials).round(DIGITS).to_string(index=False))

# %% [markdown]
# ## Soft × rescale

# %%
plot_replicates(trials)

# %% [markdown]
# Differences between variants of the same seed, with 95 % intervals: one whose interval spans 0 cannot be told.

# %%
for better, worse in (
    ("ST-3", "ST-3 no-rescale"),
    ("ST-3", "ST-3 no-soft no-rescale"),
    ("ST-3 no-soft no-rescale", "ST-3 no-soft"),
):
    print(f"{better} minus {worse}")
    print(paired_difference(trials, better, worse).round(2).to_string(index=False), end="\n\n")

# %% [markdown]
# ## L1 or LAMP scores
#
# With soft thresholding and rescaling. LAMP keeps more of the early layers: more accurate at one sparsity, and dearer.

# %%
scores = load_trials(committed_sweep("methods"))
scores = finished(scores[scores["method"].isin(["ST-3", "ST-3 LAMP", "ST-3σ"])])
print(replicates(scores).round(DIGITS).to_string(index=False))
print(paired_difference(scores, "ST-3 LAMP", "ST-3").round(2).to_string(index=False))

# %%
plot_replicates(scores)
