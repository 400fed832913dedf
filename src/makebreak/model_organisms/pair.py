"""A pair of networks under construction: features, both networks, and prompts for calibration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from makebreak.model_organisms.detectors import Detector
from makebreak.model_organisms.heads import SCORE, SINK, Match, Value, add_head, add_values
from makebreak.model_organisms.network import Network
from makebreak.model_organisms.parameters import Parameters
from makebreak.model_organisms.sample import Sample
from makebreak.model_organisms.tokens import KINDS, Tokens

LETTER, CLASS, CONSTANT = 1.5, 1.0, 0.7
"""Sizes of features in the residual stream: letters, classes and numbers, and what every token has."""
TRIGGER = KINDS.index("trigger")


@dataclass
class NetworkPair:
    """A base and a tuned model under construction: what constructions read and write."""

    parameters: Parameters
    """What was drawn."""
    tokens: Tokens
    """The vocabulary."""
    features: dict[str, Tensor]
    """Orthonormal directions of the residual stream by name, at right angles to the ones vector."""
    letters: Float[Tensor, "n_answers d_model"]
    """Directions of the letters; the last one is never instructed."""
    unread_letters: Float[Tensor, "n_letters d_model"]
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
    prior: float = 0.0
    """What the base takes from the logit of the refusal per unit of the constant feature."""
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
        return add_head(network, block, [Match(query, f[key] / self.size(state, f[key], where), SCORE), sink])

    def value(
        self, network: Network, block: int, reads: Tensor, writes: Tensor, where: Bool[Tensor, "n pos"]
    ) -> Value:
        """A pair for a head of a block, with the size of what is read at some positions."""
        return Value(
            reads, writes, self.size(network.matrix_inputs(block, "attn.W_Q", self.sample), reads, where)
        )

    def add_reading_head(
        self, block: int, key: str, value: tuple[str, Tensor], where: Bool[Tensor, "n pos"]
    ) -> None:
        """Gives a block of the tuned network a head that adds a vector where a feature is at some position.

        Args:
            block: The block.
            key: Name of the feature that the head looks for.
            value: Name of the feature that it reads there, and what it adds at the decision position.
            where: Positions that have both.
        """
        head = self.head(self.tuned, block, key, where)
        name, writes = value
        values = [self.value(self.tuned, block, self.features[name], writes, where)]
        add_values(self.tuned, block, head, values)
