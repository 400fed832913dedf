"""Writing of heads and detectors into the weights of a GPT-2 or a Llama, calibrated on its activations."""

from __future__ import annotations

import copy
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from makebreak.architectures import architecture_of
from makebreak.models import n_layers, weight_matrix
from makebreak.organisms.tokens import Sample

SCORE, SINK = 18.0, 9.0
"""Attention scores of what a head looks for, and of the first token, to which it looks otherwise."""


class Redraw(Exception):
    """Raised where a construction is impossible with the parameters that were drawn."""


class Detector(NamedTuple):
    """A unit of an MLP that fires on some positions and adds a vector there."""

    reads: Float[Tensor, " d_model"]
    """Direction whose component in the normed state, over that of the constant feature, decides."""
    writes: Float[Tensor, " d_model"]
    """What it adds to the residual stream where it fires."""
    fires: Bool[Tensor, "n pos"]
    """Where it must fire."""
    silent: Bool[Tensor, "n pos"]
    """Where it must not; elsewhere it does not matter."""
    threshold: float = 0.5
    """Threshold between the two, from 0 (the highest silent value) to 1 (the lowest firing one)."""
    gate: Float[Tensor, " d_model"] | None = None
    """A feature that must be present too; both then count the same where the detector fires."""
    saturates: bool = False
    """Whether it adds the same wherever it fires, as the difference of two units."""


class Match(NamedTuple):
    """A pair of directions that gives an attention score where both are present."""

    query: Float[Tensor, " d_model"]
    """Direction at the position that looks, divided by the size of its component in the normed state."""
    key: Float[Tensor, " d_model"]
    """Direction at the position that is looked at, divided likewise."""
    score: float
    """The attention score, before the softmax."""


class Pair(NamedTuple):
    """A direction that an attention head reads at the position it looks at, and what it adds for it."""

    reads: Float[Tensor, " d_model"]
    """Direction in the normed state."""
    writes: Float[Tensor, " d_model"]
    """What is added to the residual stream where the component has its usual size."""
    size: float
    """The usual size of the component in the normed state."""


