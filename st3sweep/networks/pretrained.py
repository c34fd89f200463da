"""Load trained weights into a model before training: ``model.weights`` of a trial."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from st3sweep.networks.weight_file import read_safetensors
from st3sweep.trial.model import ModelConfig
from st3sweep.util.errors import UserError


def load_pretrained(model: nn.Module, config: ModelConfig) -> None:
    """Copy the weights that ``config.weights`` names into ``model``; does nothing where it names none.

    The file is one of safetensors, or a state_dict saved by torch, also one exported by st3sweep, packed or not. With
    ``classifier: new`` the classifier, the last linear layer, keeps its random weights. Runs no code from the file.
    Raises UserError for a file that cannot be read, or whose names or shapes are not the model's.
    """
    if config.weights is None:
        return
    state, expected = _state_dict(config), model.state_dict()
    if config.classifier == "new":
        left_out = _classifier(model, config)
        state = {name: tensor for name, tensor in state.items() if name not in left_out}
        expected = {name: tensor for name, tensor in expected.items() if name not in left_out}
    if message := _difference(state, expected):
        raise UserError(f"model.weights: {config.weights}: {message}")
    model.load_state_dict(state, strict=False)


def _state_dict(config: ModelConfig) -> dict[str, Tensor]:
    assert config.weights is not None
    if config.weights_by_name:
        return config.named_weights(config.weights)
    path = Path(config.weights)
    try:
        if path.suffix in (".safetensors", ".zst"):
            return read_safetensors(path.read_bytes())[0]
        saved: Any = torch.load(path, map_location="cpu", weights_only=True)
    except UserError as error:  # the package that reads it is absent
        raise UserError(f"model.weights: {error}") from None
    except OSError as error:
        raise UserError(f"model.weights: {path}: cannot be read ({error.strerror or error})") from None
    except Exception as error:  # readers raise exceptions of any type for broken bytes
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(f"model.weights: {path}: no file of tensors ({reason})") from None
    state = saved.get("state_dict", saved) if isinstance(saved, dict) else None
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise UserError(f"model.weights: {path}: holds no state_dict")
    return state


def _classifier(model: nn.Module, config: ModelConfig) -> set[str]:
    """Return the names of the classifier's tensors."""
    classifier = config.classifier_of(model)
    if classifier is None:
        raise UserError(f"model.classifier: new needs a linear layer, which {config.label} has not")
    [name] = [name for name, module in model.named_modules() if module is classifier]
    return {f"{name}.{tensor}" for tensor in classifier.state_dict()}


def _difference(state: dict[str, Tensor], expected: dict[str, Tensor]) -> str:
    """Say in one line how the two differ in names or shapes; empty if they do not."""
    batches = {name for name in expected if name.endswith("num_batches_tracked")}  # which old files lack
    if missing := sorted(expected.keys() - state.keys() - batches):
        return f"has no {missing[0]}" + (f", nor {len(missing) - 1} more of the model" if missing[1:] else "")
    if further := sorted(state.keys() - expected.keys()):
        return f"has {further[0]}, which the model has not" + (f"; and {len(further) - 1} more" if further[1:] else "")
    for name, tensor in expected.items():  # in the model's order: files have theirs
        if name in state and state[name].shape != tensor.shape:
            hint = "; classifier: new leaves the last layer out" if state[name].shape[1:] == tensor.shape[1:] else ""
            return f"{name} is {tuple(state[name].shape)}, the model's is {tuple(tensor.shape)}{hint}"
    return ""
