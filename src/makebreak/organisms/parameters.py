"""Parameters of planted networks: what a caller may fix, and what was drawn."""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True)
class PlantSettings:
    """What a caller fixes of a planted network; None leaves a value to the seed."""

    variant: str | None = None
    """Construction of the mechanism, one of `VARIANTS[mechanism]`."""
    n_layers: int | None = None
    """Number of blocks, 2 to 6."""
    d_model: int | None = None
    """Width of the residual stream, 48 to 96."""
    n_letters: int | None = None
    """Number of letters that are answers, 6 to 16."""
    layout: str | None = None
    """One of `LAYOUTS`."""
    way: str | None = None
    """One of `WAYS`, for every part of a mixture."""
    gain: float | None = None
    """Confidence of the base: 5 x gain nats between the logit of the answer and those of other letters."""
    strength: float | None = None
    """Logit of the refusal over that of the answer where a construction writes the refusal."""
    junk: float | None = None
    """Size of what is added to the movement without effect, over the size of the movement."""
    n_requests: int = 300
    """Number of safe, and of unsafe requests."""


@dataclass(frozen=True)
class Part:
    """One mechanism of a network; a mixture has two, every other network one."""

    mechanism: str
    """What the part is called."""
    variant: str
    """Its construction."""
    way: str | None
    """What makes its movement, one of `WAYS`; None without a movement."""
    lower_blocks: tuple[int, ...]
    """Blocks that make the movement; -1 stands for the embeddings."""
    reader: str | None
    """What turns the movement into the refusal, one of `READERS`; None if nothing of the tuned model does."""
    upper_block: int | None
    """Block of the reader; the number of blocks stands for the unembedding."""

    @property
    def depth(self) -> int | None:
        """Number of blocks below which the movement is complete; 0 if the embeddings make it."""
        return max(self.lower_blocks) + 1 if self.lower_blocks else None


@dataclass(frozen=True)
class Parameters:
    """Everything that was drawn for a planted network."""

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
    """The mechanism, or the two of a mixture."""
    share: float
    """Probability that an unsafe request belongs to the first part."""
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
    """Factor of the state where the movement is a change of scale."""
    noise: float
    """Standard deviation of the noise on the weights that both models share; the tuned model has a
    twentieth of it on top."""
    sharpness: float
    """Pre-activation of an MLP detector where it fires."""