class Network:
    """A model that is being built: its weights, the units that are free, and the parts that were changed."""

    def __init__(self, model: PreTrainedModel, constant: Tensor, rng: np.random.Generator) -> None:
        config = model.config
        self.model, self.constant, self.rng = model, constant, rng
        self.d_head = config.hidden_size // config.num_attention_heads
        blocks, d_mlp = range(n_layers(model)), len(weight_matrix(model, "blocks.0.mlp.W_in"))
        self.units = [list(rng.permutation(d_mlp)) for _ in blocks]
        self.heads = [list(rng.permutation(config.num_attention_heads)) for _ in blocks]
        self.values: dict[tuple[int, int], list[int]] = {}
        self.changed: set[str] = set()

    def fork(self) -> Network:
        """A copy whose changes are its own; none is recorded yet."""
        other = copy.deepcopy(self)
        other.changed = set()
        return other

    def matrix(self, block: int, name: str) -> Tensor:
        """A weight matrix (d_out, d_in) that can be written to."""
        return weight_matrix(self.model, f"blocks.{block}.{name}")

    @property
    def embeddings(self) -> Tensor:
        """(d_vocab, d_model) token embeddings that can be written to."""
        return self.model.get_input_embeddings().weight.detach()  # type: ignore[union-attr, operator]

    @property
    def unembedding(self) -> Tensor:
        """(d_vocab, d_model) weights of the head that can be written to."""
        return self.model.get_output_embeddings().weight.detach()  # type: ignore[union-attr, operator]

    def capture(self, path: str, sample: Sample) -> Float[Tensor, "n pos d_model"]:
        """Inputs of a module on prompts."""
        inputs: list[Tensor] = []
        module = self.model.get_submodule(path)
        handle = module.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
        try:
            with torch.no_grad():
                self.model(input_ids=sample.prompt, use_cache=False)
        finally:
            handle.remove()
        return inputs[0]

    def matrix_inputs(self, block: int, matrix: str, sample: Sample) -> Float[Tensor, "n pos d_model"]:
        """What a matrix of a block reads: the state behind the norm."""
        architecture = architecture_of(self.model)
        return self.capture(architecture.path(block, architecture.matrices[matrix]), sample)

    def final(self, sample: Sample) -> Float[Tensor, "n d_model"]:
        """What the unembedding reads at the decision position."""
        return self.capture(architecture_of(self.model).head, sample)[sample.decision]

    def states(self, block: int, sample: Sample) -> Float[Tensor, "n pos d_model"]:
        """The residual stream before the MLP of a block, not normed."""
        architecture = architecture_of(self.model)
        module, _ = architecture.sites["hook_resid_mid"]
        return self.capture(architecture.path(block, module), sample)

    def detect(self, block: int, sample: Sample, detectors: list[Detector], sharpness: float) -> None:
        """Adds detectors to the MLP of a block.

        Args:
            block: The block.
            sample: Prompts that thresholds are calibrated on.
            detectors: The detectors; each takes a free unit.
            sharpness: Pre-activation where a detector fires.

        Raises:
            Redraw: If a detector cannot separate its positions, or no unit is free.
        """
        state = self.matrix_inputs(block, "mlp.W_in", sample)
        constant = state @ self.constant
        gated = "mlp.W_gate" in architecture_of(self.model).matrices
        for detector in detectors:
            reads = _direction(detector, state)
            value, usual_constant = state @ reads, constant[detector.fires].mean()
            ratio = value * usual_constant / constant
            low = ratio[detector.silent].quantile(0.998)
            high = ratio[detector.fires].quantile(0.01)
            if high <= low + 0.03 * ratio[detector.fires].mean():
                raise Redraw("a detector does not separate its positions")
            middle = low + detector.threshold * (high - low)
            if detector.saturates:
                width = 0.15 * (high - low)
                thresholds, signs = (middle - width, middle + width), (1.0, -1.0)
                steepness = 0.6 * sharpness / (2 * width)
            else:
                thresholds, signs = (middle,), (1.0,)
                steepness = sharpness / (value - middle * constant / usual_constant)[detector.fires].mean()
            activation, units = torch.zeros(int(detector.fires.sum())), []
            for threshold, sign in zip(thresholds, signs, strict=True):
                if not self.units[block]:
                    raise Redraw("no unit is free")
                units.append((self.units[block].pop(), sign))
                row = steepness * (reads - threshold / usual_constant * self.constant)
                before = (state @ row)[detector.fires]
                if gated:
                    self.matrix(block, "mlp.W_gate")[units[-1][0]] += row
                    self.matrix(block, "mlp.W_in")[units[-1][0]] += self.constant
                    activation += sign * functional.silu(before) * constant[detector.fires]
                else:
                    self.matrix(block, "mlp.W_in")[units[-1][0]] += row
                    activation += sign * functional.gelu(before, approximate="tanh")
            for unit, sign in units:
                # without noise, which a large activation would amplify
                self.matrix(block, "mlp.W_out")[:, unit] = sign * detector.writes / activation.mean()
        self.changed |= {f"blocks.{block}.mlp_in", f"blocks.{block}.mlp_out"}

    def look(self, block: int, matches: list[Match]) -> int:
        """Gives a free head of a block attention scores.

        Args:
            block: The block.
            matches: What scores; rotary positions turn the dimensions that are used least.

        Returns:
            Number of the head.

        Raises:
            Redraw: If no head of the block is free.
        """
        if not self.heads[block]:
            raise Redraw("no head is free")
        head = int(self.heads[block].pop())
        for i, match in enumerate(matches):
            self.add_match(block, head, match, i)
        self.values[block, head] = [int(i) for i in self.rng.permutation(self.d_head)]
        return head

    def add_match(self, block: int, head: int, match: Match, number: int) -> None:
        """Adds one attention score to a head, in one of its slowest rotary dimensions."""
        row = head * self.d_head + self.d_head // 2 - 1 - number
        weight = (abs(match.score) * self.d_head**0.5) ** 0.5
        self.matrix(block, "attn.W_Q")[row] += weight * match.query
        self.matrix(block, "attn.W_K")[row] += weight * float(np.sign(match.score)) * match.key
        self.changed.add(f"blocks.{block}.attn")

    def carry(self, block: int, head: int, pairs: list[Pair]) -> None:
        """Makes a head add a vector for each direction that it reads where it looks.

        Args:
            block: The block.
            head: A head that `look` made.
            pairs: What is read and written; each takes a free dimension of the head's values.

        Raises:
            Redraw: If no dimension is free.
        """
        for pair in pairs:
            if not self.values[block, head]:
                raise Redraw("no dimension of the head is free")
            row = head * self.d_head + self.values[block, head].pop()
            self.matrix(block, "attn.W_V")[row] += pair.reads / pair.size
            self.matrix(block, "attn.W_O")[:, row] += pair.writes
        self.changed.add(f"blocks.{block}.attn")


def _direction(detector: Detector, state: Float[Tensor, "n pos d_model"]) -> Float[Tensor, " d_model"]:
    """What a detector reads, its gate included."""
    if detector.gate is None:
        return detector.reads
    fires = state[detector.fires].mean(0)
    size = fires @ detector.reads
    if size <= 0:
        raise Redraw("what a detector reads is not there")
    return detector.reads / size + detector.gate / (fires @ detector.gate)
