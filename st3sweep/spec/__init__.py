"""``TrialSpec``: everything that decides a trial's numbers, validated once, frozen, hashed to a digest.

Field names are those of a search space's ``trial`` part. Times are fractions of training, or ``{epochs: n}``.
Defaults that belong to a published recipe are in ``recipes.py``, not here.
"""

from __future__ import annotations

from st3sweep.spec.data import Cifar, DataSpec, Digits, ImageFolder, ImageParquet, ResizedCropAndFlip
from st3sweep.spec.fields import Epochs, Frozen, fail, fraction
from st3sweep.spec.model import ModelSpec
from st3sweep.spec.optim import StepSchedule
from st3sweep.spec.paths import all_paths, fields_at, member_models
from st3sweep.spec.sparsity import SparsitySpec
from st3sweep.spec.trial import TrialSpec

__all__ = [
    "Cifar",
    "DataSpec",
    "Digits",
    "Epochs",
    "Frozen",
    "ImageFolder",
    "ImageParquet",
    "ModelSpec",
    "ResizedCropAndFlip",
    "SparsitySpec",
    "StepSchedule",
    "TrialSpec",
    "all_paths",
    "fail",
    "fields_at",
    "fraction",
    "member_models",
]
