"""Test that a run takes its price from a table once, and the messages for a wrong table."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_plan import facts
from wrong_specs import RIGHT

from st3sweep.commands.plan import plan_text
from st3sweep.runs.folder import RESOLVED, new_run
from st3sweep.space.loading import load_space, load_stored_space
from st3sweep.space.prices import COLUMNS, Price, price_of
from st3sweep.space.space import Space
from st3sweep.util.errors import SpecError, UserError

SHIPPED = Path(__file__).parents[2] / "docs" / "clusters" / "prices.csv"
TABLE = """\
# mine
accelerator,spot,on_demand,currency,region,date
A10G,0.6,1.5,EUR,north,2026-11-01
L4,,1.25,EUR,north,2026-11-01
CPU,,0.05,EUR,north,2026-11-01
"""


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prices.csv").write_text(TABLE)
    return tmp_path / "prices.csv"


def space(budget: str, resources: str = "", **overrides: str) -> Space:
    """Return the valid space of ``wrong_specs`` with this budget and these resources."""
    text = RIGHT.replace("{trials: 8}", f"{{trials: 8, {budget}}}").replace("cpus_per_worker: 1", "cpus_per_worker: 2")
    file = Path("space.yaml")
    file.write_text(text.replace("cpus_per_worker: 2", f"cpus_per_worker: 2{resources}"))
    return load_space(file, overrides)


GPU = ", gpus_per_worker: 1, accelerator: {}, slots: 4"


@pytest.mark.parametrize(
    ("budget", "resources", "price", "cost"),
    [
        (
            "wall: 72h, prices: prices.csv, market: spot", GPU.format("A10G"), 0.6,
            "0.6 an hour of a GPU (A10G, spot, EUR, north, 2026-11-01; prices.csv:3); the devices of the sweep at most"
            " 172.80, by budget.wall",  # 72 × 4 × 0.6
        ),
        (
            "gpu_hours: 10, money: 20, prices: prices.csv", GPU.format("L4"), 1.25,
            "1.25 an hour of a GPU (L4, on demand, EUR, north, 2026-11-01; prices.csv:4); the devices of the sweep at"
            " most 12.50, by budget.gpu_hours",
        ),
        (
            "wall: 3h, prices: prices.csv", "", 0.05,
            "0.05 an hour of a CPU (CPU, on demand, EUR, north, 2026-11-01; prices.csv:5); no limit: set budget.money,"
            " budget.gpu_hours, or budget.wall with resources.slots",
        ),
        (
            "money: 7, price_per_device_hour: 2", ", slots: 3", 2.0,
            "2 an hour of a CPU; the devices of the sweep at most 7.00, by budget.money",
        ),
    ],
)  # fmt: skip
def test_the_plan_says_price_origin_and_limit(
    table: Path, budget: str, resources: str, price: float, cost: str
) -> None:
    found = space(budget, resources)
    assert found.config.budget.price_per_device_hour == price
    assert facts(plan_text(found, None))["cost"] == cost


def test_a_run_keeps_its_price_whatever_becomes_of_the_table(table: Path) -> None:
    """Its trials are those of a space without a price, too: a price is no part of a trial."""
    found = space("prices: prices.csv, market: spot", GPU.format("A10G"))
    folder = new_run("run", found.document.data, found.document.text, Path("runs"), None)
    assert "prices: prices.csv" in (folder / "space.yaml").read_text()
    table.unlink()
    stored = load_stored_space(folder / RESOLVED).config.budget
    assert stored == load_space(folder / RESOLVED).config.budget == found.config.budget
    assert stored.model_dump(exclude_none=True) == {"trials": 8, "price_per_device_hour": 0.6}
    point = {"sparsity.target": 0.9, "optim.lr": 0.1}
    without = space("price_per_device_hour: 3", GPU.format("A10G"))
    assert found.trial_for(point).digest() == without.trial_for(point).digest()
    table.write_text(TABLE.replace("0.6", "0.7"))
    changed = {"budget.prices": "prices.csv", "budget.market": "spot", "budget.price_per_device_hour": "null"}
    assert load_space(folder / RESOLVED, changed).config.budget.price_per_device_hour == 0.7


@pytest.mark.parametrize(
    ("budget", "resources", "message"),
    [
        ("prices: none.csv", GPU.format("A10G"), "budget.prices: {folder}/none.csv: No such file or directory"),
        (
            "prices: prices.csv", GPU.format("A10"),
            "budget.prices: {folder}/prices.csv: no row for A10; did you mean A10G?; it has: A10G, L4, CPU",
        ),
        (
            "prices: prices.csv", ", gpus_per_worker: 1",
            "budget.prices: needs resources.accelerator: the kind of GPU whose price it is",
        ),
        (
            "prices: prices.csv, price_per_device_hour: 2", "",
            "budget.prices: budget.price_per_device_hour is given too; set one of them to null",
        ),
        ("market: spot", "", "budget.market: has no effect: budget.prices is not set"),
    ],
)  # fmt: skip
def test_a_space_that_takes_no_price_names_its_line(table: Path, budget: str, resources: str, message: str) -> None:
    with pytest.raises(SpecError) as error:
        space(budget, resources)
    line = next(n for n, text in enumerate(Path("space.yaml").read_text().splitlines(), 1) if text.startswith("budget"))
    where, _, said = str(error.value).partition(": ")
    assert (where.split(":")[:2], said) == (["space.yaml", str(line)], message.format(folder=table.parent))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("date\n", "day\n", ":2: must be the columns {columns} (got accelerator,spot,on_demand,currency,region,day)"),
        ("1.5,EUR", "1,5,EUR", ":3: must have 6 cells (got 7)"),
        ("0.6", "0", ":3: spot: must be a number above 0, or empty (got '0')"),
        ("1.5", "nan", ":3: on_demand: must be a number above 0, or empty (got 'nan')"),
        ("0.6", "$0.6", ":3: spot: must be a number above 0, or empty (got '$0.6')"),
        ("0.6,1.5,EUR", "0.6,1.5,", ":3: currency: is empty; allowed: any text"),
        ("L4", "A10G", ":4: accelerator: A10G is given already, in line 3"),
        ("0.6", "", ":3: spot: is empty: A10G has no such price"),
    ],
)
def test_a_wrong_table_is_one_line(table: Path, old: str, new: str, message: str) -> None:
    assert TABLE.count(old) >= 1
    table.write_text(TABLE.replace(old, new, 1))
    with pytest.raises(SpecError) as error:
        price_of(table, "A10G", "spot")
    assert str(error.value) == f"{table}{message.format(columns=','.join(COLUMNS))}"


def test_a_file_that_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "prices.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"prices\.csv: not a CSV file in UTF-8$"):
        price_of(tmp_path / "prices.csv", "A10G", "spot")


def test_the_shipped_table_says_that_its_prices_are_examples() -> None:
    line = next(n for n, text in enumerate(SHIPPED.read_text().splitlines(), 1) if text.startswith("A10G,"))
    assert price_of(SHIPPED, "A10G", "spot") == Price(
        0.6, f"A10G, spot, USD, example, never looked up; prices.csv:{line}"
    )
    assert "EXAMPLES" in SHIPPED.read_text()


def test_the_plan_in_the_documentation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    page = (SHIPPED.parents[1] / "clusters.md").read_text()
    budget = "money: 300, prices: docs/clusters/prices.csv, market: spot"
    assert f"budget: {{{budget}}}\nresources: {{gpus_per_worker: 1, accelerator: A10G, slots: 8}}\n" in page
    found = space(budget.replace("docs", str(SHIPPED.parents[1])), ", gpus_per_worker: 1, accelerator: A10G, slots: 8")
    cost = plan_text(found, None).partition("\ncost ")[2].partition("\nresources ")[0]
    assert f"\ncost {cost}\n```" in page
