"""The check that a model computes as its architecture says, by one forward pass over a few tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from makebreak.architectures.base import Architecture

_N_TOKENS = 6
_TOLERANCE = 1e-4
"""Largest error of a sum or a product in float32, relative to the sum of the sizes of its terms."""
_ROUNDINGS = 16
"""The same in less precise types, in units of their rounding error."""


def forward_problems(model: PreTrainedModel, architecture: Architecture) -> Iterator[str]:
    """Everything by which a forward pass differs from what an architecture says.

    Each site is reached once; the states after a block are those before it and what attention and MLP add;
    matrices give the activations that follow from those before them. Random numbers are not drawn.

    Args:
        model: The model, built as the architecture says.
        architecture: Its architecture.

    Yields:
        What does not fit, by layer, in one line each. Nothing for a model of which a weight is absent, such
        as on the device `meta`, or packed, such as a quantised one.
    """
    if any(p.is_meta or not p.is_floating_point() or p.element_size() < 2 for p in model.parameters()):
        return
    recorded = _Recorder(model, architecture)
    recorded.run()
    for layer in range(int(model.config.num_hidden_layers)):
        yield from recorded.problems(layer)


class _Recorder:
    """Activations of all sites in one forward pass, and how often each was reached."""

    def __init__(self, model: PreTrainedModel, architecture: Architecture) -> None:
        self.model, self.architecture = model, architecture
        self.counts: Counter[str] = Counter()
        self.states: dict[str, Tensor] = {}
        self.returns_tuple: dict[int, bool] = {}

    def run(self) -> None:
        """Runs the pass in evaluation mode, without gradients, and removes all hooks."""
        config = self.model.config
        n_tokens = min(_N_TOKENS, int(getattr(config, "max_position_embeddings", _N_TOKENS)))
        n_rows = len(self.model.get_input_embeddings().get_parameter("weight"))
        tokens = (torch.arange(n_tokens, device=self.model.device) * 7 + 1)[None] % n_rows
        handles = []
        try:
            for layer in range(int(config.num_hidden_layers)):
                block = self.model.get_submodule(self.architecture.path(layer, ""))
                handles.append(block.register_forward_hook(partial(self._note_type, layer)))
                for site, (path, side) in self.architecture.sites.items():
                    module = self.model.get_submodule(self.architecture.path(layer, path))
                    note = partial(self._note, f"blocks.{layer}.{site}", n_tokens)
                    if side == "input":
                        hook = partial(_input, note)
                        handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))
                    else:
                        handles.append(module.register_forward_hook(partial(_output, note)))
            with _evaluation_mode(self.model), torch.no_grad():
                self.model(input_ids=tokens, use_cache=False)
        finally:
            for handle in handles:
                handle.remove()

    def _note_type(self, layer: int, _: nn.Module, __: Any, output: Any) -> None:
        self.returns_tuple[layer] = isinstance(output, tuple)

    def _note(self, name: str, n_tokens: int, value: Any) -> None:
        self.counts[name] += 1
        if isinstance(value, Tensor) and value.numel() and value.numel() % n_tokens == 0:
            scale = self.architecture.site_scale(name.split(".", 2)[2], self.model.config)
            self.states[name] = value.detach().reshape(n_tokens, -1).float().clone() * scale

    def problems(self, layer: int) -> Iterator[str]:
        """What does not fit in one block; of sites that are not reached once, only that."""
        names = [f"blocks.{layer}.{site}" for site in self.architecture.sites]
        wrong = [name for name in names if self.counts[name] != 1 or name not in self.states]
        for name in wrong:
            times = self.counts[name]
            yield (
                f"site {name} is reached {times} times in a forward pass, expected once"
                if times != 1
                else f"site {name} gives no states of the {_N_TOKENS} tokens"
            )
        if wrong:
            return
        if self.returns_tuple[layer] != self.architecture.returns_tuples:
            kind = "a tuple" if self.returns_tuple[layer] else "a tensor"
            yield f"block {layer} returns {kind}: expected returns_tuples={self.returns_tuple[layer]}"
        block = {name: self.states[name] for name in names}
        yield from self._wrong_sums(layer, block)
        yield from self._wrong_products(layer, block)

    def _wrong_sums(self, layer: int, states: Mapping[str, Tensor]) -> Iterator[str]:
        """States of the residual stream that are not the sum of what was added."""
        first = "ln1.hook_normalized" if self.architecture.overwrites_stream else "hook_resid_pre"
        terms = (first, "hook_attn_out", "hook_mlp_out")
        for site, n_terms in (("hook_resid_mid", 2), ("hook_resid_post", 3)):
            names = [f"blocks.{layer}.{name}" for name in (*terms[:n_terms], site)]
            if any(name not in states for name in names):
                continue
            *parts, total = (states[name] for name in names)
            if len({part.shape for part in (*parts, total)}) > 1:
                widths = ", ".join(f"{name} {states[name].shape[1]}" for name in names)
                yield f"sites of the residual stream differ in width: {widths}"
                continue
            if not self._is_close(sum(parts), total, [*parts, total]):
                yield f"{names[-1]} is not the sum of {' and '.join(names[:-1])}"
        earlier, after = f"blocks.{layer - 1}.hook_resid_post", f"blocks.{layer}.hook_resid_pre"
        if earlier in self.states and after in states:
            pair = self.states[earlier], states[after]
            if not self._is_close(*pair, list(pair)):
                yield f"{after} is not {earlier}"

    def _wrong_products(self, layer: int, states: Mapping[str, Tensor]) -> Iterator[str]:
        """Activations that are not the product of a matrix with those before it."""
        for matrix, before, after in _products(self.architecture):
            names = [f"blocks.{layer}.{site}" for site in (before, after)]
            if any(name not in states for name in names):
                continue
            path = self.architecture.path(layer, self.architecture.matrices[matrix])
            module = self.model.get_submodule(path)
            weight = module.get_parameter("weight").detach().float()
            weight = weight if self.architecture.stores_transposed else weight.T
            x, expected = (states[name].to(weight.device) for name in names)
            if (x.shape[1], expected.shape[1]) != tuple(weight.shape):
                widths = f"{names[0]} and {names[1]} have {x.shape[1]} and {expected.shape[1]} units"
                yield f"{widths}, but {matrix} reads {weight.shape[0]} and gives {weight.shape[1]}"
                continue
            bias = getattr(module, "bias", None)
            product = x @ weight if bias is None else x @ weight + bias.detach().float()
            product = product * self.architecture.site_scale(after, self.model.config)
            size = (x.abs() @ weight.abs()).amax(dim=1, keepdim=True)  # of the terms of a product
            if not self._is_close(product, expected, [product, expected, size]):
                yield f"{names[1]} is not {matrix} times {names[0]}"

    def _is_close(self, value: Any, reference: Tensor, terms: list[Tensor]) -> bool:
        """Whether two tensors are equal up to rounding, token by token; not finite ones are not compared."""
        size = torch.stack([term.abs().amax(dim=1).to(reference.device) for term in terms]).sum(dim=0)
        error = (value.to(reference.device) - reference).abs().amax(dim=1)
        eps = torch.finfo(self.model.dtype).eps
        is_close = error <= max(_TOLERANCE, _ROUNDINGS * eps) * size
        return bool((is_close | ~torch.isfinite(size)).all())


def _products(architecture: Architecture) -> Iterator[tuple[str, str, str]]:
    """Matrices that are stored alone, each with the site that it reads and the one that it gives."""
    gated = "mlp.W_gate" in architecture.matrices
    candidates = [("mlp.W_in", "mlp.hook_in", "mlp.hook_pre_linear" if gated else "mlp.hook_pre")]
    candidates += [("mlp.W_gate", "mlp.hook_in", "mlp.hook_pre")]
    if not architecture.normalises_writes:
        candidates += [("attn.W_O", "attn.hook_z", "hook_attn_out")]
        candidates += [("mlp.W_out", "mlp.hook_post", "hook_mlp_out")]
    for matrix, before, after in candidates:
        if matrix in architecture.matrices and len(architecture.joint_matrices(matrix)) == 1:
            yield matrix, before, after


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    """A context in which no module is in training mode."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _input(note: Any, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    note(args[0] if args else kwargs.get("hidden_states"))


def _output(note: Any, _: nn.Module, __: Any, output: Any) -> None:
    note(output[0] if isinstance(output, tuple) else output)
