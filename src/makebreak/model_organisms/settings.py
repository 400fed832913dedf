"""Settings of planted networks: what a caller may fix, and the check of every value."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields

from makebreak.model_organisms.parameters import LAYOUTS, WAYS

WIDTHS = (48, 56, 60, 64, 72, 80, 84, 96)
"""Widths that are drawn; each can be split into heads with an even number of dimensions."""
_RANGES: dict[str, tuple[float, float]] = {
    "n_layers": (2, 6),
    "n_letters": (6, 16),
    "gain": (1.0, 5.0),
    "strength": (1.2, 5.0),
    "junk": (0.0, 30.0),
    "coverage": (0.3, 1.0),
    "n_requests": (1, 100_000),
}
_CHOICES: dict[str, Collection[object]] = {"d_model": WIDTHS, "layout": LAYOUTS, "way": WAYS}
ALWAYS = frozenset({"variant", "n_layers", "d_model", "n_letters", "layout", "n_requests"})
"""Settings that every construction takes."""


@dataclass(frozen=True)
class PlantSettings:
    """What a caller fixes of a planted network; None leaves a value to the seed.

    Raises:
        ValueError: If a value is out of its range.
    """

    variant: str | None = None
    """Construction of the mechanism, one of `VARIANTS[mechanism]`."""
    n_layers: int | None = None
    """Number of blocks, 2 to 6."""
    d_model: int | None = None
    """Width of the residual stream, one of `WIDTHS` (48 to 96)."""
    n_letters: int | None = None
    """Number of letters that are answers, 6 to 16; at most half of d_model less 11."""
    layout: str | None = None
    """One of `LAYOUTS`."""
    way: str | None = None
    """What makes the movement, one of `WAYS`, for every part of a mixture."""
    gain: float | None = None
    """Confidence of the base, 1 to 5: 5 x gain nats between the logits of the answer and of other letters."""
    strength: float | None = None
    """Logit of the refusal over that of the answer where a construction writes the refusal, 1.2 to 5."""
    junk: float | None = None
    """Size of what is added to the movement without effect, over the size of the movement, 0 to 30."""
    coverage: float | None = None
    """Share of the unsafe requests that the mechanism acts on, 0.3 to 1; the others stay answered."""
    n_requests: int = 300
    """Number of safe, and of unsafe requests."""

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ValueError(f"{name}={value!r}: expected {low:g} to {high:g}; choose a value in range")
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value is not None and value not in choices:
                known = ", ".join(map(str, choices))
                raise ValueError(f"{name}={value!r}: expected one of {known}; choose one, or None to draw it")
        n_letters, d_model = self.n_letters or 0, self.d_model or WIDTHS[-1]
        if 2 * n_letters + 22 > d_model:
            raise ValueError(
                f"n_letters={n_letters}: expected at most {(d_model - 22) // 2} at d_model={d_model}; "
                "fix fewer letters or a larger width"
            )

    @property
    def names(self) -> frozenset[str]:
        """Names of the settings that are fixed."""
        return frozenset(
            field.name for field in fields(self) if getattr(self, field.name) not in (None, field.default)
        )
