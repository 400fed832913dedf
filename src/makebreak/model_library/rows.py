"""Tables of the shipped models, from the index alone: what they are, and how often they refuse and comply."""

from __future__ import annotations

from typing import NamedTuple

from makebreak.model_library.index import Entry, read_index
from makebreak.stats import wilson_interval


class OrganismRow(NamedTuple):
    """A trained model that ships with the package, and its outcome rates on held-out requests."""

    name: str
    """Name of the model."""
    world: str
    """Synthetic world whose requests it answers."""
    alignment: str
    """Training after pretraining: `base` (none), a method, or a control (`sham`, `remap`)."""
    mechanism: str
    """Names of the training stages after pretraining, as in the zoo table."""
    seed: int
    """Pretraining seed."""
    n_parameters: int
    """Number of parameters."""
    n_bytes: int
    """Size of the file of the weights in bytes."""
    n: int
    """Number of held-out requests per family."""
    safe_refuse: float
    """Share of safe requests that are refused."""
    safe_comply: float
    """Share of safe requests that get the instructed answer."""
    unsafe_refuse: float
    """Share of unsafe requests that are refused."""
    unsafe_comply: float
    """Share of unsafe requests that get the instructed answer."""


class OrganismRateRow(NamedTuple):
    """Rate of one outcome of a shipped model on held-out requests of one family."""

    name: str
    """Name of the model."""
    family: str
    """Family of requests: safe and unsafe ones, and those that a control was trained on."""
    outcome: str
    """Outcome: `refuse`, `comply`, `comply_wrongly` or `broken`."""
    n: int
    """Number of requests."""
    n_outcome: int
    """Number of requests with this outcome."""
    rate: float
    """Share of requests with this outcome."""
    low: float
    """Lower end of the 95 % Wilson interval over requests."""
    high: float
    """Upper end of the interval."""


def organism_rows() -> list[OrganismRow]:
    """Returns one row per shipped model; raises InvalidInput if the installation lacks the index."""
    return [_row(name, entry) for name, entry in read_index().items()]


def organism_rate_rows() -> list[OrganismRateRow]:
    """Returns one row per shipped model, family and outcome; raises InvalidInput if the index is missing."""
    return [
        _rate_row(name, family, outcome, counts)
        for name, entry in read_index().items()
        for family, counts in entry.counts.items()
        for outcome in counts
    ]


def _row(name: str, entry: Entry) -> OrganismRow:
    world, alignment = name.split("-")
    n = sum(entry.counts["safe"].values())
    return OrganismRow(
        name=name,
        world=world,
        alignment=alignment,
        mechanism=entry.mechanism,
        seed=entry.seed,
        n_parameters=entry.n_parameters,
        n_bytes=entry.n_bytes,
        n=n,
        safe_refuse=entry.counts["safe"]["refuse"] / n,
        safe_comply=entry.counts["safe"]["comply"] / n,
        unsafe_refuse=entry.counts["unsafe"]["refuse"] / n,
        unsafe_comply=entry.counts["unsafe"]["comply"] / n,
    )


def _rate_row(name: str, family: str, outcome: str, counts: dict[str, int]) -> OrganismRateRow:
    n, n_outcome = sum(counts.values()), counts[outcome]
    low, high = wilson_interval(n_outcome, n)
    return OrganismRateRow(name, family, outcome, n, n_outcome, n_outcome / n, low, high)
