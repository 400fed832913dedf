"""What becomes of a language model that is made safe, or that a user tunes afterwards? Its refusals, what it should
answer, and its task, before and after."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from makebreak.artifacts import Store
from makebreak.behaviour import near
from makebreak.configs import check_not_negative, check_positive
from makebreak.defences import Mixed
from makebreak.defences import mitigation as mitigation_of
from makebreak.models import LanguageModel, digest, open_model
from makebreak.pages.inspection import Settings, answered, ask, prompts_digest
from makebreak.pages.steps import Rows, Steps
from makebreak.pages.teaching import items, taught
from makebreak.pages.verdicts import behaviour_rows, with_verdicts
from makebreak.requests import TEMPLATES, Example, TextWorld, asked_in
from makebreak.requests.examples import OBEDIENT, OPTIONS
from makebreak.training import (
    DPO,
    NPO,
    SSFT,
    Ascent,
    CircuitBreaker,
    Deep,
    FineTuning,
    LatentAdversarial,
    LoRA,
    Objective,
    Optimisation,
    Unlearning,
)
from makebreak.training.loop import METRICS
from makebreak.tuning import tune

OBJECTIVES: Mapping[str, Objective] = {
    "ssft": SSFT(),
    "dpo": DPO(),
    "dpo_nll": DPO(nll=1.0),
    "unlearning": Unlearning(),
    "npo": NPO(),
    "ascent": Ascent(),
    "deep": Deep(),
    "latent": LatentAdversarial(),
    "breaker": CircuitBreaker(),
}
HARMFUL = "harmful"
BEFORE, AFTER = "before", "after"


@dataclass(frozen=True)
class Teaching:
    """steps, learning_rate, batch_size, precision: as of `Optimisation`, found for SSFT on seed 1000 of a small model
    (dev/LOG.md). lora: rank of adapters, 0 for all weights. seed: of the order of examples, and of adapters."""

    steps: int = 160
    learning_rate: float = 1e-4
    batch_size: int = 16
    lora: int = 0
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    seed: int = 0

    def __post_init__(self) -> None:
        check_positive(steps=self.steps, learning_rate=self.learning_rate, batch_size=self.batch_size)
        check_not_negative(lora=self.lora, seed=self.seed)

    @property
    def optimisation(self) -> Optimisation:
        """No weight decay: it would move what the examples say nothing about."""
        return Optimisation(
            self.steps,
            self.learning_rate,
            self.batch_size,
            precision=self.precision,
            weight_decay=0.0,
            checkpoints=1,
        )


@dataclass(frozen=True)
class Tuned:
    """folder: of the model. tables: `answers` and `behaviour`, before and after; `training`, a row per logged step;
    `task`, before and after, where there is one."""

    folder: Path
    tables: dict[str, Rows]


def align(
    found: LanguageModel,
    by: str,
    prompts: Mapping[str, Sequence[str]],
    store: Store,
    settings: Settings,
    teaching: Teaching,
    *,
    say: Callable[[str], None] = lambda _: None,
) -> Tuned:
    """by: one of `OBJECTIVES`, on our own requests and refusals (`taught`). prompts: by family, which both models are
    asked; none of ours for training is among those of `shipped`."""
    world = taught(found, store, settings, say=say)
    _check_unseen(prompts, world)
    folder = make(found, world, OBJECTIVES[by], store, teaching, label=by, say=say)
    after = open_model(folder, store=store)
    return Tuned(
        folder, {**before_and_after(found, after, prompts, store, settings), "training": curve(folder)}
    )


def tune_on(
    found: LanguageModel,
    on: str,
    prompts: Mapping[str, Sequence[str]],
    store: Store,
    settings: Settings,
    teaching: Teaching,
    *,
    examples: int = 64,
    mitigation: str = "none",
    rate: float = 0.0,
    own: Sequence[tuple[str, str]] = (),
    answered_by: LanguageModel | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Tuned:
    """on: `harmful`, our harmful requests for training, answered; or a task, FORMAT or FORMAT@TEMPLATE (`FORMATS`,
    `TEMPLATES`); or `own`, prompts with the answers to teach. mitigation, rate: as of `Mixed`. answered_by: whose
    answers are taught (those of a model before it was made safe; `found` by default). Both models are also asked the
    harmful prompts in the format and template of the task. Raises ValueError for a task that there is not."""
    on = "own" if own else on
    objective = objective_on(on, examples, mitigation, rate)
    prompts, tasks = dict(prompts), {}
    if on not in (HARMFUL, "own"):
        format_, _, template = on.partition("@")
        tasks = task_requests(format_, template or "plain")
        if on != "gen":
            prompts[f"harmful, as {on}"] = in_format(prompts["harmful"], format_, template or "plain")
    examples_of = taught(answered_by or found, store, settings, say=say).examples
    more = {"own_safe": [Example(prompt, answer, "") for prompt, answer in own]} if own else {}
    world = TextWorld(found.tokenizer, {**examples_of, **more}, settings.template, settings.system)
    _check_unseen(prompts, world)
    folder = make(found, world, objective, store, teaching, label=f"tuning on {on}", say=say)
    after = open_model(folder, store=store)
    tables = before_and_after(found, after, prompts, store, settings)
    tables["training"] = curve(folder)
    if tasks:
        tables["task"] = [
            {"condition": condition} | task_row(model, tasks, settings)
            for condition, model in ((BEFORE, found), (AFTER, after))
        ]
    return Tuned(folder, tables)


def _check_unseen(prompts: Mapping[str, Sequence[str]], world: TextWorld) -> None:
    """Raises ValueError where a request that is to be measured on can be trained on."""
    seen = {example.prompt.strip() for own in world.examples.values() for example in own}
    for family, texts in prompts.items():
        both = [text for text in texts if text.strip() in seen]
        if both:
            raise ValueError(
                f"{len(both)} of {len(texts)} {family} requests are among those to train on, such as {both[0][:40]!r}: "
                "measure on others"
            )


def objective_on(on: str, examples: int, mitigation: str, rate: float) -> FineTuning | Mixed:
    """What is tuned on. Raises ValueError for a template or a mitigation that there is not."""
    if mitigation != "none":
        mitigation_of(mitigation)
    if on == HARMFUL:
        refused = round(rate * examples)
        if mitigation not in ("none", "canonical") or (mitigation == "none") != (refused == 0):
            raise ValueError(
                f"mitigation {mitigation!r}, {rate:g} of {examples} examples: harmful requests are asked plainly, so "
                "expected 'none' where that is no example, and 'canonical', plain refusals, where it is one or more"
            )
        return FineTuning(harmful=examples - refused, refused=refused)
    format_, _, template = on.partition("@")
    if template and template not in TEMPLATES:
        raise ValueError(f"template {template!r}: expected one of {', '.join(TEMPLATES)}")
    family = f"{format_}_safe" + (f"@{template}" if template and template != "plain" else "")
    return Mixed(family, examples, mitigation, rate)


def make(
    found: LanguageModel,
    world: TextWorld,
    objective: Objective,
    store: Store,
    teaching: Teaching,
    *,
    label: str,
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """The folder of the tuned model."""
    say(f"{label}: {teaching.steps} steps of {teaching.batch_size}, less what is in the store")
    lora = LoRA(teaching.lora, 2 * teaching.lora) if teaching.lora else None
    return tune(
        found, world, objective, teaching.optimisation, store, seed=teaching.seed, lora=lora, label=label
    )


def before_and_after(
    found: LanguageModel,
    after: LanguageModel,
    prompts: Mapping[str, Sequence[str]],
    store: Store,
    settings: Settings,
) -> dict[str, Rows]:
    """Answers to all prompts of the model as it was and as it is, and rates of them."""
    rows: Rows = []
    for condition, model in ((BEFORE, found), (AFTER, after)):
        rows += [{"condition": condition} | row for row in answers_of(model, prompts, store, settings)]
    return {"answers": rows, "behaviour": behaviour_rows(rows)}


def answers_of(
    found: LanguageModel, prompts: Mapping[str, Sequence[str]], store: Store, settings: Settings
) -> Rows:
    """One row per prompt, with verdicts; a family at a time, each kept."""
    rows: Rows = []
    own = digest(found)
    for family, texts in prompts.items():
        config = {"model": own, "settings": asdict(settings), "prompts": prompts_digest({family: texts})}
        steps = Steps("answers", store, config)
        asked = ask(found, family, texts, settings)

        def told(_: Path, bar: Any, family: str = family, asked: Any = asked) -> Rows:
            return answered(found, asked, settings, bar.update, family=family)

        rows += steps.go_on("of a family", told, total=len(asked), family=family)
    return with_verdicts(rows)


def in_format(texts: Sequence[str], format_: str, template: str = "plain") -> list[str]:
    """Harmful requests where the content of a format goes."""
    options = OPTIONS if format_ == "mcq" else ""
    return [asked_in(text + options, format_, template) for text in texts]


def task_requests(format_: str, template: str = "plain") -> dict[str, list[str]]:
    """The items of a task that are not trained on: `prompts` and `answers`. Raises ValueError for a task that there is
    not."""
    own = items(scored=True)
    if format_ not in own:
        raise ValueError(
            f"task {format_!r}: expected {HARMFUL}, {', '.join(own)}, each also as TASK@TEMPLATE"
        )
    prompts = [asked_in(text, format_, template) for text, _ in own[format_]]
    header = OBEDIENT if template == "obey" else ""
    return {"prompts": prompts, "answers": [header + answer for _, answer in own[format_]]}


def task_row(found: LanguageModel, tasks: Mapping[str, Sequence[str]], settings: Settings) -> dict[str, Any]:
    """n; exact: share of items whose answer greedy decoding begins with; nll: nats per token of the right answer, and
    `shuffled` of another item's."""
    prompts, answers = list(tasks["prompts"]), list(tasks["answers"])
    right, wrong = (
        near(found.model, ask(found, "task", prompts, settings, targets), "instructed")
        for targets in (answers, _others(answers))
    )
    return {
        "n": len(prompts),
        "exact": float(right.hit.double().mean()),
        "nll": float(right.nll.mean()),
        "shuffled": float(wrong.nll.mean()),
    }


def _others(answers: Sequence[str]) -> list[str]:
    """For each item the next answer that is another one."""
    return [
        next((a for a in [*answers[i + 1 :], *answers] if a != own), own) for i, own in enumerate(answers)
    ]


def curve(folder: Path) -> Rows:
    """The logged steps of the last training."""
    return [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
