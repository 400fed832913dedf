"""Comparison of a base and an aligned model by all measures of the change at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from transformers import PreTrainedModel

from makebreak.mechanism.identification import identify_mechanism
from makebreak.mechanism.preactivations import preactivation_rows
from makebreak.mechanism.sensitivity import sensitivity_rows
from makebreak.mechanism.update_geometry import read_gain_rows, update_rows
from makebreak.mechanism.verdict import MechanismVerdict
from makebreak.prompts import Requests
from makebreak.tables import Rows, as_dicts


class ChangedRequests(NamedTuple):
    """Requests whose answer alignment changed."""

    requests: Requests
    """The requests."""
    answer: str = "refused"
    """The answer that alignment trained on them, `refused` or `instructed`."""
    unchanged: Requests | None = None
    """Requests whose answer should stay, reported beside."""


@dataclass(frozen=True)
class Comparison:
    """Result of `compare`."""

    tables: dict[str, Rows]
    """Tables by name: `stitching`, `mechanisms`, `answer_rates`, `preactivations`, `read_gain`, `sensitivity`
    and `updates`."""
    verdict: MechanismVerdict | None
    """The mechanism of the changed answers; None if no requests with a changed answer were given."""


def compare(
    requests: Mapping[str, Requests],
    *,
    base: PreTrainedModel,
    tuned: PreTrainedModel,
    changed_requests: ChangedRequests | None = None,
    other_base: PreTrainedModel | None = None,
    seed: int = 0,
) -> Comparison:
    """Compares an aligned model with the base that it was trained from.

    Args:
        requests: Requests by family, for measures of activations.
        base: The model before alignment.
        tuned: The model after it.
        changed_requests: Requests whose reference answer differs between the models; without them
            stitching is skipped.
        other_base: A base of another pretraining seed, for a reference of the updates.
        seed: Seed of all random references.

    Returns:
        The tables and the verdict.
    """
    report = None
    if changed_requests is not None:
        report = identify_mechanism(
            base=base,
            tuned=tuned,
            unsafe=changed_requests.requests,
            safe=changed_requests.unchanged,
            answer=changed_requests.answer,
            seed=seed,
        )
    tables = {
        "stitching": as_dicts(report.cuts if report else []),
        "mechanisms": as_dicts(report.verdict.shares if report else []),
        "answer_rates": as_dicts(report.rates if report else []),
        "preactivations": as_dicts(preactivation_rows(requests, base=base, tuned=tuned)),
        "read_gain": as_dicts(read_gain_rows(requests, base=base, tuned=tuned)),
        "sensitivity": as_dicts(sensitivity_rows(requests, base=base, tuned=tuned)),
        "updates": as_dicts(update_rows(base=base, tuned=tuned, other_base=other_base, seed=seed)),
    }
    return Comparison(tables, report.verdict if report else None)
