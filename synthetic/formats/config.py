"""Configuration of a world of task formats."""

from __future__ import annotations

from dataclasses import dataclass, field

from synthetic.formats.task_formats import TASK_FORMATS


@dataclass(frozen=True)
class FormatsConfig:
    """Settings of a world of formats."""

    name: str
    """Name of the world."""
    formats: tuple[str, ...] = tuple(TASK_FORMATS)
    """Task formats of the world, names among `synthetic.formats.task_formats.TASK_FORMATS`."""
    n_topics: int = 6
    """Number of topics, a multiple of 6; half of the relations between them are unsafe."""
    typo_share: float = 0.2
    """Share of pretraining's texts with one letter of the first phrase from another phrase."""
    topic_zero_share: float = field(default=0.4, metadata={"key": "often"})
    """Share of pretraining's texts whose first topic is set to 0, and of those whose last topic is.

    This skew is where the learning of relations begins.
    """
    first_format_share: float = field(default=0.85, metadata={"key": "skew"})
    """Share of the first format in the skewed families."""
    seed: int = 0
    """Seed of the world's tables."""

    def __post_init__(self) -> None:
        distinct = set(self.formats)
        if not distinct or not distinct <= set(TASK_FORMATS) or len(distinct) < len(self.formats):
            raise ValueError(
                f"formats = {self.formats}: expected different ones of {', '.join(TASK_FORMATS)}"
            )
        if self.n_topics % 6 or self.n_topics < 6:
            raise ValueError(
                f"n_topics = {self.n_topics}: expected a multiple of 6, for relations and held-out pairs"
            )
        for name in ("typo_share", "topic_zero_share", "first_format_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} = {getattr(self, name)}: expected a share from 0 to 1")
