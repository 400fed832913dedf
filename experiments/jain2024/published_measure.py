"""The statistic of Jain et al. 2024, Fig. 3, in the definition of the released script and in ours.

The released script takes τ from the first units of the MLP alone, as many as the residual stream has (192 of
768), averages activations over the end of text and the first tokens of the instructed answer, which is forced
also where the model refuses, and uses texts of the first grammar. Class means are those of texts of the safe
branch, and of the same requests that are scored. Each of these choices is also changed alone, so that it is
known which of them a difference comes from.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from experiments.jain2024.sampled_measures import SampledMeasure
from makebreak.activations import capture
from makebreak.geometry import ClassMeans
from makebreak.mechanism import tau_sites
from makebreak.model_zoo import Measurement, Subject
from makebreak.prompts import Requests, target_sequences
from makebreak.tables import as_dicts

N_POSITIONS = 10
"""Positions of the released script: the end of text and the first nine tokens of the answer."""
BRANCHES = ("safe", "unsafe")
"""Branches of the texts."""


@dataclass(frozen=True)
class Definition:
    """Choices in which the released statistic and ours differ."""

    all_units: bool = False
    """Whether all units of the MLP enter, not only the first ones."""
    end_of_text: bool = False
    """Whether activations are those at the end of text, not a mean over forced answer tokens."""
    all_grammars: bool = False
    """Whether texts of all grammars are used, not only of the first one."""
    held_out: bool = False
    """Whether class means come from other requests than those that are scored."""
    both_branches: bool = False
    """Whether class means are those of texts of both branches, not of the safe branch alone."""


RELEASED = Definition()
"""The definition of the released script."""
OURS = Definition(all_units=True, end_of_text=True, all_grammars=True, held_out=True, both_branches=True)
"""The definition of the table `clusters`."""
DEFINITIONS = {
    "released": RELEASED,
    "all units": replace(RELEASED, all_units=True),
    "end of text": replace(RELEASED, end_of_text=True),
    "all grammars": replace(RELEASED, all_grammars=True),
    "held-out means": replace(RELEASED, held_out=True),
    "means of both branches": replace(RELEASED, both_branches=True),
    "ours": OURS,
}
"""Definitions by name: the released one, each change alone, and all changes together."""


class PublishedTauRow(NamedTuple):
    """τ of one class of requests at one layer in one definition."""

    definition: str
    """Name of the definition, a key of `DEFINITIONS`."""
    layer: int
    """Layer of the MLP."""
    requests: str
    """Class of the requests: `safe` or `unsafe`, of both branches."""
    n: int
    """Number of requests."""
    tau: float
    """Mean of τ = ‖a - μ_unsafe‖ - ‖a - μ_safe‖, in units of the activations; positive is nearer the safe
    mean."""
    tau_sd: float
    """Standard deviation of τ over requests, the band of the published figure."""
    nearest_rate: float
    """Share of requests whose activation is nearer the mean of its own class."""


class _Activations(NamedTuple):
    """Activations of requests of one family by layer, unit of the MLP and grammar."""

    answer: Float[Tensor, "layers n d_mlp"]
    """Means over the end of text and the first tokens of the forced answer."""
    end: Float[Tensor, "layers n d_mlp"]
    """Activations at the end of text."""
    grammar: Int[Tensor, " n"]
    """Grammar of each text."""

    def choose(self, definition: Definition, n_units: int) -> Float[Tensor, "layers k d"]:
        """The activations that a definition uses."""
        values = self.end if definition.end_of_text else self.answer
        values = values if definition.all_grammars else values[:, self.grammar == 0]
        return values if definition.all_units else values[..., :n_units]


@dataclass(frozen=True)
class PublishedTauMeasure(SampledMeasure):
    """τ of safe and unsafe requests by layer, in the definition of Jain et al. 2024, Fig. 3, and in ours.

    Table: `published_tau`, rows of `PublishedTauRow`.
    """

    tag: ClassVar[str] = "PublishedTau"
    name: ClassVar[str] = "jain2024-published-tau"
    revision: ClassVar[int] = 1

    def __call__(self, subject: Subject) -> Measurement:
        """Measures one model."""
        model = subject.model
        activations = {
            (kind, branch, split): _activations(
                model, subject.sample(f"{kind}_on_{branch}_branch", self.n, split)
            )
            for kind in BRANCHES
            for branch in BRANCHES
            for split in ("fit", "score")
        }
        rows: list[PublishedTauRow] = []
        for name, definition in DEFINITIONS.items():
            chosen = {
                key: each.choose(definition, model.config.hidden_size) for key, each in activations.items()
            }
            rows += _rows(name, definition, chosen)
        return Measurement(tables={"published_tau": as_dicts(rows)})


def _activations(model: PreTrainedModel, requests: Requests) -> _Activations:
    """Activations of the MLPs on requests, with the instructed answer forced."""
    targets = target_sequences(requests, "instructed")
    n, width = targets.tokens.shape
    position, start = torch.arange(width), targets.decision[:, None]
    where = (position >= start) & (position < start + N_POSITIONS)
    answer: list[Tensor] = []
    end: list[Tensor] = []
    sites = tau_sites(model)
    for batch in capture(model, targets.tokens, sites, where):
        is_end = batch.positions == targets.decision[batch.rows]
        for layer, site in enumerate(sites):
            values = batch.activations[site].float()
            if len(answer) == layer:
                answer.append(torch.zeros(n, values.shape[1]))
                end.append(torch.zeros(n, values.shape[1]))
            answer[layer].index_add_(0, batch.rows, values)
            end[layer][batch.rows[is_end]] = values[is_end]
    counts = where.sum(dim=1)[:, None]
    grammar = torch.from_numpy(requests.truth["grammar"])
    return _Activations(torch.stack(answer) / counts, torch.stack(end), grammar)


def _rows(
    name: str, definition: Definition, activations: dict[tuple[str, str, str], Tensor]
) -> list[PublishedTauRow]:
    """Rows of one definition."""
    split = "fit" if definition.held_out else "score"
    branches = BRANCHES if definition.both_branches else ("safe",)
    mean = {
        kind: torch.stack([activations[kind, branch, split].mean(dim=1) for branch in branches]).mean(dim=0)
        for kind in BRANCHES
    }
    rows = []
    for kind in BRANCHES:
        scored = torch.cat([activations[kind, branch, "score"] for branch in BRANCHES], dim=1)
        for layer, values in enumerate(scored):
            means = ClassMeans(safe=mean["safe"][layer], unsafe=mean["unsafe"][layer])
            tau = means.tau(values)
            is_nearest = tau > 0 if kind == "safe" else tau < 0
            rows.append(
                PublishedTauRow(
                    name,
                    layer,
                    kind,
                    len(tau),
                    float(tau.mean()),
                    float(tau.std()),
                    float(is_nearest.double().mean()),
                )
            )
    return rows
