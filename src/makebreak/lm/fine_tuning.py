"""Alignment and fine-tuning of a language model, evaluated before and after."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from makebreak.configs import nearest
from makebreak.defences import MixedFineTuning, load_mitigation
from makebreak.evaluation import target_nll
from makebreak.lm.inspection import answer_rows, encode_prompts, prompts_digest
from makebreak.lm.step_cache import StepCache
from makebreak.lm.training import FineTuneRun, fine_tune
from makebreak.lm.training_set import build_training_set, split_task_items
from makebreak.lm.verdicts import behaviour_rows, with_verdicts
from makebreak.models import LanguageModel, model_digest, open_model
from makebreak.prompts import TEMPLATES, Example, TextWorld, format_prompt
from makebreak.prompts.examples import AOA_PREFIX, MCQ_OPTIONS
from makebreak.settings import FineTuneSettings, GenerationSettings
from makebreak.store import Store
from makebreak.tables import Rows, as_dict, as_dicts
from makebreak.training import (
    DPO,
    NPO,
    SSFT,
    CircuitBreaker,
    DeepAlignment,
    FineTuning,
    GradientAscent,
    LatentAdversarialTraining,
    LoRA,
    Objective,
    Optimisation,
    Unlearning,
)
from makebreak.training.loop import METRICS

OBJECTIVES: Mapping[str, Objective] = {
    "ssft": SSFT(),
    "dpo": DPO(),
    "dpo_nll": DPO(nll=1.0),
    "unlearning": Unlearning(),
    "npo": NPO(),
    "ascent": GradientAscent(),
    "deep": DeepAlignment(),
    "latent": LatentAdversarialTraining(),
    "breaker": CircuitBreaker(),
}
"""Alignment objectives by the names that `makebreak align --objective` accepts."""
HARMFUL = "harmful"
"""Task of a fine-tuning attack: our harmful training prompts with compliant answers."""
OWN = "own"
"""Task of a user who brings prompts and answers."""
BEFORE, AFTER = "before", "after"
"""Values of the column `condition`."""
_MAX_SHOWN = 40  # characters of a prompt in an error


@dataclass(frozen=True)
class Evaluation:
    """What a model is asked before and after fine-tuning."""

    prompts: Mapping[str, Sequence[str]]
    """Prompts by family, at least `harmful`; none of them may be among the examples that are trained on."""
    settings: GenerationSettings
    """How prompts are formatted and answered."""


@dataclass(frozen=True)
class UserData:
    """What a user fine-tunes a language model on."""

    task: str
    """`harmful`, or FORMAT or FORMAT@TEMPLATE for one of our harmless tasks; ignored with `own_examples`."""
    n_examples: int = 64
    """Number of examples; training repeats them."""
    mitigation: str = "none"
    """Safety examples that the provider mixes in, by the name of a mitigation or MODULE:FUNCTION."""
    safety_share: float = 0.0
    """Share of the examples that the mitigation provides."""
    own_examples: Sequence[tuple[str, str]] = ()
    """The user's own prompts and answers; empty for one of our tasks."""
    answers_from: LanguageModel | None = None
    """Model whose own answers to harmful prompts are trained on; None for the model that is fine-tuned."""


@dataclass(frozen=True)
class FineTuneResult:
    """A fine-tuned model and its evaluation."""

    folder: Path
    """Folder of the model and its tokenizer."""
    tables: dict[str, Rows]
    """`answers` and `behaviour`, before and after; `training`, the logged steps; `task` if there is one."""


class TaskRow(NamedTuple):
    """Performance of a model on the held-out items of a task."""

    n: int
    """Number of items."""
    exact_match: float
    """Fraction of items whose answer greedy decoding produces."""
    nll: float
    """Mean negative log-likelihood per token of the correct answers, in nats."""
    shuffled_nll: float
    """The same for the answers of other items."""


def find_objective(name: str) -> Objective:
    """Returns the alignment objective of a name in `OBJECTIVES`; raises ValueError for an unknown name."""
    if name not in OBJECTIVES:
        raise ValueError(f"objective {name!r} does not exist; {nearest(name, list(OBJECTIVES))}")
    return OBJECTIVES[name]


def align(
    lm: LanguageModel,
    objective: str,
    evaluation: Evaluation,
    store: Store,
    training: FineTuneSettings,
    *,
    log: Callable[[str], None] = lambda _: None,
) -> FineTuneResult:
    """Aligns a language model on our training prompts, and evaluates it before and after.

    Args:
        lm: The model to align.
        objective: Name of the objective, one of `OBJECTIVES`.
        evaluation: Prompts on which both models are evaluated.
        store: Cache of models and answers.
        training: Hyperparameters.
        log: Called with a line before each long step.

    Returns:
        The fine-tuned model's folder and the evaluation.

    Raises:
        ValueError: If the objective is unknown, or a prompt of the evaluation is trained on.
    """
    loss = find_objective(objective)
    world = build_training_set(lm, store, evaluation.settings, log=log)
    _check_held_out(evaluation.prompts, world)
    log(_describe_run(objective, training))
    folder = fine_tune(lm, world, loss, fine_tune_run(training, objective), store)
    tables = before_and_after(lm, open_model(folder, store=store), evaluation, store)
    return FineTuneResult(folder, {**tables, "training": training_rows(folder)})


