"""Many models of one architecture as one model, whose parameters have a leading axis of members.

The stack is a transformers model of the same class: only the modules that hold parameters are replaced. Its
batch is members x rows, so that one matrix product, one normalisation and one attention call serve all
members, and hooks and sites work as for one model.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import AttentionInterface, PreTrainedModel
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.pytorch_utils import Conv1D

_MOST_ROWS = 65_535
"""Rows of one attention call: CUDA launches no more blocks along that axis."""
_ATTENTION = "makebreak_causal"
"""Name of the attention of a stack, for which transformers makes no mask and waits for no value."""


def _causal_attention(
    _: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Causal attention of (rows, heads, pos, d_head), as an `AttentionInterface` function."""
    if query.shape != key.shape or attention_mask is not None:
        raise ValueError(
            "a stack of models takes whole sequences, without attention mask and key-value cache"
        )
    scale = options.get("scaling")
    if len(query) <= _MOST_ROWS:
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale)
        return attended.transpose(1, 2), None
    parts = [
        F.scaled_dot_product_attention(
            query[i : i + _MOST_ROWS],
            key[i : i + _MOST_ROWS],
            value[i : i + _MOST_ROWS],
            is_causal=True,
            scale=scale,
        )
        for i in range(0, len(query), _MOST_ROWS)
    ]
    return torch.cat(parts).transpose(1, 2), None


AttentionInterface.register(_ATTENTION, _causal_attention)


class _Stacked(nn.Module):
    """Parameters of one module of every member, with a leading axis of members."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        for name, parameter in modules[0].named_parameters(recurse=False):
            values = torch.stack([module.get_parameter(name).detach() for module in modules])
            self.register_parameter(name, nn.Parameter(values, parameter.requires_grad))
        self.size = len(modules)
        self.train(modules[0].training)

    def _value(self, name: str) -> Any:
        """A parameter, or None if the module has none of this name."""
        return getattr(self, name, None)

    def _by_member(self, rows: Tensor) -> Tensor:
        """(members x rows, pos, d) as (members, rows x pos, d)."""
        return rows.reshape(self.size, -1, rows.shape[-1])


class _StackedLinear(_Stacked):
    """`Linear` or, with weights stored as (d_in, d_out), `Conv1D`."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__(modules)
        self._is_transposed = isinstance(modules[0], Conv1D)

    def forward(self, x: Tensor) -> Tensor:
        weight = self._value("weight") if self._is_transposed else self._value("weight").mT
        inputs, bias = self._by_member(x), self._value("bias")
        outputs = torch.bmm(inputs, weight) if bias is None else torch.baddbmm(bias[:, None], inputs, weight)
        return outputs.reshape(*x.shape[:-1], -1)


class _StackedEmbedding(_Stacked):
    """`Embedding`."""

    def forward(self, ids: Tensor) -> Tensor:
        weight = self._value("weight")
        first = torch.arange(self.size, device=ids.device)[:, None] * weight.shape[1]
        rows = (ids.reshape(self.size, -1) + first).reshape(ids.shape)
        return F.embedding(rows, weight.flatten(0, 1))


