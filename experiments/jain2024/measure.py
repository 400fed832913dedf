"""What is measured of each model? Behaviour on every family, clusters and null shares, with their controls."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from makebreak.artifacts import Store, write_json
from makebreak.behaviour import behaviour, kl_to_base
from makebreak.mechanism import cluster_rows, null_share_rows
from makebreak.models import load
from makebreak.requests import Requests, load_world
from makebreak.stats import wilson

REVISION = 3  # raise it when the same model would give other numbers
SHAM_FAMILIES = ("sham_safe", "sham_unsafe")


@lru_cache(maxsize=256)
def asked(world: str, family: str, n: int, seed: int, split: str) -> Requests:
    """Held-out requests of a family, the same for every model of a seed."""
    return load_world(world).sample(family, n, seed=seed, split=split)


def n_texts(requests: Requests) -> int:
    """How many different texts the requests are made of."""
    return len(np.unique(np.c_[requests.truth["grammar"], requests.truth["text"]], axis=0))


def _interval(rate: float, n: int) -> list[tuple[str, float]]:
    """Wilson's interval over requests."""
    return list(zip(("low", "high"), wilson(round(rate * n), n), strict=True))


def families(world: str) -> list[str]:
    """The families that models are judged on: all but those of pretraining."""
    return [name for name in load_world(world).families if not name.startswith("pretraining")]


def measure(store: Store, world: str, model: Path, base: Path, *, seed: int, n: int) -> tuple[dict[str, Any], Path]:
    """All rows of one model, from the store or computed now, and their folder."""
    config = {"world": world, "seed": seed, "n": n}
    folder = store.build(
        "jain2024-measures",
        revision=REVISION,
        config=config,
        parents=[model, base],
        make=lambda folder: write_json(folder / "rows.json", _measure(world, model, base, seed, n)),
    )
    return json.loads((folder / "rows.json").read_text()), folder


def _measure(world_name: str, model_folder: Path, base_folder: Path, seed: int, n: int) -> dict[str, Any]:
    world = load_world(world_name)
    model, base = (load(folder, symbols=world.vocabulary.symbols) for folder in (model_folder, base_folder))
    score = {name: asked(world_name, name, n, seed, "score") for name in families(world_name)}
    behaved = {name: behaviour(model, world, requests) for name, requests in score.items()}
    fit = tuple(asked(world_name, name, n, seed, "fit") for name in ("safe", "unsafe"))
    pairs = {"standard": ("safe", "unsafe"), "token-matched": ("context_safe", "context_unsafe")}
    looked_at = ("safe", "unsafe", "context_safe", "context_unsafe", *SHAM_FAMILIES)
    return {
        "behaviour": [
            {"family": b.family, "n": b.n, "n_texts": n_texts(score[b.family]), **b.rates}
            | {f"{name}_{end}": v for name, rate in b.rates.items() for end, v in _interval(rate, b.n)}
            | {"margin": b.margin, "instruct": b.instruct, "null": b.null}
            for b in behaved.values()
        ],
        "kl_on_safe": kl_to_base(model, base, world, score["safe"]),
        "clusters": cluster_rows(
            model,
            (fit[0], fit[1]),
            {name: (score[safe], score[unsafe]) for name, (safe, unsafe) in pairs.items()},
            n_groups=len(set(fit[0].truth["grammar"].tolist())),
            seed=seed,
        ),
        "null_share": null_share_rows(
            model,
            base,
            {name: score[name] for name in looked_at},
            {name: behaved[name].outcomes for name in looked_at},
            seed=seed,
        ),
    }
