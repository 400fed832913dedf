"""Checks of a model against its config, without its weights and with them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from makebreak.errors import InvalidInput, name_errors

_REMEDY = "expected weights that belong to the config; download the model again, or correct config.json"
_MAX_NAMES = 3  # tensors that an error names
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")
_N_PROBE = 4
"""Tokens of the pass that shows whether a model computes finite numbers."""
_ROUNDINGS = 16
"""Largest change of a logit by a later token, in units of the rounding error of the largest logit."""
_OTHER_TYPE = "try --dtype bfloat16 or float32, or correct its config.json"


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


def check_loaded(name: str, report: Mapping[str, Any], model: PreTrainedModel) -> None:
    """Checks that transformers found every tensor of a model, in its shape, and leaves out none of its parts.

    Args:
        name: Name of the model in errors.
        report: Its `loading_info`.
        model: The model.

    Raises:
        InvalidInput: If a tensor is missing, would be initialised at random, belongs to a layer that the
            config does not have, or to a part that has no place for it, such as the bias of a matrix without
            one. Tensors of parts that the model lacks, such as the image encoder of a multimodal model, are
            left out.
    """
    config, unused = model.config, report["unexpected_keys"]
    missing = sorted(report["missing_keys"])
    shapes = sorted(f"{key}: {tuple(of)}, not {tuple(to)}" for key, of, to in report["mismatched_keys"])
    extra = sorted(set(_extra_layers(unused, config)))
    parts = sorted(key for key in unused if _is_of_a_part(key, model) and key not in extra)
    for tensors, problem in (
        (missing, "lack tensors that its config implies"),
        (shapes, "have other shapes than its config implies"),
        (extra, "have layers beyond those of its config"),
        (parts, "hold tensors for which its parts have no place"),
    ):
        if tensors:
            rest = len(tensors) - _MAX_NAMES
            names = ", ".join(tensors[:_MAX_NAMES]) + (f" and {rest} more" if rest > 0 else "")
            raise InvalidInput(f"{name}: its weights {problem} ({names}); {_REMEDY}")
    if report.get("error_msgs"):
        raise InvalidInput(f"{name}: its weights cannot be loaded ({report['error_msgs'][0]}); {_REMEDY}")


def _extra_layers(names: Any, config: Any) -> Iterator[str]:
    """Names of tensors of layers that the config does not count."""
    n_layers = getattr(config, "num_hidden_layers", None)
    for name in names:
        match = _LAYER.search(name)
        if match and isinstance(n_layers, int) and int(match[1]) >= n_layers:
            yield name


def _is_of_a_part(key: str, model: PreTrainedModel) -> bool:
    """Whether a tensor belongs to a part of a model that has parameters of its own, and no other parts."""
    part: Any = model
    for word in key.split(".")[:-1]:
        part = dict(part.named_children()).get(word)
        if part is None:
            return False
        if not any(True for _ in part.children()):
            return any(True for _ in part.parameters(recurse=False))
    return False


def check_in_memory(name: str, model: PreTrainedModel) -> None:
    """Checks that the weights of a model are in the memory of its devices.

    Args:
        name: Name of the model in errors.
        model: The model as it was loaded.

    Raises:
        InvalidInput: If a weight was left on the disk or in another memory, from where it comes for the
            passes of its module only.
    """
    absent = [weight for weight, parameter in model.named_parameters() if parameter.is_meta]
    if absent:
        raise InvalidInput(
            f"{name}: {len(absent)} weights do not fit on the accelerators ({absent[0]}): expected all of "
            "them there, since measures read weights; choose --dtype bfloat16, or --device cpu"
        )


def check_finite(name: str, model: PreTrainedModel) -> None:
    """Checks that weights and logits are finite, and that logits do not depend on later tokens.

    Args:
        name: Name of the model in errors.
        model: The model, on its device.

    Raises:
        InvalidInput: If a weight is NaN or infinite, the model cannot compute the logits of a few tokens,
            these are not finite, or they depend on later tokens.
    """
    for weight, parameter in model.named_parameters():
        if not _is_finite(parameter.detach()):
            raise InvalidInput(
                f"{name}: {weight} holds NaN or infinity: expected finite weights; download the model again, "
                "or choose another --dtype"
            )
    states: Sequence[torch.Tensor] | None = None
    n_tokens = min(_N_PROBE, int(getattr(model.config, "max_position_embeddings", _N_PROBE)))
    with name_errors(name, "it cannot compute logits", _REMEDY), torch.no_grad():
        tokens = torch.zeros(2, n_tokens, dtype=torch.int64, device=model.device)
        tokens[1, -1] = 1
        logits = model(input_ids=tokens, use_cache=False).logits.float()
        if not _is_finite(logits):
            states = model(input_ids=tokens, use_cache=False, output_hidden_states=True).hidden_states
    if not _is_finite(logits):
        raise InvalidInput(f"{name}: {_not_finite(states)}: expected finite numbers; {_OTHER_TYPE}")
    by_later_tokens = (logits[0, :-1] - logits[1, :-1]).abs().max()
    if by_later_tokens > _ROUNDINGS * torch.finfo(model.dtype).eps * logits.abs().max():
        raise InvalidInput(
            f"{name}: its logits depend on later tokens: expected a causal language model, whose tokens "
            "attend to earlier ones only"
        )


def _not_finite(states: Sequence[torch.Tensor] | None) -> str:
    """Which states of the residual stream, before the first block and after each, are not finite."""
    layer = next((layer for layer, state in enumerate(states or ()) if not _is_finite(state)), None)
    if layer is None or states is None:
        return "its logits are NaN or infinite"
    kind = str(states[layer].dtype).removeprefix("torch.")
    return f"its states are NaN or infinite from layer {layer} on, in {kind}"


def _is_finite(tensor: torch.Tensor) -> bool:
    """Whether a tensor of floating-point numbers is finite; True for packed weights and for absent ones."""
    if tensor.is_meta or not tensor.numel() or not tensor.is_floating_point() or tensor.element_size() < 2:
        return True
    return bool(torch.stack(torch.aminmax(tensor)).isfinite().all())  # NaN goes through the extremes
