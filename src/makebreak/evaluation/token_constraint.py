"""Which tokens an attacker can put into a request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from makebreak.prompts import Requests

RequestFilter = Callable[[Requests], Bool[np.ndarray, " n"]]
"""A function that returns which requests a user can send to the model."""


@dataclass(frozen=True)
class TokenConstraint:
    """Which tokens an attacker can put into a request."""

    allowed: Bool[np.ndarray, " d_vocab"] | None = None
    """Tokens to choose from; None for the whole vocabulary."""
    is_valid: RequestFilter | None = None
    """Which requests with such tokens can be sent; None for all."""
    initial: tuple[int, ...] = ()
    """Tokens that may fill the slots at first, the preferred ones first; an attack names one if there are
    none."""
