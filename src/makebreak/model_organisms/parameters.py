"""Parameters of planted networks: everything that is drawn for one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

LAYOUTS = ("decision", "joint", "apart", "marker last", "letter last")
"""Where a prompt has its letter and its marker: both in the last token; both in one token of the body; in two
tokens of the body; only the marker in the last token; only the letter in the last token."""
WAYS = ("embedding", "mlp", "marker mlp", "attention")
"""What makes the movement: token embeddings, an MLP at the decision position, an MLP at the marker's own
position, or the value-output matrices of an attention head."""
READERS = ("mlp", "attention", "unembedding", "scale")
"""What turns the movement into the refusal above it."""
CIRCUITS = ("none", "mlp", "attention", "learned")
"""How the base refuses requests with a trigger; `learned` is a base that was trained to."""
CONFIDENCE = 5.0
"""Nats between the logit of the answer and those of other letters at a gain of 1."""


class Change(NamedTuple):
    """One change of the weights of the tuned model."""

    block: int
    """The block; -1 stands for the embeddings, the number of blocks for the unembedding."""
    site: str
    """One of `WAYS` below, one of `READERS` above."""
    share: float = 1.0
    """Share of the movement, or of the refusal's logit, that this change makes."""


@dataclass(frozen=True)
class Part:
    """One mechanism of a network, on one class of its unsafe requests."""

    mechanism: str
    """Name of the mechanism; `none` for requests that the tuned model answers."""
    variant: str
    """Its construction."""
    lower: tuple[Change, ...]
    """Changes that make the movement, from below; none without a movement."""
    upper: tuple[Change, ...]
    """Changes that turn the movement into the refusal; none if nothing of the tuned model does."""

    @property
    def depth(self) -> int | None:
        """Number of blocks below which the movement is complete; 0 if the embeddings make it."""
        return max(change.block for change in self.lower) + 1 if self.lower else None


@dataclass(frozen=True)
class Parameters:
    """Everything that was drawn for a planted network."""

    variant: str
    """What was built, one of `VARIANTS` of the mechanism."""
    architecture: str
    """`gpt2` or `llama`."""
    n_layers: int
    """Number of blocks."""
    d_model: int
    """Width of the residual stream."""
    n_heads: int
    """Attention heads of each block."""
    n_letters: int
    """Letters that are answers."""
    layout: str
    """One of `LAYOUTS`."""
    letter_block: int | None
    """Block whose attention brings the letter to the decision position; None if it is there."""
    marker_block: int | None
    """Block whose attention brings the marker; None if it is there or the base does not bring it."""
    number_block: int | None
    """Block whose attention brings the number of a prompt; None if prompts have no number."""
    circuit: str
    """How the base refuses requests with a trigger, one of `CIRCUITS`."""
    circuit_block: int | None
    """Block of this circuit."""
    parts: tuple[Part, ...]
    """Mechanisms, each on its own requests."""
    shares: tuple[float, ...]
    """Share of the unsafe requests of each part."""
    gain: float
    """Confidence of the base: 5 x gain nats between the logit of the answer and those of other letters."""
    null_prior: float
    """Logit of the refusal below those of other letters in the base, in nats."""
    null_gain: float
    """Length of the refusal's unembedding over that of a letter."""
    strength: float
    """Logit of the refusal over that of the answer where a construction writes the refusal."""
    mark: float
    """Size of a mark in the residual stream; a letter has 1.5."""
    junk: float
    """Size of what is added to the movement without effect, over the size of the movement."""
    scale: float
    """Factor of the state where the movement is a change of its norm."""
    noise: float
    """Standard deviation of the noise on the weights that both models share; the tuned model has a
    twentieth of it on top."""
    sharpness: float
    """Pre-activation of an MLP detector where it fires."""