def tune_as_user(
    lm: LanguageModel,
    data: UserData,
    evaluation: Evaluation,
    store: Store,
    training: FineTuneSettings,
    *,
    log: Callable[[str], None] = lambda _: None,
) -> FineTuneResult:
    """Fine-tunes a language model on a user's data, and evaluates it before and after.

    Both models also answer the harmful prompts in the format and template of the task.

    Args:
        lm: The model to fine-tune.
        data: The examples, and the provider's mitigation.
        evaluation: Prompts on which both models are evaluated.
        store: Cache of models and answers.
        training: Hyperparameters.
        log: Called with a line before each long step.

    Returns:
        The fine-tuned model's folder and the evaluation.

    Raises:
        ValueError: If the task, the template or the mitigation is unknown, or a prompt of the evaluation is
            trained on.
    """
    task = OWN if data.own_examples else data.task
    objective = user_objective(task, data.n_examples, data.mitigation, data.safety_share)
    settings, prompts = evaluation.settings, dict(evaluation.prompts)
    items: dict[str, list[str]] = {}
    if task not in (HARMFUL, OWN):
        format_, _, template = task.partition("@")
        items = held_out_task(format_, template or "plain")
        if task != "gen":
            prompts[f"harmful, as {task}"] = requests_in_format(
                prompts["harmful"], format_, template or "plain"
            )
    examples = dict(build_training_set(data.answers_from or lm, store, settings, log=log).examples)
    if data.own_examples:
        examples["own_safe"] = [Example(prompt, answer, "") for prompt, answer in data.own_examples]
    world = TextWorld(lm.tokenizer, examples, settings.template, settings.system)
    _check_held_out(prompts, world)
    label = f"fine-tuning on {task}"
    log(_describe_run(label, training))
    folder = fine_tune(lm, world, objective, fine_tune_run(training, label), store)
    tuned = open_model(folder, store=store)
    tables = before_and_after(lm, tuned, Evaluation(prompts, settings), store)
    tables["training"] = training_rows(folder)
    if items:
        tables["task"] = [
            {"condition": condition} | as_dict(task_row(model, items, settings))
            for condition, model in ((BEFORE, lm), (AFTER, tuned))
        ]
    return FineTuneResult(folder, tables)


def fine_tune_run(settings: FineTuneSettings, label: str) -> FineTuneRun:
    """The training run with these hyperparameters.

    There is no weight decay, which would change what the examples do not constrain. The scale of the
    adapters is twice their rank.

    Args:
        settings: The hyperparameters.
        label: Name of the run on its progress bar.

    Returns:
        The run.
    """
    optimisation = Optimisation(
        settings.steps,
        settings.learning_rate,
        settings.batch_size,
        precision=settings.precision,
        weight_decay=0.0,
        checkpoints=1,
    )
    lora = LoRA(settings.lora_rank, 2 * settings.lora_rank) if settings.lora_rank else None
    return FineTuneRun(optimisation, settings.seed, lora, label)


def user_objective(
    task: str, n_examples: int, mitigation: str, safety_share: float
) -> FineTuning | MixedFineTuning:
    """The objective of fine-tuning on a task, with a mitigation's safety examples among the user's.

    Args:
        task: `harmful`, `own`, or FORMAT or FORMAT@TEMPLATE.
        n_examples: Number of examples, those of the mitigation included.
        mitigation: Name of the mitigation, or `none`; harmful examples accept only `none` and `canonical`.
        safety_share: Share of the examples that the mitigation provides.

    Returns:
        The objective.

    Raises:
        ValueError: If the template or the mitigation is unknown, or share and mitigation contradict each
            other.
    """
    if mitigation != "none":
        load_mitigation(mitigation)
    if task == HARMFUL:
        n_refused = round(safety_share * n_examples)
        if mitigation not in ("none", "canonical") or (mitigation == "none") != (n_refused == 0):
            raise ValueError(
                f"mitigation {mitigation!r}, {safety_share:g} of {n_examples} examples: harmful requests "
                "have no format, so expected 'none' with a share of 0, or 'canonical' (plain refusals) with "
                "at least one example"
            )
        return FineTuning(n_harmful=n_examples - n_refused, n_refused=n_refused)
    format_, _, template = task.partition("@")
    if template and template not in TEMPLATES:
        raise ValueError(f"template {template!r}: expected one of {', '.join(TEMPLATES)}")
    suffix = f"@{template}" if template and template != "plain" else ""
    return MixedFineTuning(f"{format_}_safe{suffix}", n_examples, mitigation, safety_share)


