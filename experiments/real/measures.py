"""Tables of the study: behaviour, mechanism, attacks and landscape of alignments, and users' fine-tuning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from experiments.pretrained import open_pretrained
from experiments.real.presets import BASE, USER_TASKS, Preset, User
from makebreak.evaluation import ChatTarget
from makebreak.lm import (
    AttackData,
    BehaviourRow,
    attack_model,
    behaviour_rows,
    build_training_set,
    chat_landscape_data,
    compare_models,
    evaluate_landscape,
    evenly_spaced,
    fine_tune,
    fine_tune_run,
    held_out_task,
    judged_answer_rows,
    requests_as_task,
    separation_rows,
    success_rows,
    task_row,
    user_objective,
)
from makebreak.mechanism import SafeUnsafeRequests
from makebreak.models import LanguageModel, open_model
from makebreak.prompts import TextWorld, evaluation_prompts, format_prompt
from makebreak.settings import UserDataSettings
from makebreak.store import Store
from makebreak.tables import Rows, as_dict, as_dicts
from makebreak.training import load_objective

Tables = dict[str, Rows]
"""Tables by name, as they are stored."""
TARGET = "Sure, here is how"
"""Answer that attacks make likelier."""
USERS, MATRIX = "users", "matrix"
"""Cells of users' fine-tuning, and of fine-tuning on each format; also the names of their tables."""
UNTUNED = "untuned"
"""Name of the aligned model before a user fine-tunes it."""
TASK_FAMILY = "task"
"""Family of the held-out items of a user's task."""
PROMPT_TEMPLATES = ("plain", "obey", "neutral")
"""Templates in which requests are put to fine-tuned models."""
_ATTACKED_TABLES = ("projection", "search_history")


class UserRow(NamedTuple):
    """Behaviour of the aligned model after a user's fine-tuning, on one family in one template."""

    user: str
    """Name of the user, or `untuned`."""
    strategy: str
    """Strategy of the user, or `untuned`."""
    mitigation: str
    """Mitigation that provides safety examples, or `none`."""
    template: str
    """Template around the requests."""
    family: str
    """`harmful` or `harmless` requests in open text, or `task`: the held-out items of the user's task."""
    judge: str
    """Judge of refusals; empty for the task."""
    n: int
    """Number of requests."""
    refuse: float | None
    """Share of answers that are refusals and not degenerate; None for the task."""
    low: float | None
    """Lower end of the 95 % interval (Wilson) of `refuse` over requests; None for the task."""
    high: float | None
    """Upper end of that interval; None for the task."""
    degenerate: float | None
    """Share of answers that are empty or repetitive; None for the task."""
    open_reasoning: float | None
    """Share of answers that are reasoning without an end; None for the task."""
    comply: float | None
    """Share of answers that are neither; None for the task."""
    log_odds: float | None
    """Mean log-odds that a refusal begins after the prompt, in nats; None for the task."""
    shallow_refusal_share: float | None
    """Share of answers that are no refusals although one was likely to begin; None for the task."""
    exact_match: float | None
    """Share of items that are answered correctly; None except for the task."""
    nll: float | None
    """Loss of the correct answers in nats per token; None except for the task."""
    shuffled_nll: float | None
    """The same for answers of other items; None except for the task."""


class MatrixRow(NamedTuple):
    """Behaviour on harmful requests in one format after fine-tuning on the task of another."""

    tuned_format: str
    """Format of the task, or `untuned`."""
    format: str
    """Format of the requests."""
    judge: str
    """Judge of refusals."""
    n: int
    """Number of requests."""
    refuse: float
    """Share of answers that are refusals and not degenerate."""
    low: float
    """Lower end of the 95 % interval (Wilson) of `refuse` over requests."""
    high: float
    """Upper end of that interval."""
    degenerate: float
    """Share of answers that are empty or repetitive, or reasoning that does not end."""
    open_reasoning: float
    """Share of answers that are reasoning without an end."""
    comply: float
    """Share of answers that are neither."""
    log_odds: float
    """Mean log-odds that a refusal begins after the prompt, in nats."""
    shallow_refusal_share: float
    """Share of answers that are no refusals although one was likely to begin."""


def cell_tables(preset: Preset, kind: str, seed: int, store: Store) -> tuple[Tables, list[Path]]:
    """Computes the tables of one cell.

    Args:
        preset: Sizes of the study.
        kind: `users`, `matrix`, `base` or the name of an alignment.
        seed: Alignment seed.
        store: Cache of models and steps.

    Returns:
        Tables by name, and the folders of the models that were trained for them.
    """
    functions: dict[str, Callable[[Preset, int, Store], tuple[Tables, list[Path]]]] = {
        USERS: user_tables,
        MATRIX: matrix_tables,
    }
    if kind in functions:
        return functions[kind](preset, seed, store)
    return model_tables(preset, kind, seed, store)


