"""Checks of a model against its config, without its weights and with them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging

from makebreak.errors import InvalidInput, name_errors

_REMEDY = "expected weights that belong to the config; download the model again, or correct config.json"
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")
_N_PROBE = 4
"""Tokens of the pass that shows whether a model computes finite numbers."""


@contextmanager
def errors_only() -> Iterator[None]:
    """Silences bars and warnings of transformers: what it warns of stands in the errors of this project.

    Yields:
        Nothing.
    """
    verbosity, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if has_bars:
            logging.enable_progress_bar()


def n_parameters(config: Any) -> int:
    """Number of parameters of the model that a config describes, without creating it, tied ones once."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    return sum(parameter.numel() for parameter in model.parameters())


def attention_of(config: Any) -> str:
    """Chooses the implementation of attention of a model, and writes it into its config.

    What the config names is not considered: it may be code of the hub.

    Args:
        config: The config of a causal language model, which is changed.

    Returns:
        `sdpa` where the model's class has it, else `eager`.
    """
    kind = AutoModelForCausalLM._model_mapping[type(config)]
    config._attn_implementation = "sdpa" if getattr(kind, "_supports_sdpa", False) else "eager"
    return config._attn_implementation


def check_loaded(name: str, report: Mapping[str, Any], config: Any) -> None:
    """Checks that transformers found every tensor of a model, in its shape.

    Args:
        name: Name of the model in errors.
        report: Its `loading_info`.
        config: The config of the model.

    Raises:
        InvalidInput: If a tensor is missing, would be initialised at random, or belongs to a layer that the
            config does not have.
    """
    missing = sorted(report["missing_keys"])
    shapes = sorted(f"{key}: {tuple(of)}, not {tuple(to)}" for key, of, to in report["mismatched_keys"])
    extra = sorted(set(_extra_layers(report["unexpected_keys"], config)))
    for tensors, problem in (
        (missing, "lack tensors that its config implies"),
        (shapes, "have other shapes than its config implies"),
        (extra, "have layers beyond those of its config"),
    ):
        if tensors:
            more = f" and {len(tensors) - 1} more" if len(tensors) > 1 else ""
            raise InvalidInput(f"{name}: its weights {problem} ({tensors[0]}{more}); {_REMEDY}")
    if report.get("error_msgs"):
        raise InvalidInput(f"{name}: its weights cannot be loaded ({report['error_msgs'][0]}); {_REMEDY}")


def _extra_layers(names: Any, config: Any) -> Iterator[str]:
    """Names of tensors of layers that the config does not count."""
    n_layers = getattr(config, "num_hidden_layers", None)
    for name in names:
        match = _LAYER.search(name)
        if match and isinstance(n_layers, int) and int(match[1]) >= n_layers:
            yield name


def check_finite(name: str, model: PreTrainedModel) -> None:
    """Checks that weights and logits are finite.

    Args:
        name: Name of the model in errors.
        model: The model, on its device.

    Raises:
        InvalidInput: If a weight is NaN or infinite, the model cannot compute the logits of a few tokens, or
            these are not finite.
    """
    for weight, parameter in model.named_parameters():
        if not _is_finite(parameter.detach()):
            raise InvalidInput(
                f"{name}: {weight} holds NaN or infinity: expected finite weights; download the model again, "
                "or choose another --dtype"
            )
    n_tokens = min(_N_PROBE, int(getattr(model.config, "max_position_embeddings", _N_PROBE)))
    with name_errors(name, "it cannot compute logits", _REMEDY), torch.no_grad():
        tokens = torch.zeros(1, n_tokens, dtype=torch.int64, device=model.device)
        logits = model(input_ids=tokens, use_cache=False).logits
    if not _is_finite(logits):
        raise InvalidInput(
            f"{name}: its logits are NaN or infinite: expected finite numbers; correct its config.json, or "
            "choose another --dtype"
        )


def _is_finite(tensor: torch.Tensor) -> bool:
    """Whether a tensor of floating-point numbers is finite; True for packed weights and for absent ones."""
    if tensor.is_meta or not tensor.numel() or not tensor.is_floating_point() or tensor.element_size() < 2:
        return True
    return bool(torch.stack(torch.aminmax(tensor)).isfinite().all())  # NaN goes through the extremes
