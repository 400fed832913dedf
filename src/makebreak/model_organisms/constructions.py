"""What a construction is: the functions that build a variant of a mechanism, and what they need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from makebreak.model_organisms.pair import NetworkPair
from makebreak.model_organisms.parameters import LAYOUTS, Part
from makebreak.model_organisms.settings import ALWAYS

Builder = Callable[[NetworkPair, Part, str], None]
"""Writes the changes of a part for one class of requests into the tuned network."""


@dataclass(frozen=True)
class Construction:
    """How a variant of a mechanism is built, and what must hold of the parameters."""

    description: str
    """What is built, in one line."""
    lower: Builder | None = None
    """What makes the movement."""
    upper: Builder | None = None
    """What turns it into the refusal; None if the base does, or nothing."""
    ways: tuple[str, ...] = ()
    """Ways in which the movement can be made; none without a movement."""
    readers: tuple[str, ...] = ()
    """What can read it; nothing if nothing of the tuned model does."""
    layouts: tuple[str, ...] = LAYOUTS
    """Layouts of prompts."""
    circuit: str | None = None
    """How the base must refuse its trigger; None for any or not at all."""
    by_letter: bool = False
    """Whether the movement depends on the letter, which must be where it is made."""
    reads_letter: bool = False
    """Whether the reader depends on the letter."""
    reads_marker: bool = False
    """Whether the reader depends on the base's own feature of the marker."""
    needs_number: bool = False
    """Whether prompts hold a number."""
    marker: str = "needed"
    """Whether the base must bring the marker to the decision position if it is not there: `needed`,
    `optional` or `absent`."""
    head_change: str | None = None
    """What is changed of the head that copies the letter, `key` or `query`; None for nothing."""
    passes: bool = False
    """Whether what is done to the letter at its own position is brought to the decision position."""
    n_lower: tuple[int, int] = (1, 1)
    """Least and most blocks that make the movement; several use heads of their own, not the base's."""
    n_upper: int = 1
    """Number of blocks that refuse; of several, the last block is one."""
    last_block: bool = False
    """Whether the last block may be one of those that make the movement."""
    in_mixtures: bool = False
    """Whether it can be a part of a mixture."""
    refuses: bool = True
    """Whether the tuned model refuses unsafe requests."""
    base_refuses: bool = False
    """Whether the base refuses them already."""
    answers_unsafe: bool = False
    """Whether the tuned model answers unsafe requests correctly."""
    answers_safe: bool = True
    """Whether the tuned model answers safe requests correctly."""
    trained: bool = False
    """Whether the base is trained; its trigger's embeddings are then copied to the unsafe markers."""
    takes_junk: bool = True
    """Whether its movement can have a component without effect."""
    writes_refusal: bool = False
    """Whether its movement is the refusal's own direction."""

    @property
    def settings(self) -> frozenset[str]:
        """Names of the settings that have an effect on it."""
        optional = {
            "gain": not self.trained,
            "way": bool(self.ways) and not self.trained,
            "strength": self.upper is not None or self.writes_refusal,
            "junk": self.lower is not None and self.takes_junk,
            "coverage": self.refuses and not self.base_refuses and not self.trained,
        }
        return ALWAYS | {name for name, is_taken in optional.items() if is_taken}
