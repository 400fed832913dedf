"""Where do attacked requests land, and does that tell whether the attack succeeds?

Jain et al. 2024 say that a jailbreak works because its activations look safe (Fig. 7). τ is taken at the end of text,
never at an attack's own tokens; means come from clean requests that no attack starts from.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.attacks.tried import Tried
from makebreak.geometry import Clusters
from makebreak.mechanism import Pair, cluster_means, collect
from makebreak.models import n_layers
from makebreak.stats import auroc

LEAST = 20  # successes, and failures, that a number needs
FOLDS = 5


class AttackProjection(NamedTuple):
    """means: of clean requests, by layer. tau: of each attack, (n, layers), in units of the distance of the means."""

    means: list[Clusters]
    attacks: list[Tried]
    tau: list[Float[np.ndarray, "n layers"]]

    def select(self, names: Collection[str]) -> AttackProjection:
        """The attacks of these names."""
        chosen = [i for i, found in enumerate(self.attacks) if found.name in names]
        return AttackProjection(self.means, [self.attacks[i] for i in chosen], [self.tau[i] for i in chosen])


def project_attacks(model: PreTrainedModel, fit: Pair, attacks: Sequence[Tried]) -> AttackProjection:
    """At `mlp.hook_post` of the end of text."""
    means = cluster_means(model, fit, int(max(r.truth.get("grammar", np.zeros(1)).max() for r in fit)) + 1)
    return AttackProjection(means, list(attacks), [_tau(model, means, found).numpy() for found in attacks])


def _tau(model: PreTrainedModel, means: Sequence[Clusters], found: Tried) -> Tensor:
    sites = [f"blocks.{layer}.mlp.hook_post" for layer in range(n_layers(model))]
    with found.inside(model):
        states = collect(model, found.requests, sites)
    columns = [
        c.tau(a) / c.distance if c.distance > 0 else c.tau(a) for c, a in zip(means, states, strict=True)
    ]
    return torch.stack(columns, dim=1)


def landing_rows(projection: AttackProjection) -> list[dict[str, Any]]:
    """One row per attack, layer and outcome (`complied`, `refused`, `neither`, `all`).

    n; tau, normalised (in units of the distance of the means) and its standard deviation; safe_side: share with τ above
    0; auroc: of telling by τ which requests are answered as instructed, in the row `all`, None where fewer than `LEAST`
    are or are not.
    """
    rows = []
    for found, tau in zip(projection.attacks, projection.tau, strict=True):
        kinds = {
            "all": np.ones(len(tau), dtype=bool),
            "complied": found.complied,
            "refused": found.refused,
            "neither": ~(found.complied | found.refused),
        }
        for layer, clusters in enumerate(projection.means):
            for outcome, chosen in kinds.items():
                values = tau[chosen, layer]
                said = {"attack": found.name, "layer": layer, "outcome": outcome, "n": int(chosen.sum())}
                if not chosen.any():
                    rows.append(said | dict.fromkeys(("tau", "normalised", "spread", "safe_side", "auroc")))
                    continue
                rows.append(
                    said
                    | {"tau": float(values.mean() * clusters.distance), "normalised": float(values.mean())}
                    | {"spread": float(values.std()), "safe_side": float((values > 0).mean())}
                    | {"auroc": _told(tau[:, layer], found.complied) if outcome == "all" else None}
                )
    return rows


def prediction_rows(landed: AttackProjection, *, seed: int) -> list[dict[str, Any]]:
    """Does τ before the answer predict success better than which attack it is?

    One row per reader (`attack`: a constant for each; `tau`: τ of every layer; `both`; `shuffled`: τ of another
    request): auroc of logistic models on held-out folds over all attacks together, a request in one fold with all its
    attacks; within: mean AUROC within attacks that have `LEAST` of either kind. None where too few succeed or fail.
    """
    attacks, tau = landed.attacks, np.concatenate(landed.tau)
    name = np.concatenate([[found.name] * len(found.requests) for found in attacks])
    complied = np.concatenate([found.complied for found in attacks])
    groups = _same_text(attacks)
    which = OneHotEncoder(sparse_output=False).fit_transform(name[:, None])
    order = np.random.default_rng(seed).permutation(len(tau))
    readers = {"attack": which, "tau": tau, "both": np.hstack([which, tau]), "shuffled": tau[order]}
    enough = min(complied.sum(), (~complied).sum()) >= LEAST
    rows = []
    for reader, features in readers.items():
        score = _held_out(features, complied, groups) if enough else None
        inside = (
            None
            if score is None
            else [_told(score[name == a], complied[name == a]) for a in dict.fromkeys(name)]
        )
        defined = [value for value in inside or [] if value is not None]
        rows.append(
            {"reader": reader, "n": len(complied), "n_complied": int(complied.sum())}
            | {"auroc": None if score is None else _told(score, complied)}
            | {"within": float(np.mean(defined)) if defined and reader != "attack" else None}
        )
    return rows


def _held_out(features: np.ndarray, label: np.ndarray, groups: np.ndarray) -> np.ndarray:
    reader = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    folds = GroupKFold(min(FOLDS, len(np.unique(groups))))
    chances = cross_val_predict(reader, features, label, groups=groups, cv=folds, method="predict_proba")
    return np.asarray(chances)[:, 1]


def _same_text(attacks: Sequence[Tried]) -> np.ndarray:
    """A number for each text: the same for all attacks on it."""
    column = "text" if "text" in attacks[0].requests.truth else "request"
    texts = np.concatenate([found.requests.truth[column] for found in attacks])
    return np.unique(texts, axis=0, return_inverse=True)[1].reshape(-1)


def _told(score: np.ndarray, label: np.ndarray) -> float | None:
    return auroc(positive=score[label], negative=score[~label]) if min(label.sum(), (~label).sum()) >= LEAST else None
