"""Say in the plan what a device costs, where that price is from, and what the sweep costs at most."""

from __future__ import annotations

from collections.abc import Iterator

from st3sweep.space.resources import seconds
from st3sweep.space.space import Space


def price_facts(space: Space) -> Iterator[tuple[str, str]]:
    """Yield name and text of the plan's line, if the space has a price."""
    budget, resources = space.config.budget, space.config.resources
    price = budget.price_per_device_hour
    if price is None:
        return
    most = {"budget.money": budget.money}
    if budget.gpu_hours:
        most["budget.gpu_hours"] = budget.gpu_hours * price
    if budget.wall and resources.slots:
        most["budget.wall"] = seconds(budget.wall) / 3600 * resources.slots * resources.devices * price
    limits = {name: limit for name, limit in most.items() if limit is not None}
    origin = f" ({space.price.origin})" if space.price else ""
    text = f"{price:g} an hour of a {'GPU' if resources.gpus else 'CPU'}{origin}; "
    if limits:
        by = min(limits, key=limits.__getitem__)
        text += f"the devices of the sweep at most {limits[by]:,.2f}, by {by}"
    else:
        text += "no limit: set budget.money, budget.gpu_hours, or budget.wall with resources.slots"
    yield "cost", text
