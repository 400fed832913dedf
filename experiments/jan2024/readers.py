"""Is "unsafe" hidden from readers of n-grams? In every format apart, and in all together."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

from experiments.jan2024.presets import Preset
from makebreak.artifacts import Store, write_json
from makebreak.requests import load_world
from synthetic.detectability import auroc, fit

ORDERS = (1, 2, 3, 4, 5, 6)
N = 4000  # requests of a kind that a reader learns from, and as many that it judges
ROWS = "rows.json"


def reader_rows(preset: Preset, world: str, seed: int, store: Store) -> tuple[list[dict[str, Any]], Path]:
    """One row per format (`all` of them, too) and order: AUROC of a reader of the text, safe against unsafe."""
    own = load_world(world)

    def make(folder: Path) -> None:
        rows = []
        for name, n in product(("all", *preset.formats), ORDERS):
            families = [kind if name == "all" else f"{name}_{kind}" for kind in ("safe", "unsafe")]
            reader = fit("text", n, *(own.sample(family, N, seed=seed) for family in families))
            safe, unsafe = [reader.log_odds(own.sample(family, N, seed=seed, start=N)) for family in families]
            rows.append({"format": name, "n": n, "auroc": auroc(positive=unsafe, negative=safe)})
        write_json(folder / ROWS, rows)

    config = {"world_is": own.fingerprint, "n": N, "orders": list(ORDERS), "seed": seed}
    made = store.build("formats-readers", revision=1, config=config, make=make)
    return json.loads((made / ROWS).read_text()), made
