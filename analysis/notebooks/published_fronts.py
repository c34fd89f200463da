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
# # Which method has the most accurate model at each sparsity, and at each cost?
#
# The two questions have different answers: at one sparsity, methods that keep more weights in the early layers, whose
# outputs are large, cost more. The figures are those of the ST-3 paper's appendix (Tables 1 and 2), with newer
# published points, from the data of the package.
#
# Published points are single values: their spread over seeds was not published.

# %%
# %matplotlib inline
from st3sweep.analysis.fronts import front
from st3sweep.analysis.published_plots import plot_published
from st3sweep.analysis.tables import published

points = published()
print(points.groupby(["model", "dataset"]).size().to_string())

# %% [markdown]
# ## ResNet-50 on ImageNet

# %%
plot_published(published("resnet50", "imagenet"))

# %% [markdown]
# ## MobileNetV1 on ImageNet

# %%
plot_published(published("mobilenet_v1", "imagenet"))

# %% [markdown]
# ## Who is on the front of accuracy over cost?
#
# The points that no other published point beats in both. A point whose cost was not published cannot be placed.

# %%
OBJECTIVES = (("test_top1", "max"), ("gflops", "min"))
for model in ("resnet50", "mobilenet_v1"):
    on_front = front(published(model, "imagenet").assign(status="finished"), OBJECTIVES)
    print(model, on_front[["method", "sparsity", "test_top1", "gflops"]].to_string(index=False), sep="\n", end="\n\n")

# %% [markdown]
# ## Suspect points and points without a cost

# %%
odd = points[(points["remark"] != "") | points["gflops"].isna()]
print(odd[["model", "method", "sparsity", "test_top1", "gflops", "remark"]].to_string(index=False))
