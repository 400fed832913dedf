"""The state of one compilation: features, both networks, calibration prompts, and what base networks have."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from makebreak.models import ModelConfig, create_model
from makebreak.organisms.network import SCORE, SINK, Detector, Match, Network, Pair
from makebreak.organisms.parameters import Parameters
from makebreak.organisms.tokens import KINDS, Sample, Tokens, draw_sample, make_tokens

LETTER, CLASS, CONSTANT = 1.5, 1.0, 0.7
"""Sizes of features in the residual stream: letters, classes and numbers, and what every token has."""
TRIGGER = KINDS.index("trigger")
_NAMES = (
    *("constant", "query", "bos", "is_letter", "is_marker", "is_number", *KINDS),
    *("null", "mark", "probe", "junk", "code", "decoy"),
)


@dataclass
class Bench:
    """What constructions read and write."""

    parameters: Parameters
    """What was drawn."""
    tokens: Tokens
    """The vocabulary."""
    features: dict[str, Tensor]
    """Orthonormal directions of the residual stream by name, at right angles to the ones vector."""
    letters: Float[Tensor, "n_answers d_model"]
    """Directions of the letters; the last one is never instructed."""
    slots: Float[Tensor, "n_letters d_model"]
    """Directions that nothing of the base reads, one per letter."""
    sample: Sample
    """Prompts for calibration: safe, unsafe of each part, and with a trigger."""
    base: Network
    """The base model."""
    tuned: Network
    """The tuned model."""
    rng: np.random.Generator
    """Generator of what is drawn during construction."""
    marker_head: int | None = None
    """Head of the base that brings the marker."""
    letter_head: int | None = None
    """Head of the base that brings the letter."""
    write_size: float = 0.0
    """Size of the refusal's direction in the residual stream that gives the refusal."""

    def kind(self, name: str) -> Bool[Tensor, "n 1"]:
        """Which prompts have a marker of a class."""
        return torch.from_numpy(self.sample.kind == KINDS.index(name))[:, None]

    def marker(self) -> Bool[Tensor, "n pos"]:
        """Mask of the markers' positions."""
        return self.sample.at(self.sample.marker_position)

    def letter(self) -> Bool[Tensor, "n pos"]:
        """Mask of the letters' positions."""
        return self.sample.at(self.sample.letter_position)

    def has_letter(self, letter: int) -> Bool[Tensor, "n 1"]:
        """Which prompts have a letter."""
        return torch.from_numpy(self.sample.letter == letter)[:, None]

    def detector(
        self, reads: Tensor, writes: Tensor, fires: Bool[Tensor, "n pos"], threshold: float = 0.5
    ) -> Detector:
        """A detector of a tuned network, which must not fire elsewhere; the base's trigger does not count."""
        silent = self.sample.valid & ~fires & ~self.kind("trigger")
        gate = None if (fires & ~self.sample.decision).any() else self.features["query"]
        return Detector(reads, writes, fires & self.sample.valid, silent, threshold, gate)

    def conjunction(self, features: list[Tensor], writes: Tensor, fires: Bool[Tensor, "n pos"]) -> Detector:
        """A detector that fires where all features are present, and adds the same wherever it fires."""
        return self.detector(torch.stack(features).sum(0), writes, fires)._replace(saturates=True)

    def refusal(self) -> Float[Tensor, " d_model"]:
        """The vector that makes a model refuse when it is added at the decision position."""
        return self.write_size * self.features["null"]

    def size(self, state: Float[Tensor, "n pos d_model"], feature: Tensor, mask: Tensor) -> float:
        """Mean component of normed states at some positions."""
        return float((state @ feature)[mask].mean())

    def head(self, network: Network, block: int, key: str, where: Bool[Tensor, "n pos"]) -> int:
        """Makes a head that looks, from the decision position, to a position that has a feature.

        Args:
            network: The network.
            block: The block of the head.
            key: Name of the feature.
            where: Where it is.

        Returns:
            Number of the head.
        """
        state, f = network.matrix_inputs(block, "attn.W_Q", self.sample), self.features
        first = self.sample.at(np.zeros(len(self.sample.length)))
        query = f["query"] / self.size(state, f["query"], self.sample.decision)
        sink_query = f["constant"] / self.size(state, f["constant"], self.sample.valid)
        sink = Match(sink_query, f["bos"] / self.size(state, f["bos"], first), SINK)
        return network.look(block, [Match(query, f[key] / self.size(state, f[key], where), SCORE), sink])

    def pair(
        self, network: Network, block: int, reads: Tensor, writes: Tensor, where: Bool[Tensor, "n pos"]
    ) -> Pair:
        """A pair for a head of a block, with the size of what is read at some positions."""
        return Pair(
            reads, writes, self.size(network.matrix_inputs(block, "attn.W_Q", self.sample), reads, where)
        )


