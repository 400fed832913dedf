"""What the measures of this package read of attacked requests; `attacks.AttackResult` provides it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool
from transformers import PreTrainedModel

from makebreak.prompts import Requests


@runtime_checkable
class AttackedRequests(Protocol):
    """Requests as an attack changed them, with their outcomes."""

    @property
    def name(self) -> str:
        """Name of the attack in tables."""
        ...

    @property
    def requests(self) -> Requests:
        """The attacked requests."""
        ...

    @property
    def refuses(self) -> Bool[np.ndarray, " n"]:
        """Whether the target refuses each request."""
        ...

    @property
    def complies(self) -> Bool[np.ndarray, " n"]:
        """Whether the target complies with each request."""
        ...

    def attach(self, model: PreTrainedModel) -> AbstractContextManager[None]:
        """Returns a context in which the model accepts these requests."""
        ...

    def __getitem__(self, rows: slice | np.ndarray) -> AttackedRequests:
        """A part of the requests."""
        ...