def before_and_after(
    lm: LanguageModel, aligned: LanguageModel, evaluation: Evaluation, store: Store
) -> dict[str, Rows]:
    """Evaluates a model before and after fine-tuning.

    Args:
        lm: The model before.
        aligned: The model after.
        evaluation: What both are asked.
        store: Cache of the answers.

    Returns:
        `answers`, one row per prompt and model, and `behaviour`, their rates; both have the column
        `condition`.
    """
    rows: Rows = []
    for condition, model in ((BEFORE, lm), (AFTER, aligned)):
        judged = judged_answer_rows(model, evaluation.prompts, store, evaluation.settings)
        rows += [{"condition": condition} | row for row in judged]
    return {"answers": rows, "behaviour": as_dicts(behaviour_rows(rows))}


def judged_answer_rows(
    lm: LanguageModel, prompts: Mapping[str, Sequence[str]], store: Store, settings: GenerationSettings
) -> Rows:
    """Greedy answers with the verdict of every judge, cached by family.

    Args:
        lm: The model.
        prompts: Prompts by family.
        store: Cache of the answers; verdicts are computed anew.
        settings: Prompt template and length of the answers.

    Returns:
        One row per prompt: `family`, the fields of `AnswerRow`, and one column per judge.
    """
    rows: Rows = []
    digest = model_digest(lm)
    for family, texts in prompts.items():
        config = {"model": digest, "settings": asdict(settings), "prompts": prompts_digest({family: texts})}
        rows += _cached_answer_rows(lm, family, texts, settings, StepCache("answers", store, config))
    return with_verdicts(rows)


def requests_in_format(texts: Sequence[str], format_: str, template: str = "plain") -> list[str]:
    """Puts harmful requests in the place of a task's content.

    Args:
        texts: The requests.
        format_: The task's format; `mcq` adds the options.
        template: The template around it.

    Returns:
        The prompts, in the same order.
    """
    options = MCQ_OPTIONS if format_ == "mcq" else ""
    return [format_prompt(text + options, format_, template) for text in texts]


def held_out_task(format_: str, template: str = "plain") -> dict[str, list[str]]:
    """The held-out items of a task.

    Args:
        format_: The task's format.
        template: The template around the items.

    Returns:
        `prompts` and `answers`, in the same order.

    Raises:
        ValueError: If the format is unknown.
    """
    tasks = split_task_items(held_out=True)
    if format_ not in tasks:
        raise ValueError(
            f"task {format_!r}: expected {HARMFUL}, {', '.join(tasks)}, each also as TASK@TEMPLATE"
        )
    prompts = [format_prompt(text, format_, template) for text, _ in tasks[format_]]
    header = AOA_PREFIX if template == "obey" else ""
    return {"prompts": prompts, "answers": [header + answer for _, answer in tasks[format_]]}


def task_row(lm: LanguageModel, items: Mapping[str, Sequence[str]], settings: GenerationSettings) -> TaskRow:
    """Scores a model on a task.

    Args:
        lm: The model.
        items: `prompts` and `answers`, as `held_out_task` returns them.
        settings: Prompt template.

    Returns:
        Exact match, and the loss of correct and of mismatched answers.
    """
    prompts, answers = list(items["prompts"]), list(items["answers"])

    def scores(targets: list[str]) -> Any:
        requests = encode_prompts(lm, "task", prompts, settings, targets)
        return target_nll(lm.model, requests, "instructed")

    correct, shuffled = scores(answers), scores(_mismatched_answers(answers))
    return TaskRow(
        n=len(prompts),
        exact_match=float(correct.exact_match.double().mean()),
        nll=float(correct.nll.mean()),
        shuffled_nll=float(shuffled.nll.mean()),
    )


def training_rows(folder: Path) -> Rows:
    """Reads the logged steps of the training of the model in a folder; columns depend on the objective."""
    return [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]


def _cached_answer_rows(
    lm: LanguageModel, family: str, texts: Sequence[str], settings: GenerationSettings, steps: StepCache
) -> Rows:
    """Answers to the prompts of one family, without verdicts."""
    requests = encode_prompts(lm, family, texts, settings)
    answers = partial(answer_rows, lm, requests, settings, family=family)
    return steps.run("of a family", answers, total=len(requests), depends_on={"family": family})


def _check_held_out(prompts: Mapping[str, Sequence[str]], world: TextWorld) -> None:
    """Raises ValueError if a prompt of the evaluation is among the examples that are trained on."""
    trained = {example.prompt.strip() for examples in world.examples.values() for example in examples}
    for family, texts in prompts.items():
        overlap = [text for text in texts if text.strip() in trained]
        if overlap:
            raise ValueError(
                f"{len(overlap)} of {len(texts)} {family} requests are among those to train on, such as "
                f"{overlap[0][:_MAX_SHOWN]!r}: evaluate on others"
            )


def _describe_run(label: str, training: FineTuneSettings) -> str:
    return f"{label}: {training.steps} steps of {training.batch_size} examples, unless cached"


def _mismatched_answers(answers: Sequence[str]) -> list[str]:
    """For each item, the next answer in the list that differs from its own."""
    rows = []
    for i, answer in enumerate(answers):
        others = (other for other in [*answers[i + 1 :], *answers] if other != answer)
        rows.append(next(others, answer))
    return rows
