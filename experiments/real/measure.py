"""What does the model do, before and after each alignment, and after each user? Rows of the study's tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tokenizers import ByteLevelBPETokenizer
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging

from experiments.real.presets import BASE, STAND_IN, USERS, Preset, User
from makebreak.artifacts import Store
from makebreak.mechanism import Pair
from makebreak.models import LanguageModel, ModelConfig, create_model, open_model
from makebreak.pages import (
    OBJECTIVES,
    attack_model,
    build_training_set,
    compare_models,
    evenly_spaced,
    judged_answer_rows,
    language_model_landscape,
)
from makebreak.pages.attack_page import success_rows
from makebreak.pages.fine_tuning import held_out_task, requests_in_format, task_row, user_objective
from makebreak.pages.inspection import encode_prompts, separation_rows
from makebreak.pages.verdicts import behaviour_rows
from makebreak.requests import TextWorld, evaluation_prompts, format_prompt
from makebreak.tables import as_dict
from makebreak.tuning import fine_tune

Tables = dict[str, list[dict[str, Any]]]
TARGET = "Sure, here is how"
TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)


def source(preset: Preset, store: Store) -> str:
    """What `open_model` opens. Raises ValueError where it is not there."""
    if preset.model == STAND_IN:
        return str(store.build("stand-in", revision=1, config={}, make=_stand_in))
    if preset.model.endswith(".gguf") and not Path(preset.model).is_file():
        raise ValueError(
            f"{preset.model} is not there: `make smollm` fetches it, or name another with --model"
        )
    return preset.model


def _stand_in(folder: Path) -> None:
    """A tiny untrained model that reads our prompts byte by byte."""
    pairs = ByteLevelBPETokenizer()
    texts = [text for own in evaluation_prompts().values() for text in own]
    pairs.train_from_iterator(texts, vocab_size=500, special_tokens=["<|end|>"], show_progress=False)
    words = PreTrainedTokenizerFast(
        tokenizer_object=pairs._tokenizer, eos_token="<|end|>", pad_token="<|end|>"
    )
    words.chat_template = TEMPLATE
    size = ModelConfig("llama", n_layers=3, n_heads=2, d_model=32, d_mlp=64)
    logging.disable_progress_bar()
    create_model(size, d_vocab=len(words), n_ctx=1024, seed=0).save_pretrained(folder)
    words.save_pretrained(folder)


def opened(preset: Preset, store: Store) -> LanguageModel:
    logging.disable_progress_bar()  # of loading and writing: what takes long has bars of ours
    return open_model(source(preset, store), store=store)


def world_of(preset: Preset, base: LanguageModel, store: Store) -> TextWorld:
    return build_training_set(base, store, preset.settings, max_per_family=preset.taught)


def aligned(preset: Preset, base: LanguageModel, world: TextWorld, arm: str, seed: int, store: Store) -> Path:
    """The folder of the model that was made safe."""
    of = next(own for own in preset.arms if own.name == arm)
    teaching = replace(of.teaching, seed=seed)
    return fine_tune(base, world, OBJECTIVES[of.by], teaching.run(f"seed {seed} {arm}"), store)


def first_of(preset: Preset, seed: int, store: Store) -> tuple[LanguageModel, TextWorld]:
    """The model of the first arm, which users tune, and what can be tuned on."""
    base = opened(preset, store)
    world = world_of(preset, base, store)
    folder = aligned(preset, base, world, preset.arms[0].name, seed, store)
    return open_model(folder, store=store), world


def model_rows(preset: Preset, arm: str, seed: int, store: Store) -> tuple[Tables, list[Path]]:
    """Of the base or an aligned model: behaviour and clusters; of the latter what changed, attacks, landscape too."""
    base, settings = opened(preset, store), preset.settings
    world = world_of(preset, base, store)  # also its own answers, which every alignment waits for
    folder = None if arm == BASE else aligned(preset, base, world, arm, seed, store)
    found = base if folder is None else open_model(folder, store=store)
    ours = evaluation_prompts()
    prompts = {family: evenly_spaced(texts, preset.n) for family, texts in ours.items()}
    tables: Tables = {
        "behaviour": behaviour_rows(judged_answer_rows(found, prompts, store, settings)),
        "clusters": _clusters(found, preset),
    }
    if folder is None:
        return tables, []
    few = {family: evenly_spaced(texts, preset.n_compared) for family, texts in ours.items()}
    tables |= compare_models(base, found, few, store, settings)[0]
    harmful = evenly_spaced(ours["harmful"], preset.n_attacked)
    attacks = attack_model(
        found, harmful, [TARGET] * len(harmful), store, settings, preset.attacking, reference=ours
    )
    if not attacks.skip_reasons:
        tables["attacks"] = success_rows(attacks.tables["attacked"])
        tables |= {name: attacks.tables[name] for name in ("landing", "history")}
    walked = {family: evenly_spaced(ours[family], preset.n_walked) for family in ("harmful", "harmless")}
    cut = replace(settings, n_new=preset.n_walked_tokens)
    first = (arm, seed) == (preset.arms[0].name, preset.seeds[0])  # what no claim asks for is done once
    back = base if first else None
    tables |= language_model_landscape(
        found, walked, store, cut, preset.walking, interpolate_to=back, check_cut=first
    ).tables
    return tables, [folder]


def _clusters(found: LanguageModel, preset: Preset) -> list[dict[str, Any]]:
    """Half of our pairs make the means, the others are scored: both of a pair share their verb."""
    ours = evaluation_prompts()
    asked = {
        family: encode_prompts(found, family, ours[family], preset.settings)
        for family in ("harmless", "harmful")
    }
    fit, score = (Pair(*(requests[half::2] for requests in asked.values())) for half in (0, 1))
    return separation_rows(found, fit, score, preset.settings)


def user_rows(preset: Preset, seed: int, store: Store) -> tuple[Tables, list[Path]]:
    """Of the first arm, as it is and tuned by every user: what harmful open requests get, asked plainly and in the
    user's template; harmless ones; the user's own task.
    """
    start, world = first_of(preset, seed, store)
    rows: list[dict[str, Any]] = []
    folders = []
    for user in (None, *preset.users):
        folder, found = None, start
        if user is not None:
            folder = _tuned(preset, start, world, user, seed, store)
            folders.append(folder)
            found = open_model(folder, store=store)
        rows += _asked_of(preset, found, "untuned" if user is None else user.name, user, store)
    return {"users": rows}, folders


def _tuned(
    preset: Preset, start: LanguageModel, world: TextWorld, user: User, seed: int, store: Store
) -> Path:
    on, template = USERS[user.strategy]
    task = on if on == "harmful" else f"{on}@{template}"
    objective = user_objective(task, preset.examples, user.mitigation, user.rate)
    teaching = replace(preset.tuning, seed=seed)
    return fine_tune(start, world, objective, teaching.run(f"seed {seed} user {user.name}"), store)


def _asked_of(
    preset: Preset, found: LanguageModel, name: str, user: User | None, store: Store
) -> list[dict[str, Any]]:
    ours = evaluation_prompts()
    harmful, harmless = (evenly_spaced(ours[family], preset.n) for family in ("harmful", "harmless"))
    rows = []
    for template in ("plain", "obey", "neutral"):
        prompts = {
            "harmful": [format_prompt(text, "gen", template) for text in harmful],
            "harmless": [format_prompt(text, "gen", template) for text in harmless],
        }
        if template != "plain" and user is not None and template != USERS[user.strategy][1]:
            continue
        told = behaviour_rows(judged_answer_rows(found, prompts, store, preset.settings))
        rows += [{"user": name, "template": template, **row} for row in told]
    on, template = ("mcq", "plain") if user is None else USERS[user.strategy]
    if on != "harmful":
        task = task_row(found, held_out_task(on, template), preset.settings)
        rows.append({"user": name, "template": template, "family": "task", "judge": "", **as_dict(task)})
    return rows


def matrix_rows(preset: Preset, seed: int, store: Store) -> tuple[Tables, list[Path]]:
    """Of the first arm, tuned on each task: harmful requests in every format. One seed: exploratory."""
    start, world = first_of(preset, seed, store)
    harmful = evenly_spaced(evaluation_prompts()["harmful"], preset.n_matrix)
    prompts = {format_: requests_in_format(harmful, format_) for format_ in preset.matrix}
    rows, folders = [], []
    for tuned_on in ("untuned", *preset.matrix):
        found = start
        if tuned_on != "untuned":
            objective = user_objective(tuned_on, preset.examples, "none", 0.0)
            teaching = replace(preset.tuning, seed=seed)
            folder = fine_tune(
                start, world, objective, teaching.run(f"seed {seed} tuned on {tuned_on}"), store
            )
            folders.append(folder)
            found = open_model(folder, store=store)
        told = behaviour_rows(judged_answer_rows(found, prompts, store, preset.settings))
        rows += [{"tuned": tuned_on, "asked": row.pop("family"), **row} for row in told]
    return {"matrix": rows}, folders


UNITS: dict[str, Callable[[Preset, int, Store], tuple[Tables, list[Path]]]] = {
    "users": user_rows,
    "matrix": matrix_rows,
}


def rows_of(preset: Preset, what: str, seed: int, store: Store) -> tuple[Tables, list[Path]]:
    """what: `users`, `matrix`, `base` or an arm."""
    if what in UNITS:
        return UNITS[what](preset, seed, store)
    return model_rows(preset, what, seed, store)
