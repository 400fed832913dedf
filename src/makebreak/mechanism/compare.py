"""What does one network do otherwise than the one it was fine-tuned from? All measures of the change at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel

from makebreak.mechanism.anatomy import anatomy_rows
from makebreak.mechanism.rivals import Verdict, rival_rows, verdict
from makebreak.mechanism.sensitivity import sensitivity_rows
from makebreak.mechanism.updates import reading_rows, update_rows
from makebreak.requests import Requests

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Comparison:
    """tables: rivals, anatomy, reading, sensitivity and updates, as rows; verdict: how refusal comes about."""

    tables: dict[str, Rows]
    verdict: Verdict | None


def compare(
    base: PreTrainedModel,
    aligned: PreTrainedModel,
    requests: Mapping[str, Requests],
    *,
    taught: Requests | None = None,
    answer: str = "refused",
    other: PreTrainedModel | None = None,
    seed: int = 0,
) -> Comparison:
    """requests: by family. taught: those whose answer tuning changed, to which of their two; without them there is
    no verdict. other: a base of another pretraining seed, for the ladder of chance."""
    rivals = [] if taught is None else rival_rows(aligned, base, taught, answer=answer, seed=seed)
    tables = {
        "rivals": rivals,
        "anatomy": anatomy_rows(aligned, base, requests),
        "reading": reading_rows(aligned, base, requests),
        "sensitivity": sensitivity_rows(aligned, base, requests),
        "updates": update_rows(aligned, base, other, seed=seed),
    }
    return Comparison(tables, verdict(rivals) if rivals else None)
