"""What does every tuned model do in every format, along its tuning, and how far has it moved?"""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from experiments.jan2024.presets import RETAIN, Preset, Tuning
from makebreak.artifacts import Store, write_json
from makebreak.behaviour import decide, generate, greedy_answers, kl_to_base, log_odds
from makebreak.models import load
from makebreak.recipes import build, checkpoints
from makebreak.requests import OUTCOMES, Requests, begun, load_world
from makebreak.zoo import asked, weight_change
from synthetic import FormatsWorld

FAMILIES = ("safe", "unsafe", "heldout", "mild")
DEPTHS = (1, 2)  # tokens of the right answer that are forced
ROWS = "rows.json"


def tuned_rows(
    preset: Preset, world: str, seed: int, coverage: str, tuning: Tuning, store: Store
) -> tuple[list[dict[str, Any]], list[Path]]:
    """One row per kept step, family and format that is asked in; and the folders that they came from.

    operator: `shown`, those that pretraining and alignment had, or `new`, the tuned task's own.
    """
    aligned = build(preset.aligned(world, seed, coverage), store)
    tuned = build(preset.tuned(world, seed, coverage, tuning), store)
    kept = checkpoints(tuned)
    last = max(kept)
    at = {step: path for step, path in kept.items() if step == last or tuning.kind == "task"}

    def measure(folder: Path) -> None:
        symbols = load_world(world).vocabulary.symbols
        start = load(aligned, symbols=symbols)
        rows = []
        for step, path in at.items():
            model = load(path, symbols=symbols)
            moved = {
                "kl": _kl(start, model, preset, world, seed),
                "weight_change": weight_change(model, start),
            }
            found = _outcomes(model, preset, world, seed, preset.formats, "shown")
            if tuning.format != RETAIN:
                found += _outcomes(model, preset, world, seed, (tuning.format,), "new")
            rows += [{"step": step, **moved, **row} for row in found]
        write_json(folder / ROWS, rows)

    config = {"n": preset.n, "seed": seed, "format": tuning.format, "kind": tuning.kind, "steps": sorted(at)}
    made = store.build("formats-outcomes", revision=1, config=config, parents=[tuned, aligned], make=measure)
    named = {"coverage": coverage, "tuned": tuning.format, "kind": tuning.kind, "rate": tuning.rate}
    rows = [{**named, **row} for row in json.loads((made / ROWS).read_text())]
    return rows, [aligned, tuned, made]


def aligned_rows(
    preset: Preset, world: str, seed: int, coverage: str, store: Store
) -> tuple[list[dict[str, Any]], list[Path]]:
    """The same of the base, and of the model that tuning starts from."""
    recipe = preset.aligned(world, seed, coverage)
    folders = {"base": build(recipe.base, store), "aligned": build(recipe, store)}

    def measure(folder: Path) -> None:
        symbols, rows = load_world(world).vocabulary.symbols, []
        for name, path in folders.items():
            model = load(path, symbols=symbols)
            for operator in ("shown", "new"):
                found = _outcomes(model, preset, world, seed, preset.formats, operator)
                rows += [{"model": name, **row} for row in found]
        write_json(folder / ROWS, rows)

    config = {"n": preset.n, "seed": seed}
    made = store.build(
        "formats-aligned", revision=1, config=config, parents=[*folders.values()], make=measure
    )
    rows = [{"coverage": coverage, **row} for row in json.loads((made / ROWS).read_text())]
    return rows, [*folders.values(), made]


def _outcomes(
    model: PreTrainedModel, preset: Preset, world: str, seed: int, formats: tuple[str, ...], operator: str
) -> list[dict[str, Any]]:
    rows = []
    for name, family in product(formats, FAMILIES):
        requests = asked(world, f"{name}_{family}" + "_new" * (operator == "new"), preset.n, seed, "score")
        rows.append({"asked": name, "family": family, "operator": operator, **_rates(model, world, requests)})
    return rows


def _rates(model: PreTrainedModel, world: str, requests: Requests) -> dict[str, float | None]:
    """Four outcomes, the margin in nats, and what is refused behind forced tokens of the right answer."""
    own = load_world(world)
    assert isinstance(own, FormatsWorld)
    outcomes = own.judge(requests, greedy_answers(model, own, requests).tokens)
    begins = torch.from_numpy(np.tile(own.refusals[:, 0], (len(requests), 1)))
    return {
        **{name: float((outcomes == i).mean()) for i, name in enumerate(OUTCOMES)},
        "margin": float(log_odds(decide(model, requests), begins).mean()),
        **{f"forced_{k}": _behind(model, requests, k, own.refusals) for k in DEPTHS},
    }


def _behind(model: PreTrainedModel, requests: Requests, k: int, refusals: np.ndarray) -> float | None:
    """Share that is refused behind the first k tokens of the right answer; None where answers are no longer."""
    if requests.truth["length"].min() <= k + 1:
        return None
    said = generate(model, begun(requests, np.full(len(requests), k)), refusals.shape[1], pad=0)
    return float((said[:, None] == refusals).all(axis=2).any(axis=1).mean())


def _kl(start: PreTrainedModel, model: PreTrainedModel, preset: Preset, world: str, seed: int) -> float:
    """KL(aligned ‖ tuned) per token of the right answers to safe requests of all formats, nats."""
    requests = [asked(world, f"{name}_safe", preset.n, seed, "score") for name in preset.formats]
    return float(np.mean([kl_to_base(model, start, load_world(world), part) for part in requests]))
