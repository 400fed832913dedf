"""How are the study's models attacked, and where do attacked requests land?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from makebreak.attacks import (
    AttackResult,
    SearchMethod,
    SoftPromptAttack,
    SoftPromptSettings,
    SteeringData,
    SteeringRow,
    TokenSearchAttack,
    TokenSearchSettings,
    min_prefill_length,
    project_attacks,
    projection_rows,
    steering_rows,
    success_prediction_rows,
)
from makebreak.attacks.projection import MIN_PER_OUTCOME
from makebreak.configs import check_positive
from makebreak.defences import FALSE_POSITIVE_RATE, MONITOR_KINDS, Monitor, flag_requests, fit_monitors
from makebreak.mechanism import Pair
from makebreak.models import n_layers
from makebreak.requests import OUTCOMES, Requests
from makebreak.stats import auroc
from makebreak.tables import as_dict
from makebreak.zoo import Measurement, Subject
from synthetic.detectability import NGramClassifier
from synthetic.detectability import fit_ngram_classifier as fit_reader

# Jain et al. 2024: competing objectives in text and in tasks, mismatched generalisation in tasks and in text
JAILBREAKS = {
    "CO-Text": ("mixed_text",),
    "CO-Task": ("competing_tasks_safe_branch", "competing_tasks_unsafe_branch"),
    "MisGen": ("duplicate_tasks",),
    "MisGen-Text": ("heldout_text",),
}
SECOND = ("second_composition_safe_branch", "second_composition_unsafe_branch")  # judged behind an answer
N_SOFT = (1, 2, 5, 10)
IDLE = 4  # positions that the judged output does not hang on
# what readers of n-grams learn from: of text, which branch it is of; of text and tasks, what is unsafe
_READERS = {"text": ("context_safe", "context_unsafe"), "both": ("safe", "unsafe")}
_ORDERS = range(1, 7)
_SHIFTED = (f"soft {N_SOFT[-1]}", f"gcg {IDLE}")  # whose successes are moved back, beside the jailbreaks'


@dataclass(frozen=True)
class Attacks:
    """Jailbreak families, soft and typed tokens, prefilling; where they land, whether that tells and causes success,
    and whether monitors see them. Only requests that the model refuses are attacked. In a world of one fixed layout
    tokens that are put in break every answer, so typed ones take the place of tokens that the answer does not hang on.

    n: requests per family. attacked: refused ones per attack. steps, candidates: of typed attacks, the same for all
    three.
    """

    name: ClassVar[str] = "jain2024-attacks"
    revision: ClassVar[int] = 5
    n: int = 500
    attacked: int = 200
    steps: int = 8
    candidates: int = 32

    def __post_init__(self) -> None:
        check_positive(n=self.n, attacked=self.attacked, steps=self.steps, candidates=self.candidates)

    def __call__(self, subject: Subject) -> Measurement:
        model, seed = subject.model, subject.recipe.seed
        fit, quiet = self._clean(subject)
        monitors = fit_monitors(model, fit, quiet)
        clean = {family: self._asked(subject, family) for family in ("safe", "unsafe")}
        families = [
            self._asked(subject, family)
            for kind in JAILBREAKS.values()
            for family in kind
            if family in subject.world.families
        ]
        refused = clean["unsafe"].requests[np.flatnonzero(clean["unsafe"].refused)[: self.attacked]]
        found = list(families)
        if len(refused) >= MIN_PER_OUTCOME:
            found += [attack(model, refused, seed=seed) for attack in self._attacks(subject)]
            found += self._evading(subject, monitors, refused)
        everything = [clean["safe"], clean["unsafe"], *found]
        landed = project_attacks(model, fit, everything)
        second = [self._asked(subject, family) for family in SECOND if family in subject.world.families]
        tables: dict[str, Sequence[Any]] = {
            "attacks": [_rates(each) for each in (*everything, *second)],
            "landing": projection_rows(landed),
            "depth": _depth(model, refused),
            "monitors": _alarms(model, monitors, everything),
        }
        adversarial = {each.name for each in found if not each.name.startswith("random soft")}
        tables["prediction"] = success_prediction_rows(landed.select(adversarial), seed=seed)
        shifted = [*families, *(each for each in found if each.name in _SHIFTED)]
        tables["cause"] = _causes(subject, fit, self.attacked, [clean["safe"], clean["unsafe"]], shifted)
        columns = {f"attack.{row['attack']}.complied": row["complied"] for row in tables["attacks"]}
        world = {"world": subject.recipe.world}
        return Measurement(columns, {name: [world | as_dict(row) for row in rows] for name, rows in tables.items()})

    def _clean(self, subject: Subject) -> tuple[Pair, Requests]:
        """Requests of the half that is fitted on, and safe ones of it for monitors' thresholds."""
        n = max(self.n, round(1 / FALSE_POSITIVE_RATE))
        safe, unsafe = (subject.sample(family, 2 * n, "fit") for family in ("safe", "unsafe"))
        return Pair(safe[:n], unsafe[:n]), safe[n:]

    def _asked(self, subject: Subject, family: str) -> AttackResult:
        """A family as it is, as an attack that changes nothing."""
        found = subject.behaviour(family, self.n).outcomes
        refused, complied = (found == OUTCOMES.index(outcome) for outcome in ("refuse", "comply"))
        return AttackResult(family, subject.sample(family, self.n), refused, complied)

    def _attacks(self, subject: Subject) -> list[SoftPromptAttack | TokenSearchAttack]:
        soft = [SoftPromptAttack(SoftPromptSettings(k)) for k in N_SOFT]
        soft.append(SoftPromptAttack(SoftPromptSettings(N_SOFT[-1]), optimise=False))
        soft.append(SoftPromptAttack(SoftPromptSettings(N_SOFT[-1], universal=True)))
        token = subject.world.vocabulary.id("<pad>")
        hows: tuple[tuple[SearchMethod, bool], ...]
        hows = (("gradient", False), ("search", False), ("random", False), ("gradient", True))
        typed = [
            TokenSearchAttack(TokenSearchSettings(how, self.steps, self.candidates, universal=universal), IDLE, token, "unused")
            for how, universal in hows
        ]
        return [*soft, *typed]

    def _evading(
        self, subject: Subject, monitors: Mapping[tuple[str, int], Monitor], refused: Requests
    ) -> list[AttackResult]:
        """Soft tokens that also keep a monitor at half depth quiet, one attack for each kind of monitor."""
        soft, half = SoftPromptSettings(N_SOFT[-1]), n_layers(subject.model) // 2
        attacks = [
            SoftPromptAttack(
                soft, penalty=monitors[kind, half].evasion_penalty(), label=f"soft {soft.n_tokens} evading {kind}"
            )
            for kind in MONITOR_KINDS
        ]
        return [attack(subject.model, refused, seed=subject.recipe.seed) for attack in attacks]