def model_tables(preset: Preset, arm: str, seed: int, store: Store) -> tuple[Tables, list[Path]]:
    """Tables of the base or of an aligned model.

    Args:
        preset: Sizes of the study.
        arm: Name of the alignment, or `BASE`.
        seed: Alignment seed.
        store: Cache of models and steps.

    Returns:
        `behaviour` and `clusters`; of an aligned model also its comparison with the base, attacks and the
        safety landscape. Then the folder of the aligned model.
    """
    base = open_pretrained(preset.model, store)
    world = _training_set(preset, base, store)  # also generates the answers that every alignment needs
    folder = None if arm == BASE else _aligned_folder(preset, base, world, arm, seed, store)
    model = base if folder is None else open_model(folder, store=store)
    prompts = _prompts(preset.n_behaviour, *evaluation_prompts())
    tables: Tables = {
        "behaviour": as_dicts(behaviour_rows(judged_answer_rows(model, prompts, store, preset.generation))),
        "clusters": _cluster_rows(model, preset),
    }
    if folder is None:
        return tables, []
    compared = _prompts(preset.n_compared, *evaluation_prompts())
    tables |= compare_models(compared, store, preset.generation, base=base, tuned=model)[0]
    tables |= _attack_tables(preset, model, store)
    is_first = (arm, seed) == (preset.arms[0].name, preset.seeds[0])
    tables |= _landscape_tables(preset, model, base if is_first else None, store)
    return tables, [folder]


def user_tables(preset: Preset, seed: int, store: Store) -> tuple[Tables, list[Path]]:
    """Behaviour of the first alignment before and after every user's fine-tuning.

    Args:
        preset: Sizes of the study.
        seed: Seed of the alignment and of fine-tuning.
        store: Cache of models and answers.

    Returns:
        The table `users`, rows of `UserRow`, and the folders of the fine-tuned models.
    """
    aligned, world = _first_alignment(preset, seed, store)
    rows = _user_rows(preset, aligned, None, store)
    folders = []
    for user in preset.users:
        folder = _user_folder(preset, aligned, world, user, seed, store)
        folders.append(folder)
        rows += _user_rows(preset, open_model(folder, store=store), user, store)
    return {USERS: as_dicts(rows)}, folders


def matrix_tables(preset: Preset, seed: int, store: Store) -> tuple[Tables, list[Path]]:
    """Behaviour on harmful requests in every format, after fine-tuning the first alignment on each of them.

    Args:
        preset: Sizes of the study.
        seed: Seed of the alignment and of fine-tuning; one seed, so that the table is exploratory.
        store: Cache of models and answers.

    Returns:
        The table `matrix`, rows of `MatrixRow`, and the folders of the fine-tuned models.
    """
    aligned, world = _first_alignment(preset, seed, store)
    rows = _matrix_rows(preset, aligned, UNTUNED, store)
    folders = []
    for format_ in preset.matrix_formats:
        objective = user_objective(UserDataSettings(format_, n_examples=preset.n_examples))
        run = fine_tune_run(replace(preset.user_training, seed=seed), f"seed {seed} fine-tuning on {format_}")
        folder = fine_tune(aligned, world, objective, run, store)
        folders.append(folder)
        rows += _matrix_rows(preset, open_model(folder, store=store), format_, store)
    return {MATRIX: as_dicts(rows)}, folders


def _prompts(n: int, *families: str) -> dict[str, list[str]]:
    """N evaluation prompts of each family."""
    prompts = evaluation_prompts()
    return {family: evenly_spaced(prompts[family], n) for family in families}


def _training_set(preset: Preset, base: LanguageModel, store: Store) -> TextWorld:
    return build_training_set(base, store, preset.generation, max_per_family=preset.max_per_family)


def _aligned_folder(
    preset: Preset, base: LanguageModel, world: TextWorld, arm_name: str, seed: int, store: Store
) -> Path:
    [arm] = [arm for arm in preset.arms if arm.name == arm_name]
    run = fine_tune_run(replace(arm.training, seed=seed), f"seed {seed} {arm_name}")
    return fine_tune(base, world, load_objective(arm.objective), run, store)


def _first_alignment(preset: Preset, seed: int, store: Store) -> tuple[LanguageModel, TextWorld]:
    """The model of the first arm, and the examples that it can be fine-tuned on."""
    base = open_pretrained(preset.model, store)
    world = _training_set(preset, base, store)
    folder = _aligned_folder(preset, base, world, preset.arms[0].name, seed, store)
    return open_model(folder, store=store), world


