"""What does every tuned model do, asked plainly, in its user's template, and behind a word of care? And how many steps
of harmful tuning does it take then?"""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

from experiments.eiras2024.presets import CAREFUL, STRATEGIES, UNTUNED, Preset, Tuned
from makebreak.artifacts import Store, write_json
from makebreak.behaviour import behaviour
from makebreak.models import load
from makebreak.recipes import Recipe, build, checkpoints
from makebreak.requests import load_world
from makebreak.zoo import asked, weight_change
from synthetic import in_template

ROWS = "rows.json"
PLAIN, OWN, CARE = "plain", "own", "care"


def _questions(preset: Preset, of: Tuned) -> list[dict[str, str]]:
    """What is asked: how (`asked_in`), in which template and format, of which kind, by which operator."""
    own = "plain" if of.strategy == UNTUNED else STRATEGIES[of.strategy].template
    templates = {PLAIN: "plain", OWN: own} | ({CARE: CAREFUL[own]} if own in CAREFUL else {})
    if of.strategy == UNTUNED:
        templates = {PLAIN: "plain", **{t: t for t in ("obey", "neutral", "empty", *CAREFUL.values())}}
    kinds = [("gen", kind) for kind in ("safe", "unsafe", "mild", "heldout")]
    kinds += [(f, kind) for f in preset.aligned.formats if f != "gen" for kind in ("safe", "unsafe")]
    found = [
        {"asked_in": how, "template": template, "asked": form, "family": kind, "operator": "shown"}
        for (how, template), (form, kind) in product(templates.items(), kinds)
    ]
    if of.strategy != UNTUNED:
        operator = "new" if "_new" in STRATEGIES[of.strategy].user else "shown"
        task = {
            "asked_in": "task",
            "template": own,
            "asked": STRATEGIES[of.strategy].format,
            "family": "safe",
        }
        found.append({**task, "operator": operator})
    return found


def tuned_rows(preset: Preset, seed: int, of: Tuned, store: Store) -> tuple[list[dict[str, Any]], list[Path]]:
    """One row per question: four rates, the margin of refusal, and how far the weights moved. The rows whose `asked_in`
    is `task` are the user's own task. Also the folders they came from."""
    model, start = build(preset.tuned(seed, of), store), build(preset.start(seed, of.defence), store)
    world, questions = preset.worlds[0], _questions(preset, of)

    def measure(folder: Path) -> None:
        own = load_world(world)
        loaded, rows, known = load(model, symbols=own.vocabulary.symbols), [], {}
        moved = weight_change(loaded, load(start, symbols=own.vocabulary.symbols))
        for question in questions:
            family = f"{question['asked']}_{question['family']}" + "_new" * (question["operator"] == "new")
            family = in_template(family, question["template"])
            if family not in known:
                found = behaviour(loaded, own, asked(world, family, preset.n, seed, "score"))
                known[family] = {**found.rates, "margin": found.margin}
            rows.append({**question, **known[family], "weight_change": moved})
        write_json(folder / ROWS, rows)

    config = {"n": preset.n, "seed": seed, "questions": questions}
    made = store.build(
        "restructured-outcomes", revision=1, config=config, parents=[model, start], make=measure
    )
    named = {"strategy": of.strategy, "mitigation": of.mitigation, "rate": of.rate, "defence": of.defence}
    return [{**named, **row} for row in json.loads((made / ROWS).read_text())], [model, start, made]


def starts(preset: Preset, seed: int) -> dict[str, Recipe]:
    """Models that harm is taught to: the base, the aligned one, and those tuned beside each mitigation."""
    aligned = preset.start(seed)
    tuned = {of.mitigation: preset.tuned(seed, of) for of in preset.relearnt_from()}
    defended = {defence: preset.start(seed, defence) for defence in preset.defences}
    return {"base": aligned.base, UNTUNED: aligned, **tuned, **defended}


def relearning_rows(
    preset: Preset, seed: int, start: str, store: Store
) -> tuple[list[dict[str, Any]], list[Path]]:
    """One row per rate and kept step, 0 among them: unsafe requests answered, mean of formats; and the folders."""
    recipe, rows, folders = starts(preset, seed)[start], [], []
    world = preset.worlds[0]
    for rate in preset.relearning_rates:
        first, model = build(recipe, store), build(preset.relearning_of(recipe, rate), store)

        def measure(folder: Path, first: Path = first, model: Path = model) -> None:
            own = load_world(world)
            requests = [
                asked(world, f"{form}_unsafe", preset.n, seed, "score") for form in preset.aligned.formats
            ]
            found = []
            for step, path in {0: first, **checkpoints(model)}.items():
                loaded = load(path, symbols=own.vocabulary.symbols)
                rates = [behaviour(loaded, own, part).rates for part in requests]
                means = {name: sum(r[name] for r in rates) / len(rates) for name in ("refuse", "comply")}
                found.append({"step": step, **means})
            write_json(folder / ROWS, found)

        config = {"n": preset.n, "seed": seed}
        made = store.build(
            "relearning-outcomes", revision=1, config=config, parents=[model, first], make=measure
        )
        rows += [{"start": start, "rate": rate, **row} for row in json.loads((made / ROWS).read_text())]
        folders += [first, model, made]
    return rows, folders
