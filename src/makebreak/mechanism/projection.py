"""Class-mean projections of attacked requests, and how well they predict whether an attack succeeds.

Jain et al. 2024 say that a jailbreak works because its activations look safe (Fig. 7). τ is taken at the end
of text, never at an attack's own tokens; the class means come from clean requests that no attack starts from.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from transformers import PreTrainedModel

from makebreak.geometry import ClassMeans
from makebreak.mechanism.attacked import AttackedRequests
from makebreak.mechanism.clusters import cluster_means
from makebreak.mechanism.directions import SafeUnsafeRequests
from makebreak.mechanism.end_of_text import end_of_text_activations, tau_sites
from makebreak.prompts import Requests, request_truth
from makebreak.stats import auroc

MIN_PER_OUTCOME = 20
"""Fewest successes, and fewest failures, from which an AUROC is computed."""
N_FOLDS = 5
"""Folds of the cross-validation of success prediction."""


class AttackProjection(NamedTuple):
    """τ of attacked requests at `mlp.hook_post` of every layer."""

    means: list[ClassMeans]
    """Class means of the clean requests, by layer."""
    attacks: list[AttackedRequests]
    """The attacks."""
    tau: list[Float[np.ndarray, "n n_layers"]]
    """τ of each attack's requests, in units of the distance between the class means."""

    def select(self, names: Collection[str]) -> AttackProjection:
        """Returns the projection of the attacks with these names only."""
        chosen = [i for i, attack in enumerate(self.attacks) if attack.name in names]
        return AttackProjection(self.means, [self.attacks[i] for i in chosen], [self.tau[i] for i in chosen])


def project_attacks(
    model: PreTrainedModel, fit: SafeUnsafeRequests, attacks: Sequence[AttackedRequests]
) -> AttackProjection:
    """Projects attacked requests onto the line between the class means at the end of text.

    Args:
        model: The model that is attacked.
        fit: Clean safe and unsafe requests, of which the class means are computed, balanced over grammars.
        attacks: Results of the attacks.

    Returns:
        τ of every request at `mlp.hook_post` of every layer.
    """
    n_groups = int(max(requests.truth.get("grammar", np.zeros(1)).max() for requests in fit)) + 1
    means, tau = cluster_means(model, fit, n_groups), []
    for attack in attacks:
        with attack.attach(model):
            tau.append(normalised_tau(model, dict(enumerate(means)), attack.requests))
    return AttackProjection(means, list(attacks), tau)


def normalised_tau(
    model: PreTrainedModel, means: Mapping[int, ClassMeans], requests: Requests
) -> Float[np.ndarray, "n n_layers"]:
    """τ of requests at the end of text, in units of the distance between the class means.

    Args:
        model: The model.
        means: Class means at `tau_sites` by layer.
        requests: The requests.

    Returns:
        One column per layer, positive on the safe side; in units of the activations where the class means
        are equal.
    """
    sites = [tau_sites(model)[layer] for layer in means]
    states = end_of_text_activations(model, requests, sites)
    columns = []
    for clusters, activations in zip(means.values(), states, strict=True):
        tau = clusters.tau(activations)
        columns.append(tau / clusters.distance if clusters.distance > 0 else tau)
    return torch.stack(columns, dim=1).numpy()


class ProjectionRow(NamedTuple):
    """Projection of one attack's requests with one outcome, at one layer."""

    attack: str
    """Name of the attack."""
    layer: int
    """Layer, from 0."""
    outcome: str
    """`all`, `complied`, `refused` or `neither`."""
    n: int
    """Number of requests with the outcome."""
    tau: float | None
    """Mean τ in units of the activations; None if n is 0."""
    tau_normalised: float | None
    """Mean τ in units of the distance between the class means; None if n is 0."""
    tau_normalised_std: float | None
    """Standard deviation of the normalised τ; None if n is 0."""
    safe_side_share: float | None
    """Share of requests with τ above 0, on the safe side of the midpoint; None if n is 0."""
    auroc: float | None
    """AUROC of τ for compliance against all other outcomes; only in rows of outcome `all`, and None if there
    are fewer than `MIN_PER_OUTCOME` of either."""


