"""A run resumes with the space that it started with; --extend lets it spend more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from st3sweep import cli
from st3sweep.runs.ledger import Ledger
from st3sweep.space.changes import check_unchanged, differences
from st3sweep.space.space import Space
from st3sweep.util.errors import UserError

BEGUN: dict[str, Any] = {
    "trial": {"model": {"arch": "cifar_resnet", "depth": 8}, "train": {"epochs": 4}},
    "search": {"optim.lr": {"choice": [0.1, 0.2]}},
    "budget": {"trials": 4},
}


def changed(**parts: Any) -> dict[str, Any]:
    return {**BEGUN, **parts}


def test_every_field_that_differs_is_found() -> None:
    now = changed(trial={"model": {"arch": "cifar_resnet"}, "train": {"epochs": 8}}, resources={"slots": 2})
    assert list(differences(BEGUN, now)) == [
        ("trial.model.depth", 8, None), ("trial.train.epochs", 4, 8), ("resources", None, {"slots": 2}),
    ]  # fmt: skip
    assert list(differences(BEGUN, changed())) == []


def test_more_may_be_spent_with_extend() -> None:
    check_unchanged(BEGUN, changed(), extend=False)
    more = changed(budget={"trials": 8}, replicates={"seeds": 3}, resources={"slots": 2})
    check_unchanged(BEGUN, more, extend=True)
    with pytest.raises(UserError) as refused:
        check_unchanged(BEGUN, changed(budget={"trials": 8}), extend=False)
    assert str(refused.value).splitlines() == [
        "the space has changed since the run started:", "  budget.trials: 4 → 8", "to resume with these, add --extend",
    ]  # fmt: skip


@pytest.mark.parametrize("extend", [False, True])
def test_another_study_is_refused(extend: bool) -> None:
    other = changed(search={"optim.lr": {"choice": [0.1, 0.3]}}, budget={"trials": 8})
    with pytest.raises(UserError, match=r"search\.optim\.lr\.choice: \[0\.1, 0\.2\] → \[0\.1, 0\.3\]"):
        check_unchanged(BEGUN, other, extend=extend)


SPACE = """\
schema: st3sweep/v1
name: small
trial:
  model: {arch: cifar_resnet, depth: 8, width: 4}
  data: {dataset: digits, image_size: 8}
  train: {epochs: 2, batch_size: 64}
  sparsity: {method: st3, target: 0.8}
search:
  optim.lr: {float: [0.1, 0.2]}
searcher: {sampler: random}
budget: {trials: 4}
"""


def test_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "resolved.yaml").write_text(SPACE)
    ledger = Ledger(tmp_path)
    ledger.add_session(yaml.safe_load(SPACE))
    ledger.close()
    resumed_with: list[Any] = []

    def instead(space: Space, *_: Any, **__: Any) -> int:
        resumed_with.append(space.config.budget.trials)
        return 0

    monkeypatch.setattr("st3sweep.commands.resume.run_to_the_end", instead)
    resume: Callable[..., tuple[Any, str]] = lambda *words: said(monkeypatch, capsys, "resume", str(tmp_path), *words)  # noqa: E731
    assert resume() == (0, "")
    assert resume("--set", "budget.trials=9")[0] == 2
    code, error = resume("--set", "train.epochs=3", "--extend")
    assert code == 2
    assert "  trial.train.epochs: 2 → 3\n" in error
    assert resume("--set", "budget.trials=9", "--extend") == (0, "")
    assert resumed_with == [4, 9]


def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[Any, str]:
    monkeypatch.setattr("sys.argv", ["st3sweep", *words])
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code or 0, capsys.readouterr().err