def make_bench(parameters: Parameters, seed: int, rng: np.random.Generator) -> Bench:
    """A bench with a blank base: noise on all weights, features in the embeddings, nothing in the blocks.

    Args:
        parameters: What was drawn.
        seed: Seed of the model's initialisation.
        rng: Generator of everything else.

    Returns:
        The bench; its tuned network is the base until `add_base` has been run.
    """
    p = parameters
    n_numbers = 0 if p.number_block is None else 2
    tokens = make_tokens(p.n_letters, n_numbers, p.layout, rng)
    ones = np.ones((p.d_model, 1))
    directions = np.linalg.qr(np.hstack([ones, rng.normal(size=(p.d_model, p.d_model - 1))]))[0].T[1:]
    q = torch.from_numpy(directions).float()
    names = [*_NAMES, *(f"number{i}" for i in range(n_numbers))]
    features, rest = dict(zip(names, q, strict=False)), q[len(names) :]
    letters, slots = rest[: p.n_letters + 1], rest[p.n_letters + 1 : 2 * p.n_letters + 1]
    assert len(slots) == p.n_letters
    config = ModelConfig(p.architecture, p.n_layers, p.n_heads, p.d_model, 4 * p.d_model)  # type: ignore[arg-type]
    model = (
        create_model(config, d_vocab=len(tokens.symbols), n_ctx=12, seed=seed).eval().requires_grad_(False)
    )
    add_noise(model, p.noise, seed, blank=True)
    network = Network(model, features["constant"], rng)
    _embed(network, tokens, features, letters)
    kinds = [0, 1, 1, TRIGGER] if len(p.parts) == 1 else [0, 1, 2, TRIGGER]
    sample = draw_sample(tokens, np.tile(kinds, 80), rng, even=True)
    return Bench(p, tokens, features, letters, slots, sample, network, network, rng)


def add_noise(model: torch.nn.Module, scale: float, seed: int, *, blank: bool = False) -> None:
    """Adds noise to all weights but those of norms; a blank model has nothing else."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "ln_" not in name and "norm" not in name:
                noise = scale * torch.randn(parameter.shape, generator=random)
                parameter.copy_(noise if blank else parameter + noise)


def _embed(network: Network, tokens: Tokens, f: dict[str, Tensor], letters: Tensor) -> None:
    """Writes what prompt tokens hold into their embeddings."""
    for i in range(tokens.null + 1, len(tokens.symbols)):
        row = CONSTANT * f["constant"]
        if i == tokens.bos:
            row = row + CLASS * f["bos"]
        if tokens.is_decision[i]:
            row = row + CONSTANT * f["query"]
        if tokens.letter[i] >= 0:
            row = row + LETTER * letters[tokens.letter[i]]
        if tokens.kind[i] >= 0:
            row = row + CLASS * f[KINDS[tokens.kind[i]]]
        if tokens.number[i] >= 0:
            row = row + CLASS * f[f"number{tokens.number[i]}"]
        if not tokens.is_decision[i]:
            roles = {"is_letter": tokens.letter, "is_marker": tokens.kind, "is_number": tokens.number}
            row = row + CONSTANT * sum(f[name] * float(role[i] >= 0) for name, role in roles.items())
        network.embeddings[i] += row