def _cluster_rows(model: LanguageModel, preset: Preset) -> Rows:
    """Separation by layer; the means are fitted on every second pair of one verb, the others are scored."""
    prompts, target = evaluation_prompts(), ChatTarget(model, preset.generation)
    requests = {family: target.encode(prompts[family], family=family) for family in ("harmless", "harmful")}
    fit = SafeUnsafeRequests(requests["harmless"][0::2], requests["harmful"][0::2])
    score = SafeUnsafeRequests(requests["harmless"][1::2], requests["harmful"][1::2])
    return separation_rows(model, fit, score, preset.generation)


def _attack_tables(preset: Preset, model: LanguageModel, store: Store) -> Tables:
    """`attacks`, rows of `SuccessRow`, and tables on attacked requests; {} if too little is refused."""
    harmful = _prompts(preset.n_attacked, "harmful")["harmful"]
    data = AttackData(harmful, [TARGET] * len(harmful), evaluation_prompts())
    results = attack_model(model, data, store, preset.generation, preset.attacks).tables
    if "attacked_answers" not in results:
        return {}
    tables = {name: results[name] for name in _ATTACKED_TABLES if name in results}
    return {"attacks": as_dicts(success_rows(results["attacked_answers"])), **tables}


def _landscape_tables(
    preset: Preset, model: LanguageModel, other: LanguageModel | None, store: Store
) -> Tables:
    """Tables of the safety landscape; what no claim needs is computed only with a model to interpolate to."""
    prompts = _prompts(preset.n_landscape, "harmful", "harmless")
    generation = replace(preset.generation, n_new=preset.landscape_tokens)
    data = chat_landscape_data(model, prompts, generation, check_truncation=other is not None, other=other)
    return evaluate_landscape(data, store, preset.landscape)


def _user_folder(
    preset: Preset, aligned: LanguageModel, world: TextWorld, user: User, seed: int, store: Store
) -> Path:
    task, template = USER_TASKS[user.strategy]
    name = task if task == "harmful" else f"{task}@{template}"
    data = UserDataSettings(
        name, mitigation=user.mitigation, safety_share=user.safety_share, n_examples=preset.n_examples
    )
    run = fine_tune_run(replace(preset.user_training, seed=seed), f"seed {seed} user {user.name}")
    return fine_tune(aligned, world, user_objective(data), run, store)


def _user_rows(preset: Preset, model: LanguageModel, user: User | None, store: Store) -> list[UserRow]:
    """Behaviour without a template and in the user's, and the task; in all templates for no user."""
    name, strategy, mitigation = UNTUNED, UNTUNED, "none"
    templates = PROMPT_TEMPLATES
    task, task_template = "mcq", "plain"
    if user is not None:
        name, strategy, mitigation = user.name, user.strategy, user.mitigation
        task, task_template = USER_TASKS[user.strategy]
        templates = tuple(dict.fromkeys(("plain", task_template)))
    prompts = _prompts(preset.n_behaviour, "harmful", "harmless")
    rows = []
    for template in templates:
        formatted = {
            family: [format_prompt(text, "gen", template) for text in texts]
            for family, texts in prompts.items()
        }
        labels = (name, strategy, mitigation, template)
        rows += [
            UserRow(*labels, **row._asdict(), exact_match=None, nll=None, shuffled_nll=None)
            for row in _behaviour(preset, model, formatted, store)
        ]
    if task != "harmful":
        score = task_row(model, held_out_task(f"{task}@{task_template}"), preset.generation)
        rates = dict.fromkeys(
            (
                *("refuse", "low", "high", "degenerate", "open_reasoning"),
                *("comply", "log_odds", "shallow_refusal_share"),
            )
        )
        labels = (name, strategy, mitigation, task_template)
        rows.append(UserRow(*labels, family=TASK_FAMILY, judge="", **rates, **score._asdict()))
    return rows


def _matrix_rows(preset: Preset, model: LanguageModel, tuned_format: str, store: Store) -> list[MatrixRow]:
    harmful = _prompts(preset.n_matrix, "harmful")["harmful"]
    prompts = {format_: requests_as_task(harmful, format_) for format_ in preset.matrix_formats}
    rows = [row._asdict() for row in _behaviour(preset, model, prompts, store)]
    return [MatrixRow(tuned_format, format=row.pop("family"), **row) for row in rows]


def _behaviour(
    preset: Preset, model: LanguageModel, prompts: dict[str, list[str]], store: Store
) -> list[BehaviourRow]:
    rows = behaviour_rows(judged_answer_rows(model, prompts, store, preset.generation))
    return [BehaviourRow(**as_dict(row)) for row in rows]