@dataclass(frozen=True)
class Visible:
    """How much of a jailbreak family's success is what a reader of n-grams sees?

    One row per family and reader, which is fitted on training requests, its order chosen on others: called_safe, the
    share of requests that look safe to it; auroc, of telling by that which succeed. n: requests per family.
    """

    name: ClassVar[str] = "jain2024-visible"
    revision: ClassVar[int] = 1
    n: int = 500

    def __post_init__(self) -> None:
        check_positive(n=self.n)

    def __call__(self, subject: Subject) -> Measurement:
        rows = []
        for reader, kinds in _READERS.items():
            fitted = _fitted(reader, *(_pair(subject, kinds, split, self.n) for split in ("train", "fit")))
            for family in (f for kind in JAILBREAKS.values() for f in kind if f in subject.world.families):
                looks_safe = -fitted.log_odds(subject.sample(family, self.n))
                complied = subject.behaviour(family, self.n).outcomes == OUTCOMES.index("comply")
                enough = min(complied.sum(), (~complied).sum()) >= MIN_PER_OUTCOME
                rows.append(
                    {"world": subject.recipe.world, "attack": family, "reader": reader, "order": fitted.order}
                    | {"complied": float(complied.mean()), "called_safe": float((looks_safe > 0).mean())}
                    | {"auroc": auroc(positive=looks_safe[complied], negative=looks_safe[~complied]) if enough else None}
                )
        return Measurement(tables={"visible": rows})


def _pair(subject: Subject, kinds: tuple[str, str], split: str, n: int) -> list[Requests]:
    return [subject.sample(kind, n * (10 if split == "train" else 1), split) for kind in kinds]


def _fitted(reader: str, train: list[Requests], choose: list[Requests]) -> NGramClassifier:
    """Of the order that tells the two kinds apart best."""
    readers = [fit_reader(reader, order, *train) for order in _ORDERS]
    return max(readers, key=lambda r: auroc(positive=r.log_odds(choose[1]), negative=r.log_odds(choose[0])))


def _rates(found: AttackResult) -> dict[str, Any]:
    complied, refused = float(found.complied.mean()), float(found.refused.mean())
    return {
        "attack": found.name,
        "n": len(found.requests),
        "complied": complied,
        "refused": refused,
        "neither": 1 - complied - refused,
        "n_complied": int(found.complied.sum()),
    }


def _depth(model: Any, refused: Requests) -> list[dict[str, Any]]:
    """Share of refused requests that are answered to the end once k tokens of the answer are forced."""
    if not len(refused):
        return []
    depth = min_prefill_length(model, refused)
    length = int((refused.judged[:, 1] - refused.judged[:, 0]).max())
    return [{"forced": k, "complied": float((depth <= k).mean()), "n": len(depth)} for k in range(length)]


def _alarms(
    model: Any, monitors: Mapping[tuple[str, int], Monitor], attacks: list[AttackResult]
) -> list[dict[str, Any]]:
    """Share of each attack's requests, and of those that succeed, that a monitor of each kind and layer sees."""
    rows = []
    for found in attacks:
        with found.attach(model):
            seen = flag_requests(list(monitors.values()), model, found.requests)
        for (kind, layer), alarm in zip(monitors, seen, strict=True):
            won = alarm[found.complied]
            rows.append(
                {"monitor": kind, "layer": layer, "attack": found.name, "n": len(alarm)}
                | {"alarms": float(alarm.mean()), "n_complied": len(won)}
                | {"alarms_complied": float(won.mean()) if len(won) >= MIN_PER_OUTCOME else None}
            )
    return rows


def _causes(
    subject: Subject, fit: Pair, n: int, clean: list[AttackResult], attacks: list[AttackResult]
) -> list[SteeringRow]:
    """At the input of every block but the first, where all ends of text are alike. n: clean requests of a kind, and
    successes, as many of each attack."""
    other = torch.from_numpy(np.concatenate([requests.truth["grammar"] for requests in fit]))
    won = [found[np.flatnonzero(found.complied)[: -(-n // len(attacks))]] for found in attacks]
    if sum(len(found.requests) for found in won) < MIN_PER_OUTCOME:
        return []
    data = SteeringData(fit, Pair(*(found.requests[:n] for found in clean)), other)
    return [
        row
        for layer in range(1, n_layers(subject.model))
        for row in steering_rows(
            subject.model, won, data, layer=layer, seed=subject.recipe.seed
        )
    ]
