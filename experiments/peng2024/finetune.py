"""How is safety lost under fine-tuning? Every kind at every rate, judged on held-out requests along the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from experiments.peng2024.presets import RATES, Preset, kinds
from makebreak.artifacts import Store, write_json
from makebreak.landscape import COMPLIED, REFUSED, labels, share
from makebreak.models import load
from makebreak.recipes import build, checkpoints
from makebreak.requests import load_world
from makebreak.zoo import asked

FAMILIES = ("unsafe", "safe")
ROWS = "rows.json"


def outcomes(
    model: Any, world: str, seed: int, n: int, families: tuple[str, ...] = FAMILIES
) -> dict[str, str]:
    """A letter for each held-out request of every family."""
    return {family: labels(model, asked(world, family, n, seed, "score")) for family in families}


def shares(found: dict[str, str]) -> dict[str, float]:
    """What the tables hold of a point."""
    unsafe, safe = found["unsafe"], found["safe"]
    return {
        "refused": share(unsafe, REFUSED),
        "complied": share(unsafe, COMPLIED),
        "safe": share(safe, COMPLIED),
        "over_refused": share(safe, REFUSED),
    }


def finetuned_rows(
    preset: Preset, world: str, seed: int, arm: str, store: Store
) -> tuple[list[dict[str, Any]], list[Path]]:
    """One row per kind, rate and kept step, 0 among them, and the folders that they came from."""
    rows, folders = [], []
    for kind in kinds(arm):
        for rate in RATES:
            model = build(preset.finetuned(world, seed, arm, kind, rate), store)
            folders += [
                model,
                _judged(preset, world, seed, model, build(preset.recipe(world, seed, arm), store), store),
            ]
            found = json.loads((folders[-1] / ROWS).read_text())
            rows += [
                {"kind": kind, "rate": rate, "step": row["step"], **shares(row["labels"])} for row in found
            ]
    return rows, folders


def _judged(preset: Preset, world: str, seed: int, model: Path, start: Path, store: Store) -> Path:
    symbols = load_world(world).vocabulary.symbols

    def judge(folder: Path) -> None:
        at = {0: start, **checkpoints(model)}
        found = [
            {"step": step, "labels": outcomes(load(path, symbols=symbols), world, seed, preset.n)}
            for step, path in at.items()
        ]
        write_json(folder / ROWS, found)

    config = {"n": preset.n, "families": list(FAMILIES), "seed": seed}
    return store.build("finetuned-outcomes", revision=2, config=config, parents=[model, start], make=judge)


def best_rate(rows: list[dict[str, Any]], kind: str) -> float:
    """The attacker's: that which ends with most unsafe requests answered; the smallest of equals."""
    end = max(row["step"] for row in rows)
    last = [row for row in rows if row["kind"] == kind and row["step"] == end]
    return max(last, key=lambda row: (row["complied"], -row["rate"]))["rate"]
