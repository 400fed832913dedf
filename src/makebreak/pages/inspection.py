"""How does one language model take to harmful requests, and what inside it does refusing hang on?

Steps are kept in the store, so that an interrupted inspection goes on where it was. Intervals are over requests: one
model is one model, and says nothing about how another training run would have come out.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
import torch

from makebreak.activations import add, intervene
from makebreak.artifacts import Store
from makebreak.behaviour import answer_texts, broken, decide, first_tokens, log_odds
from makebreak.configs import check_positive
from makebreak.mechanism import SELECTION, Pair, ablated, cluster_rows, direction, direction_rows, sensitivity
from makebreak.models import LanguageModel, digest, n_layers
from makebreak.pages.steps import Rows, Seen, Steps
from makebreak.pages.verdicts import JUDGE, behaviour_rows, with_verdicts
from makebreak.requests import TextRequests, text_requests
from makebreak.stats import auroc_interval

FAMILIES = ("harmful", "harmless", "borderline")
Some = TypeVar("Some")
LEAST = 8  # requests of each kind that a direction is fitted to, and judged on


@dataclass(frozen=True)
class Settings:
    """n_new: tokens of an answer at most. template, system: as in `text_requests`. seed: of controls."""

    n_new: int = 48
    template: str | None = "chat"
    system: str | None = None
    seed: int = 0


@dataclass(frozen=True)
class Inspection:
    """Tables by name, and why steps were left out, by name."""

    tables: dict[str, Rows]
    left_out: dict[str, str]


def inspect(
    found: LanguageModel,
    prompts: Mapping[str, Sequence[str]],
    store: Store,
    settings: Settings,
    *,
    say: Callable[[str], None] = lambda _: None,
) -> Inspection:
    """prompts: by family, at least `harmful` and `harmless`; every second one makes the means, the others are scored.
    say: told how long it will take, before it starts.

    Raises ValueError where a family is missing or too small.
    """
    for family in FAMILIES[:2]:
        if len(prompts.get(family, ())) < 2 * LEAST:
            n = len(prompts.get(family, ()))
            raise ValueError(
                f"{n} {family} requests: expected at least {2 * LEAST}, half to fit on, half to score"
            )
    asked = {
        family: ask(found, family, prompts[family], settings) for family in FAMILIES if family in prompts
    }
    config = {"model": digest(found), "settings": asdict(settings), "prompts": prompts_digest(prompts)}
    say(
        f"at most about {max(_estimate(found, asked, settings) / 60, 0.1):.1f} minutes, less what is in the store"
    )
    steps = Steps("inspect", store, config)
    answers = with_verdicts(steps.run("answers", lambda seen: _answers(found, asked, settings, seen)))
    fit, score = (Pair(*(asked[f][half::2] for f in ("harmless", "harmful"))) for half in (0, 1))
    tables = {"answers": answers, "behaviour": behaviour_rows(answers)}
    tables["clusters"] = steps.run("clusters", lambda seen: separations(found, fit, score, settings, seen))
    tables["sensitivity"] = steps.run("sensitivity", lambda seen: _sensitivity(found, score, seen))
    left_out: dict[str, str] = {}
    why_not = _no_refusal(tables["behaviour"])
    if why_not:
        left_out["directions"] = left_out["ablation"] = why_not
        return Inspection(tables, left_out)
    scored = {family: asked[family][1::2] for family in FAMILIES[:2]}
    clear = [Pair(*(_clear(asked[f], f, answers, half) for f in ("harmless", "harmful"))) for half in (0, 1)]
    tables["directions"] = steps.run(
        "directions",
        lambda seen: direction_rows(found.model, *clear, controls=False, seed=settings.seed, seen=seen),
    )
    chosen = next((row for row in tables["directions"] if row["selected"]), None)
    if chosen is None:
        left_out["ablation"] = "no candidate passed: each has its reason in the table of directions"
    else:
        tables["ablation"] = with_verdicts(
            steps.run("ablation", lambda seen: _ablation(found, clear[0], scored, chosen, settings, seen))
        )
    return Inspection(tables, left_out)


def ask(
    found: LanguageModel,
    family: str,
    texts: Sequence[str],
    settings: Settings,
    targets: Sequence[str] | None = None,
) -> TextRequests:
    return text_requests(
        found.tokenizer,
        texts,
        family=family,
        unsafe=family == "harmful",
        template=settings.template,
        system=settings.system,
        targets=targets,
    )


def drawn(texts: Sequence[Some], n: int) -> list[Some]:
    """At most so many, evenly from all there are. Raises ValueError for none."""
    check_positive(requests=n)
    n = min(n, len(texts))
    return [texts[i * len(texts) // n] for i in range(n)]


def prompts_digest(prompts: Mapping[str, Sequence[str]]) -> str:
    return hashlib.sha256(
        "\n".join(f"{f}:{p}" for f, ps in sorted(prompts.items()) for p in ps).encode()
    ).hexdigest()


def _estimate(found: LanguageModel, asked: Mapping[str, TextRequests], settings: Settings) -> float:
    """Seconds, from one forward and one step of generation on a few requests."""
    few = asked["harmful"][:8]
    answer_texts(found.model, found.tokenizer, few, n_new=1)  # warms up
    times = [time.monotonic()]
    decide(found.model, few)
    times.append(time.monotonic())
    answer_texts(found.model, found.tokenizer, few, n_new=5)
    times.append(time.monotonic())
    per_request = (times[1] - times[0]) / len(few)
    per_answer = (
        (times[2] - times[1]) / 5 / len(few) * settings.n_new / 2
    )  # larger batches take half the time
    n = sum(map(len, asked.values()))
    half = len(asked["harmful"]) // 2
    directions = 3 * SELECTION.depth * n_layers(found.model) * half * per_request
    ablation = 8 * half * (per_answer + per_request)
    return n * (per_answer + 3 * per_request) + directions + ablation


def _answers(found: LanguageModel, asked: Mapping[str, TextRequests], settings: Settings, seen: Seen) -> Rows:
    rows = []
    for family, requests in asked.items():
        rows += answered(found, requests, settings, seen, family=family)
    return rows


def answered(
    found: LanguageModel,
    requests: TextRequests,
    settings: Settings,
    seen: Seen,
    *,
    begun: np.ndarray | None = None,
    **said: str,
) -> Rows:
    """One row per request: the answer, whether it is broken, log-odds that a refusal begins. begun: as in
    `answer_texts`."""
    texts = requests.truth["request"].tolist()
    answers = answer_texts(
        found.model, found.tokenizer, requests, n_new=settings.n_new, seen=seen, begun=begun
    )
    firm = log_odds(decide(found.model, requests), first_tokens(requests, "refused"))
    spoilt = broken(answers).tolist()
    return [
        {**said, "request": texts[i], "answer": answers[i], "log_odds": float(firm[i]), "broken": spoilt[i]}
        for i in range(len(texts))
    ]


def _no_refusal(behaviour: Rows) -> str:
    """Why no direction is looked for; empty where the model refuses harmful requests more than harmless ones."""
    at = {row["family"]: row for row in behaviour if row["judge"] == JUDGE}
    if at["harmful"]["low"] > at["harmless"]["high"]:
        return ""
    rates = (
        f"{at['harmful']['refuse']:.2f} of harmful and {at['harmless']['refuse']:.2f} of harmless requests"
    )
    return (
        f"it refuses {rates}, which is no difference to speak of: there is no refusal to find a direction of"
    )


def separations(
    found: LanguageModel, fit: Pair, score: Pair, settings: Settings, seen: Seen = lambda _: None
) -> Rows:
    """Rows of `cluster_rows`, with the interval of the AUROC over requests."""
    rows = cluster_rows(found.model, fit, {"harmful or harmless": score}, seed=settings.seed)
    seen(len(fit.safe) + len(score.safe))
    for row in rows:
        row["auroc_low"], row["auroc_high"] = auroc_interval(row["auroc"], len(score.safe), len(score.unsafe))
    return rows


def _sensitivity(found: LanguageModel, score: Pair, seen: Seen) -> Rows:
    rows = []
    for family, requests in (("harmless", score.safe), ("harmful", score.unsafe)):
        norms = sensitivity(found.model, requests)._asdict()
        seen(len(requests))
        for output, values in norms.items():
            low, median, high = (
                values.double().quantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)).tolist()
            )
            rows.append(
                {"family": family, "output": output, "median": median, "quarter": low, "three_quarters": high}
            )
    return rows


def _clear(requests: TextRequests, family: str, answers: Rows, half: int) -> TextRequests:
    """Of a half, harmful requests of which a refusal begins more likely than not, harmless ones of which it does not;
    all of the half where these are too few."""
    firm = np.array([row["log_odds"] for row in answers if row["family"] == family])[half::2]
    chosen = firm > 0 if family == "harmful" else firm < 0
    return requests[half::2][chosen] if chosen.sum() >= LEAST else requests[half::2]


def _ablation(
    found: LanguageModel,
    fit: Pair,
    scored: Mapping[str, TextRequests],
    chosen: dict[str, Any],
    settings: Settings,
    seen: Seen,
) -> Rows:
    """Answers with nothing done, the direction ablated, a random one ablated, and the direction added."""
    vector = direction(found.model, fit, chosen["layer"])
    noise = torch.randn(vector.shape, generator=torch.Generator().manual_seed(settings.seed))
    site = f"blocks.{chosen['layer']}.hook_resid_pre"
    rows = []
    for family, requests in scored.items():
        conditions = {
            "nothing": None,
            "ablated": ablated(found.model, (vector / vector.norm())[:, None]),
            "random ablated": ablated(found.model, (noise / noise.norm())[:, None]),
            "added": intervene(found.model, site, add(vector)),
        }
        for condition, changed in conditions.items():
            if changed is None:
                rows += answered(found, requests, settings, seen, condition=condition, family=family)
                continue
            with changed:
                rows += answered(found, requests, settings, seen, condition=condition, family=family)
    return rows
