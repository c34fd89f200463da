"""Show a run in Jupyter: the plot of its front and the table of its members, as HTML without scripts."""

from __future__ import annotations

import base64
import html
import io

import pandas as pd

from st3sweep.analysis.fronts import Objectives, finished, front
from st3sweep.analysis.plots import plot_run
from st3sweep.analysis.tables import front_table

_SHOWN = 20  # members of the front in the table


def run_html(name: str, trials: pd.DataFrame, objectives: Objectives) -> str:
    """Return the front of a run as an image and a table; where no trial has finished, what its trials are doing.

    Every name is text: a plugin's may hold anything.
    """
    head = f"<h4>{html.escape(name)}</h4>"
    if finished(trials).empty:
        counts = ", ".join(f"{number} {status}" for status, number in trials["status"].value_counts().items())
        return f"{head}<p>No trial has finished{f': {html.escape(counts)}' if counts else ''}.</p>"
    members = front(trials, objectives)
    head_line, *lines = front_table(trials, objectives).splitlines()
    more = f"\n… {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    table = html.escape("\n".join([head_line, *lines[:_SHOWN]]) + more)
    image = io.BytesIO()
    plot_run(trials, objectives).savefig(image, format="png", dpi=110, bbox_inches="tight")
    encoded = base64.b64encode(image.getvalue()).decode()
    says = html.escape(f"Pareto front of {name}: {len(members)} of {len(finished(trials))} finished trials")
    return f'{head}<img alt="{says}" style="max-width: 100%" src="data:image/png;base64,{encoded}"><pre>{table}</pre>'