class _StackedNorm(_Stacked):
    """`LayerNorm` or `LlamaRMSNorm`."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__(modules)
        norm: Any = modules[0]
        self._eps: float = norm.eps if isinstance(norm, nn.LayerNorm) else norm.variance_epsilon
        self._normalise = F.layer_norm if isinstance(norm, nn.LayerNorm) else F.rms_norm

    def forward(self, x: Tensor) -> Tensor:
        normal = self._by_member(self._normalise(x, x.shape[-1:], eps=self._eps))
        bias = self._value("bias")
        scaled = normal * self._value("weight")[:, None]
        return (scaled if bias is None else scaled + bias[:, None]).reshape(x.shape)


_STACKED: dict[type[nn.Module], type[_Stacked]] = {
    nn.Linear: _StackedLinear,
    Conv1D: _StackedLinear,
    nn.Embedding: _StackedEmbedding,
    nn.LayerNorm: _StackedNorm,
    LlamaRMSNorm: _StackedNorm,
}


def stack_models(models: Sequence[PreTrainedModel]) -> PreTrainedModel:
    """One model that computes what several models of one architecture compute, each on rows of its own.

    Row i of a batch belongs to member i // (rows / members): `member_rows` orders tokens so. Low-rank
    adapters are stacked as well.

    Args:
        models: Models of one class, config and device, which are not changed.

    Returns:
        A model of the same class; every parameter has the name that it has in one model and a leading axis of
        members. It has no key-value cache and takes no attention mask.

    Raises:
        ValueError: If the parameters differ in name or shape, are tied, or belong to a module that has no
            stacked form.
    """
    shapes = [{name: tuple(p.shape) for name, p in model.named_parameters()} for model in models]
    different = next((i for i, shape in enumerate(shapes) if shape != shapes[0]), None)
    if different is not None:
        raise ValueError(
            f"model {different} has other parameters than model 0: only equal shapes are stacked"
        )
    if len(list(models[0].named_parameters(remove_duplicate=False))) != len(shapes[0]):
        raise ValueError(f"{type(models[0]).__name__} has tied parameters: expected none")
    stacked = copy.deepcopy(models[0])
    for name, module in list(stacked.named_modules()):
        if next(module.parameters(recurse=False), None) is None:
            continue
        if ".parametrizations" in name:
            continue  # with the module whose parameter it is
        members = [model.get_submodule(name) for model in models]
        kind = type(module).__mro__[1] if parametrize.is_parametrized(module) else type(module)
        if kind not in _STACKED:
            raise ValueError(f"{name} is a {kind.__name__}, which has no stacked form")
        stacked.set_submodule(name, _stack_parametrized(members, kind))
    stacked.config._attn_implementation = _ATTENTION  # that of the copied config alone
    stacked.stack_size = len(models)  # pyright: ignore[reportArgumentType]
    stacked.base_model.register_forward_pre_hook(_add_position_ids, with_kwargs=True)
    return stacked


def _stack_parametrized(modules: list[nn.Module], kind: type[nn.Module]) -> nn.Module:
    """The stacked form of modules, parametrised as they are; buffers of parametrisations are stacked."""
    if not parametrize.is_parametrized(modules[0]):
        return _STACKED[kind](modules)
    lists: list[Any] = [module.parametrizations for module in modules]
    stacked = _STACKED[kind]([_unparametrized(module, kind) for module in modules])
    for name in lists[0]:
        if len(lists[0][name]) > 1:
            raise ValueError(
                f"{kind.__name__}.{name} has {len(lists[0][name])} parametrisations: expected one"
            )
        parametrization = copy.deepcopy(lists[0][name][0])
        for buffer, _ in list(parametrization.named_buffers()):
            values = [parametrizations[name][0].get_buffer(buffer) for parametrizations in lists]
            parametrization.register_buffer(buffer, torch.stack(values))
        parametrize.register_parametrization(stacked, name, parametrization, unsafe=True)
        originals = [parametrizations[name].original.detach() for parametrizations in lists]
        requires_grad = lists[0][name].original.requires_grad
        stacked.parametrizations[name].original = nn.Parameter(torch.stack(originals), requires_grad)  # type: ignore[index]
    return stacked


def _unparametrized(module: nn.Module, kind: type[nn.Module]) -> nn.Module:
    """A module with the current values of another's parameters; its class is that without parametrisations.

    Removing them from a copy would remove them from the original, whose class the copy shares.
    """
    plain = kind.__new__(kind)
    nn.Module.__init__(plain)
    lists: Any = module.parametrizations
    for name in (*lists, *(name for name, _ in module.named_parameters(recurse=False))):
        value = getattr(module, name)
        plain.register_parameter(
            name, nn.Parameter(value.detach(), name not in lists and value.requires_grad)
        )
    return plain.train(module.training)


def _add_position_ids(_: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """Gives every row position ids of its own: embeddings of positions differ between members.

    Raises ValueError for an attention mask or a cache, which the attention of a stack would ignore.
    """
    for name in ("attention_mask", "past_key_values"):
        if kwargs.get(name) is not None:
            raise ValueError(f"{name}: a stack of models takes whole sequences, padded on the right alone")
    inputs = args[0] if args else kwargs.get("input_ids")
    inputs = kwargs["inputs_embeds"] if inputs is None else inputs
    if kwargs.get("position_ids") is None:
        positions = torch.arange(inputs.shape[1], device=inputs.device)
        kwargs = kwargs | {"position_ids": positions.expand(inputs.shape[:2])}
    return args, kwargs


def stack_size(model: nn.Module) -> int | None:
    """Number of members of a stack; None for a single model."""
    return getattr(model, "stack_size", None)


def member_rows(model: nn.Module, values: Shaped[Tensor, " batch *more"]) -> Shaped[Tensor, " rows *rest"]:
    """Rows of a forward pass: values by request as they are, or those of a stack member by member.

    Args:
        model: A single model or a stack.
        values: Tokens or states by request; for a stack, the second axis is that of the members.

    Returns:
        The same values; for a stack (members x batch, ...).
    """
    return values if stack_size(model) is None else values.transpose(0, 1).flatten(0, 1)


def by_request(model: nn.Module, rows: Shaped[Tensor, " rows *rest"]) -> Shaped[Tensor, " batch *more"]:
    """Results of a forward pass with requests first, then members, where the model is a stack.

    The inverse of `member_rows`.
    """
    size = stack_size(model)
    return rows if size is None else rows.unflatten(0, (size, -1)).transpose(0, 1)


def member_weights(stack: PreTrainedModel, member: int) -> Mapping[str, Tensor]:
    """Parameters of one member of a stack by name, views of those of the stack."""
    return {name: parameter.detach()[member] for name, parameter in stack.named_parameters()}
