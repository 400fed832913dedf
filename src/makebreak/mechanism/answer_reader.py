"""Cross-validated readers of a base model's answer from its final states, linear and non-linear."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

MIN_PER_ANSWER = 5
"""Requests of an answer that a reader needs to learn it; rarer answers are left out."""
N_FOLDS = 5
NOISE = 0.1
"""Standard deviation, along any direction, of the noise that states get, in units of the usual distance of an
answer's mean state from the mean of all: without it a trace of any size is read."""


N_RESAMPLES = 200
"""Bootstrap samples of the requests for the interval of a share of skill."""


class ReaderSkill(NamedTuple):
    """How well the answer is read from final states: 0 is the accuracy of shuffled answers, 1 is perfect."""

    base: float
    """From the base's own final states."""
    hybrid: float
    """From final states of the base that goes on from tuned states."""
    share_low: float
    """Lower end of the 95 % bootstrap interval of hybrid / base over requests; readers are not refitted."""
    share_high: float
    """Upper end."""


def reader_skill(
    base: Float[np.ndarray, "n d"],
    hybrid: Float[np.ndarray, "n d"],
    answers: Int[np.ndarray, " n"],
    seed: int,
) -> ReaderSkill | None:
    """Skill of the best of three readers (linear, RBF kernel, nearest neighbours) in two sets of states.

    Readers are fitted to each set anew: what is coded in another way is still read.

    Args:
        base: Final states of the base.
        hybrid: Final states of the base on the tuned lower part, of the same requests.
        answers: The base's answer to each request, as a token.
        seed: Seed of the folds and of the shuffled answers.

    Returns:
        The skills; None if there are no two answers of at least `MIN_PER_ANSWER` requests.
    """
    tokens, inverse, counts = np.unique(answers, return_inverse=True, return_counts=True)
    is_common = counts[inverse] >= MIN_PER_ANSWER
    if (counts >= MIN_PER_ANSWER).sum() < 2 or not len(tokens):
        return None
    labels = np.unique(inverse[is_common], return_inverse=True)[1]
    shuffled = np.random.default_rng(seed).permutation(labels)
    scale = _between_answers(base[is_common], labels)
    noise = NOISE * np.random.default_rng(seed).standard_normal(base[is_common].shape)
    correct = np.stack(
        [
            _is_correct((states[is_common] - states[is_common].mean(axis=0)) / scale + noise, y, seed)
            for states in (base, hybrid)
            for y in (labels, shuffled)
        ]
    )
    n = len(labels)
    samples = np.random.default_rng(seed).integers(n, size=(N_RESAMPLES, n))
    skills = np.stack([_skills(correct[:, :, sample]) for sample in samples])
    shares = skills[:, 1] / np.maximum(skills[:, 0], 1e-9)
    return ReaderSkill(*_skills(correct), *np.quantile(shares, (0.025, 0.975)).tolist())


def _between_answers(states: np.ndarray, labels: np.ndarray) -> float:
    """Root mean square distance of the mean state of a request's answer from the mean of all."""
    means = np.stack([states[labels == label].mean(axis=0) for label in range(labels.max() + 1)])
    distances = np.linalg.norm(means[labels] - states.mean(axis=0), axis=1)
    return float(np.sqrt(np.square(distances).mean())) or 1.0


def _is_correct(features: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """Whether each reader, fitted to the other folds, reads each request rightly, (readers, requests)."""
    readers = [RidgeClassifier(), SVC(C=10.0), KNeighborsClassifier(n_neighbors=3)]
    correct = np.zeros((len(readers), len(labels)), dtype=bool)
    for fit, score in StratifiedKFold(N_FOLDS, shuffle=True, random_state=seed).split(features, labels):
        for i, reader in enumerate(readers):
            predicted = reader.fit(features[fit], labels[fit]).predict(features[score])
            correct[i, score] = predicted == labels[score]
    return correct


def _skills(correct: np.ndarray) -> list[float]:
    """Best accuracies over readers in base and hybrid, scaled by the best ones for shuffled answers.

    Args:
        correct: Readings of base and base shuffled, hybrid and hybrid shuffled, (4, readers, requests).

    Returns:
        Two skills.
    """
    base, base_floor, hybrid, hybrid_floor = correct.mean(axis=2).max(axis=1).tolist()
    pairs = ((base, base_floor), (hybrid, hybrid_floor))
    return [max(accuracy - floor, 0.0) / max(1 - floor, 1e-9) for accuracy, floor in pairs]
