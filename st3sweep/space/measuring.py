"""The setting ``measure``: what a sweep measures of the models that it has trained, on the machine that runs it."""

from __future__ import annotations

from st3sweep.trial.fields import Frozen

LATENCY, SIZE = "latency_ms", "size_mb"  # columns, and objectives, that are not a result of training


class MeasureConfig(Frozen):
    """What to measure of finished trials. An objective ``latency_ms`` or ``size_mb`` switches its own on.

    ``latency``: time of an image in the sparse runtime, one thread, batch 1; predicted when a trial ends, measured when
    all have ended. ``size``: of the packed file, when a trial ends.
    """

    latency: bool = False
    size: bool = False
