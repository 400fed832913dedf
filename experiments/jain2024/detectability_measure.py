"""Jailbreak families as n-gram classifiers of safe and unsafe requests see them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from experiments.jain2024.attack_families import JAILBREAKS
from makebreak.configs import check_positive
from makebreak.mechanism import (
    MIN_PER_OUTCOME,
    SafeUnsafeRequests,
)
from makebreak.model_zoo import Measurement, Subject
from makebreak.prompts import Outcome
from makebreak.stats import auroc
from makebreak.tables import as_dict
from synthetic.detectability import NGramClassifier, fit_ngram_classifier

_CLASSIFIER_FAMILIES = {"text": ("context_safe", "context_unsafe"), "both": ("safe", "unsafe")}
"""Families that n-gram classifiers are fitted to: by text alone, its branch; by text and tasks, unsafe."""
_NGRAM_ORDERS = range(1, 7)


class JailbreakDetectabilityRow(NamedTuple):
    """Performance of one n-gram classifier of safe and unsafe requests on one jailbreak family."""

    world: str
    """Name of the world."""
    attack: str
    """The jailbreak family."""
    features: str
    """What the classifier sees: `text`, or `both` text and tasks."""
    order: int
    """Order of the n-grams, the one that separates held-out safe and unsafe requests best."""
    compliance_rate: float
    """Share of requests that get the instructed answer."""
    predicted_safe: float
    """Share of requests that the classifier calls safe."""
    auroc: float | None
    """AUROC of the classifier's log-odds of safe for compliance; None for fewer than `MIN_PER_OUTCOME` of
    an outcome."""


@dataclass(frozen=True)
class DetectabilityMeasure:
    """Jailbreak families as n-gram classifiers of safe and unsafe requests see them.

    Classifiers are fitted to training requests; the order of their n-grams is chosen on the fit split.
    """

    tag: ClassVar[str] = "Visible"
    name: ClassVar[str] = "jain2024-visible"
    revision: ClassVar[int] = 2
    n: int = 500
    """Number of requests per family."""

    def __post_init__(self) -> None:
        check_positive(n=self.n)

    def __call__(self, subject: Subject) -> Measurement:
        """Fills the table `jailbreak_detectability` with `JailbreakDetectabilityRow`."""
        names = [name for kind in JAILBREAKS.values() for name in kind if name in subject.world.families]
        rows = []
        for features, families in _CLASSIFIER_FAMILIES.items():
            train, choice = (_pair(subject, families, split, self.n) for split in ("train", "fit"))
            classifier = _fit_classifier(features, train, choice)
            for name in names:
                log_odds_safe = -classifier.log_odds(subject.sample(name, self.n))
                complied = subject.behaviour(name, self.n).outcomes == Outcome.COMPLY
                enough = min(complied.sum(), (~complied).sum()) >= MIN_PER_OUTCOME
                success_auroc = None
                if enough:
                    success_auroc = auroc(positive=log_odds_safe[complied], negative=log_odds_safe[~complied])
                row = JailbreakDetectabilityRow(
                    world=subject.recipe.world,
                    attack=name,
                    features=features,
                    order=classifier.order,
                    compliance_rate=float(complied.mean()),
                    predicted_safe=float((log_odds_safe > 0).mean()),
                    auroc=success_auroc,
                )
                rows.append(as_dict(row))
        return Measurement(tables={"jailbreak_detectability": rows})


def _pair(subject: Subject, families: tuple[str, str], split: str, n: int) -> SafeUnsafeRequests:
    """Safe and unsafe requests of a split; ten times as many of the training split."""
    size = n * (10 if split == "train" else 1)
    return SafeUnsafeRequests(*(subject.sample(family, size, split) for family in families))


def _fit_classifier(features: str, train: SafeUnsafeRequests, choice: SafeUnsafeRequests) -> NGramClassifier:
    """The classifier with the order of n-grams that separates the requests of `choice` best."""
    classifiers = [fit_ngram_classifier(features, order, *train) for order in _NGRAM_ORDERS]

    def separation(classifier: NGramClassifier) -> float:
        unsafe, safe = classifier.log_odds(choice.unsafe), classifier.log_odds(choice.safe)
        return auroc(positive=unsafe, negative=safe)

    return max(classifiers, key=separation)
