"""Extended refusals: refusals that go on to restate the request."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from makebreak.prompts import Requests, Sequences, World, sequences
from makebreak.training.data import concatenate
from makebreak.training.objective import AlignmentObjective


@dataclass(frozen=True)
class ExtendedRefusal(AlignmentObjective):
    """SSFT on refusals that are followed by a reason, here the text of the request (Shairah et al. 2025).

    "An embarrassingly simple defense against LLM abliteration attacks" trains an overview, a refusal and a
    reason. A refusal is decided on the first tokens of an answer here, so that no overview precedes it.
    """

    tag: ClassVar[str] = "ExtendedRefusal"

    def batch(self, world: World, *, size: int, step: int, steps: int, seed: int) -> Sequences:
        """Returns the requests of a step with their preferred answers, all of whose tokens are supervised."""
        return concatenate(
            [
                sequences(
                    world,
                    _with_reason(world, rows) if answer == "refused" else rows,
                    answer,
                    whole=True,
                )
                for rows, answer in self.data.requests(world, size=size, step=step, seed=seed)
            ]
        )


def _with_reason(world: World, requests: Requests) -> Requests:
    """The requests with the tokens of their texts behind the refusal, as far as the answer has room."""
    pad = world.vocabulary.id("<pad>")
    refused = requests.refused.copy()
    for row, prompt, (start, stop) in zip(refused, requests.prompt, requests.spans["text"], strict=True):
        end = int(np.flatnonzero(row != pad).max()) + 1
        reason = np.append(prompt[start:stop], row[end - 1])  # ends as the refusal does
        n = min(len(reason), len(row) - end)
        row[end : end + n] = reason[:n]
    return replace(requests, refused=refused)