def projection_rows(projection: AttackProjection) -> list[ProjectionRow]:
    """Returns one row per attack, layer and outcome."""
    rows = []
    for attack, tau in zip(projection.attacks, projection.tau, strict=True):
        masks = {
            "all": np.ones(len(tau), dtype=bool),
            "complied": attack.complies,
            "refused": attack.refuses,
            "neither": ~(attack.complies | attack.refuses),
        }
        for layer, clusters in enumerate(projection.means):
            for outcome, mask in masks.items():
                values, n = tau[mask, layer], int(mask.sum())
                if not n:
                    rows.append(ProjectionRow(attack.name, layer, outcome, n, None, None, None, None, None))
                    continue
                success_auroc = auroc_or_none(tau[:, layer], attack.complies) if outcome == "all" else None
                rows.append(
                    ProjectionRow(
                        attack=attack.name,
                        layer=layer,
                        outcome=outcome,
                        n=n,
                        tau=float(values.mean() * clusters.distance),
                        tau_normalised=float(values.mean()),
                        tau_normalised_std=float(values.std()),
                        safe_side_share=float((values > 0).mean()),
                        auroc=success_auroc,
                    )
                )
    return rows


class SuccessPredictionRow(NamedTuple):
    """Cross-validated prediction of an attack's success by one predictor."""

    predictor: str
    """`attack`, a constant for each attack; `tau`, τ of every layer; `both`; `shuffled`, τ of another
    request."""
    n: int
    """Number of attacked requests, all attacks together."""
    n_complied: int
    """Number of them that are complied with."""
    auroc: float | None
    """AUROC of a logistic model on held-out folds, all attacks together; a request is in one fold with all
    its attacks. None if fewer than `MIN_PER_OUTCOME` attacked requests succeed or fail."""
    auroc_within_attack: float | None
    """Mean AUROC within the attacks that have `MIN_PER_OUTCOME` of either outcome; None if there are none,
    and for the predictor `attack`."""


def success_prediction_rows(projection: AttackProjection, *, seed: int) -> list[SuccessPredictionRow]:
    """Compares τ before the answer with the name of the attack as predictors of success.

    Args:
        projection: τ of attacked requests.
        seed: Seed of the permutation of the predictor `shuffled`.

    Returns:
        One row per predictor.
    """
    attacks, tau = projection.attacks, np.concatenate(projection.tau)
    name = np.concatenate([[attack.name] * len(attack.requests) for attack in attacks])
    complied = np.concatenate([attack.complies for attack in attacks])
    groups = _text_groups(attacks)
    one_hot = OneHotEncoder(sparse_output=False).fit_transform(name[:, None])
    order = np.random.default_rng(seed).permutation(len(tau))
    predictors = {"attack": one_hot, "tau": tau, "both": np.hstack([one_hot, tau]), "shuffled": tau[order]}
    enough = min(complied.sum(), (~complied).sum()) >= MIN_PER_OUTCOME
    rows = []
    for predictor, features in predictors.items():
        overall, within = None, None
        if enough:
            score = _held_out_scores(features, complied, groups)
            overall = auroc_or_none(score, complied)
            by_attack = [auroc_or_none(score[name == a], complied[name == a]) for a in dict.fromkeys(name)]
            defined = [value for value in by_attack if value is not None]
            within = float(np.mean(defined)) if defined and predictor != "attack" else None
        rows.append(SuccessPredictionRow(predictor, len(complied), int(complied.sum()), overall, within))
    return rows


def _held_out_scores(features: np.ndarray, label: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """(n,) probability of success of each request by a logistic model fitted on the other folds."""
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    folds = GroupKFold(min(N_FOLDS, len(np.unique(groups))))
    probabilities = cross_val_predict(
        classifier, features, label, groups=groups, cv=folds, method="predict_proba"
    )
    return np.asarray(probabilities)[:, 1]


def _text_groups(attacks: Sequence[AttackedRequests]) -> np.ndarray:
    """(n,) number of each request's text, the same for all attacks on it."""
    column = "text" if "text" in attacks[0].requests.truth else "request"
    texts = np.concatenate([request_truth(attack.requests, column) for attack in attacks])
    return np.unique(texts, axis=0, return_inverse=True)[1].reshape(-1)


def auroc_or_none(score: np.ndarray, label: np.ndarray, *, min_each: int = MIN_PER_OUTCOME) -> float | None:
    """AUROC of a score, None if there are fewer than `min_each` of either label."""
    if min(label.sum(), (~label).sum()) < min_each:
        return None
    return auroc(positive=score[label], negative=score[~label])
