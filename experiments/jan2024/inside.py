"""Does a fall of refusal in a format show inside? Clusters, null shares, stitched halves, and the basin before it.

And would a guard that was made for another format have seen what is asked?
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from experiments.jan2024.measure import ROWS
from experiments.jan2024.presets import Preset, Tuning
from makebreak.artifacts import Store, write_json
from makebreak.behaviour import greedy_answers
from makebreak.defences import answered, guard_rows
from makebreak.landscape import Points, Walk, basin, random_direction
from makebreak.mechanism import Pair, cluster_rows, null_share_rows
from makebreak.models import load, n_layers, stitched
from makebreak.recipes import build
from makebreak.requests import Requests, load_world
from makebreak.zoo import asked

DIRECTIONS, WINDOW, POINTS = 2, 0.5, 21
GUARDED = 400  # requests per format and kind that a guard is fitted, set and asked on


def inside_rows(
    preset: Preset, world: str, seed: int, coverage: str, name: str, store: Store
) -> tuple[list[dict[str, Any]], list[Path]]:
    """One row per format that is asked in, of the model tuned on `name` at `preset.rate`, and the folders used.

    separation, null: normalised separation of safe and unsafe requests in the last layer, and null share (base's,
    exact) of unsafe less safe ones, mean of layers; `_before` of the aligned model. refuse: of unsafe requests; upper,
    lower: with the tuned upper or lower half on the other half of the aligned model.
    """
    tuning = Tuning(name, "task", preset.rate)
    recipe = preset.tuned(world, seed, coverage, tuning)
    folders = {"base": recipe.base, "aligned": recipe.parent, "tuned": recipe}
    paths = {key: build(of, store) for key, of in folders.items()}

    def measure(folder: Path) -> None:
        symbols = load_world(world).vocabulary.symbols
        base, aligned, tuned = (load(path, symbols=symbols) for path in paths.values())
        half = n_layers(aligned) // 2
        models = {
            "refuse_before": aligned,
            "refuse": tuned,
            "upper": stitched(aligned, tuned, half),
            "lower": stitched(tuned, aligned, half),
        }
        rows = []
        for form in preset.formats:
            row = {key: _refused(model, preset, world, seed, form) for key, model in models.items()}
            for suffix, model in (("_before", aligned), ("", tuned)):
                row[f"separation{suffix}"] = _separation(model, preset, world, seed, form)
                row[f"null{suffix}"] = _null(model, base, preset, world, seed, form)
            rows.append({"asked": form, **row})
        write_json(folder / ROWS, rows)

    config = {"n": preset.n, "seed": seed}
    made = store.build("formats-inside", revision=1, config=config, parents=[*paths.values()], make=measure)
    rows = [{"coverage": coverage, "tuned": name, **row} for row in json.loads((made / ROWS).read_text())]
    return rows, [*paths.values(), made]


def width_rows(
    preset: Preset, world: str, seed: int, coverage: str, store: Store
) -> tuple[list[dict[str, Any]], list[Path]]:
    """How far the aligned model's weights may move in random directions until half of a format's unsafe requests are
    not refused: one row per format, mean of directions and sides, relative norm."""
    model = build(preset.aligned(world, seed, coverage), store)
    axis = np.linspace(-WINDOW, WINDOW, POINTS).round(9)

    def measure(folder: Path) -> None:
        aligned = load(model, symbols=load_world(world).vocabulary.symbols)

        def refused() -> dict[str, float]:
            return {form: _refused(aligned, preset, world, seed, form) for form in preset.formats}

        widths: dict[str, list[float]] = {form: [] for form in preset.formats}
        for i in range(DIRECTIONS):
            with Walk(aligned, random_direction(aligned, i)) as walk:
                points = Points(walk, refused, folder / f"random-{i}.jsonl")
                found = [points(at) for at in axis.tolist()]
            for form, own in widths.items():
                own.append(basin(axis, np.array([1 - point[form] for point in found])).r50)
        write_json(
            folder / ROWS, [{"asked": form, "width": float(np.mean(own))} for form, own in widths.items()]
        )

    config = {"n": preset.n, "seed": seed, "directions": DIRECTIONS, "window": WINDOW, "points": POINTS}
    made = store.build("formats-widths", revision=1, config=config, parents=[model], make=measure)
    rows = [{"coverage": coverage, **row} for row in json.loads((made / ROWS).read_text())]
    return rows, [model, made]


def guard_table(
    preset: Preset, world: str, seed: int, coverage: str, store: Store
) -> tuple[list[dict[str, Any]], list[Path]]:
    """What guards that read by the base see, made of one format, of all, and of all but one: on prompts alone (`reads`
    prompt), and with the right answer behind them (`answer`); the middle layer, means by format that is asked in."""
    base = build(preset.aligned(world, seed, coverage).base, store)

    def measure(folder: Path) -> None:
        model = load(base, symbols=load_world(world).vocabulary.symbols)

        def half(kinds: tuple[str, ...], split: str) -> dict[str, list[Requests]]:
            return {
                f: [asked(world, f"{f}_{kind}", GUARDED, seed, split) for kind in kinds]
                for f in preset.formats
            }

        rows = []
        for reads, how in (("prompt", lambda requests: requests), ("answer", answered)):
            fit, score = (
                {f: Pair(*map(how, pair)) for f, pair in half(("safe", "unsafe"), split).items()}
                for split in ("fit", "score")
            )
            quiet = {f: how(asked(world, f"{f}_safe", GUARDED, seed, "train")) for f in preset.formats}
            found = guard_rows(model, fit, quiet, score, layer=n_layers(model) // 2)
            rows += [{"reads": reads, **row} for row in found]
        write_json(folder / ROWS, rows)

    made = store.build(
        "formats-guards", revision=2, config={"n": GUARDED, "seed": seed}, parents=[base], make=measure
    )
    return [{"coverage": coverage, **row} for row in json.loads((made / ROWS).read_text())], [base, made]


def _refused(model: PreTrainedModel, preset: Preset, world: str, seed: int, form: str) -> float:
    own, requests = load_world(world), asked(world, f"{form}_unsafe", preset.n, seed, "score")
    return float((own.judge(requests, greedy_answers(model, own, requests).tokens) == 0).mean())


def _separation(model: PreTrainedModel, preset: Preset, world: str, seed: int, form: str) -> float:
    def pair(half: str) -> tuple[Requests, Requests]:
        safe, unsafe = (
            asked(world, f"{form}_{family}", preset.n, seed, half) for family in ("safe", "unsafe")
        )
        return safe, unsafe

    return float(cluster_rows(model, pair("fit"), {form: pair("score")}, seed=seed)[-1]["normalised"])


def _null(
    model: PreTrainedModel, base: PreTrainedModel, preset: Preset, world: str, seed: int, form: str
) -> float:
    requests = {
        family: asked(world, f"{form}_{family}", preset.n, seed, "score") for family in ("safe", "unsafe")
    }
    none = {family: np.zeros(len(part), dtype=np.int64) for family, part in requests.items()}
    rows = null_share_rows(model, base, requests, none, seed=seed)
    chosen = [
        row for row in rows if (row["rule"], row["quantity"], row["outcome"]) == ("exact", "pre", "all")
    ]
    share = {
        family: np.mean([row["share"] for row in chosen if row["family"] == family]) for family in requests
    }
    return float(share["unsafe"] - share["safe"])
