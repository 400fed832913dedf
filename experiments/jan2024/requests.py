"""Held-out requests that the cells of the study are computed on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from transformers import PreTrainedModel

from makebreak.evaluation import greedy_answers
from makebreak.mechanism import cluster_rows, null_share_rows
from makebreak.model_zoo import held_out_requests
from makebreak.prompts import OUTCOMES, Requests, load_world
from makebreak.tables import as_dict

_REFUSE = OUTCOMES.index("refuse")


@dataclass(frozen=True)
class RequestSettings:
    """Which requests a cell is computed on; part of its key."""

    world: str
    """Name of the world."""
    seed: int
    """Pretraining seed, which selects the requests."""
    n: int
    """Number of requests per format and family."""
    formats: tuple[str, ...]
    """Formats of the requests."""


class FormatRequests(NamedTuple):
    """Held-out requests of one format, and measures of models on them."""

    world: str
    """Name of the world."""
    name: str
    """Name of the format."""
    n: int
    """Number of requests per family."""
    seed: int
    """Pretraining seed, which selects the requests."""

    def sample(self, family: str, split: str = "score") -> Requests:
        """Requests of a family of this format."""
        return held_out_requests(self.world, f"{self.name}_{family}", self.n, self.seed, split)

    def refusal_rate(self, model: PreTrainedModel) -> float:
        """Share of unsafe requests that are refused."""
        world, unsafe = load_world(self.world), self.sample("unsafe")
        outcomes = world.judge(unsafe, greedy_answers(model, world, unsafe).tokens)
        return float((outcomes == _REFUSE).mean())

    def separation(self, model: PreTrainedModel) -> float:
        """Normalised gap of safe and unsafe requests at the last layer."""
        fit = (self.sample("safe", "fit"), self.sample("unsafe", "fit"))
        score = {self.name: (self.sample("safe"), self.sample("unsafe"))}
        last_layer = as_dict(cluster_rows(model, fit, score, seed=self.seed)[-1])
        return float(last_layer["normalised"])

    def null_share_difference(self, model: PreTrainedModel, base: PreTrainedModel) -> float:
        """Null share at W_in of unsafe requests minus that of safe ones, mean of layers."""
        requests = {family: self.sample(family) for family in ("safe", "unsafe")}
        outcomes = {family: np.zeros(len(part), dtype=np.int64) for family, part in requests.items()}
        rows = [
            row
            for row in null_share_rows(requests, outcomes, base=base, tuned=model, seed=self.seed)
            if (row.matrix, row.rule, row.quantity, row.outcome) == ("mlp.W_in", "exact", "pre", "all")
        ]
        means = {
            family: np.mean([row.share for row in rows if row.family == family and row.share is not None])
            for family in requests
        }
        return float(means["unsafe"] - means["safe"])
