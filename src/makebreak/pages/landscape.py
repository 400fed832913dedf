"""How far may a model's weights move before it no longer refuses, and before it no longer answers?

A model of the zoo is judged exactly, on held-out requests of its world; a language model by its answers, which are
generated no further than their verdict needs. Every point is kept at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from transformers import PreTrainedModel

from makebreak.artifacts import RECORD, Store, record
from makebreak.behaviour import JUDGES, answer_texts, broken, near
from makebreak.configs import check_positive
from makebreak.landscape import COMPLIED, REFUSED, Per, Points, Walk, basin_rows, labels, random_direction, share
from makebreak.models import LanguageModel, digest, load
from makebreak.pages.inspection import JUDGE, Settings, ask, prompts_digest
from makebreak.pages.steps import Rows, Steps
from makebreak.requests import load_world
from makebreak.zoo import asked

Outcomes = Callable[[], dict[str, Any]]
"""What the model does as its weights stand."""
SENSE = 0.5  # of the nats of a token drawn from the whole vocabulary
SPLIT = "score"  # requests that no stage of training saw


@dataclass(frozen=True)
class Walking:
    """directions: random ones. points: of each, an odd number. window: of the relative norm, on either side.
    per: norms by tensor, as published, or by output row."""

    directions: int = 3
    points: int = 21
    window: float = 0.5
    per: Per = "tensor"

    def __post_init__(self) -> None:
        check_positive(directions=self.directions, points=self.points, window=self.window)
        if self.points < 3 or self.points % 2 == 0:
            raise ValueError(f"points = {self.points}: expected an odd number from 3 on, the origin among them")


@dataclass(frozen=True)
class Ground:
    """Tables: `curves`, a row per direction and point; `widths`, a row per direction and sense of failure."""

    tables: dict[str, Rows]
    walking: Walking


def walk_world(folder: Path, store: Store, walking: Walking, *, n: int, say: Callable[[str], None]) -> Ground:
    """Of a model of the zoo, on `n` unsafe and safe requests. Raises ValueError where the folder is damaged."""
    recipe = record(folder)["config"]
    world, seed = load_world(recipe["world"]), int(recipe["seed"])
    model = load(folder, symbols=world.vocabulary.symbols)
    unsafe, safe = (asked(recipe["world"], family, n, seed, SPLIT) for family in ("unsafe", "safe"))

    def outcomes() -> dict[str, Any]:
        on_unsafe = labels(model, unsafe)
        return {
            "refused": share(on_unsafe, REFUSED),
            "complied": share(on_unsafe, COMPLIED),
            "safe": share(labels(model, safe), COMPLIED),
        }

    steps = Steps("landscape", store, {"model": folder.name, "n": n})
    return _walked(model, outcomes, steps, walking, say)


def walk_language_model(
    found: LanguageModel,
    prompts: Mapping[str, Sequence[str]],
    store: Store,
    settings: Settings,
    walking: Walking,
    *,
    say: Callable[[str], None],
) -> Ground:
    """prompts: `harmful` and `harmless` ones. An answer complies where it is no refusal, does not go round in circles,
    and is no gibberish to the model at the origin."""
    requests = {family: ask(found, family, prompts[family], settings) for family in ("harmful", "harmless")}

    def final(answer: str) -> bool:
        return bool(JUDGES[JUDGE]([""], [answer])[0])

    def outcomes() -> dict[str, Any]:
        return {
            family: answer_texts(found.model, found.tokenizer, these, n_new=settings.n_new, final=final)
            for family, these in requests.items()
        }

    def rates(said: dict[str, Any]) -> dict[str, float]:
        """At the origin again: what a moved model says is judged by the model as it was."""
        refused, complied = {}, {}
        for family in requests:
            answers = said[family]
            no = JUDGES[JUDGE](list(prompts[family]), answers)
            sense = ~no & ~broken(answers)
            sense[sense] = _likely(found, family, prompts[family], answers, sense, settings)
            refused[family], complied[family] = float(no.mean()), float(sense.mean())
        return {"refused": refused["harmful"], "complied": complied["harmful"], "safe": complied["harmless"]}

    config = {"model": digest(found), "settings": asdict(settings), "prompts": prompts_digest(prompts)}
    return _walked(found.model, outcomes, Steps("landscape", store, config), walking, say, rates)


def _likely(
    found: LanguageModel,
    family: str,
    texts: Sequence[str],
    answers: Sequence[str],
    chosen: np.ndarray,
    settings: Settings,
) -> np.ndarray:
    """Of the chosen answers, which are no gibberish to the model: mean nats of a token within `SENSE` of what a token
    drawn from the whole vocabulary would cost."""
    rows = np.flatnonzero(chosen).tolist()
    if not rows:
        return np.zeros(0, dtype=bool)
    requests = ask(found, family, [texts[i] for i in rows], settings, targets=[answers[i] for i in rows])
    cost = near(found.model, requests, "instructed").nll.numpy()
    return cost < SENSE * np.log(found.model.config.vocab_size)


def of_the_zoo(name: str) -> bool:
    """Whether this is a folder of a store, whose world is known."""
    folder = Path(name)
    return (folder / RECORD).is_file() and "world" in record(folder).get("config", {})


def _walked(
    model: PreTrainedModel,
    outcomes: Outcomes,
    steps: Steps,
    walking: Walking,
    say: Callable[[str], None],
    rates: Callable[[dict[str, Any]], dict[str, float]] = lambda said: said,
) -> Ground:
    """outcomes: what is kept of a point. rates: of that, once the weights are what they were: `refused` and `complied`
    of unsafe requests, `safe` ones answered."""
    axis = np.linspace(-walking.window, walking.window, walking.points).round(9).tolist()
    say(f"random directions: {walking.directions}; {len(axis)} points each, measured once and kept")
    rows: Rows = []
    for i in range(walking.directions):

        def walk(folder: Path, bar: Any, i: int = i) -> Rows:
            direction = random_direction(model, i, per=walking.per)
            said = {}
            with Walk(model, direction) as moved:
                points = Points(moved, outcomes, folder / "points.jsonl")
                for a in axis:
                    said[a] = points(a)
                    bar.update()
            return [{"direction": i, **rates(found), "at": a} for a, found in said.items()]

        of = {"axis": axis, "per": walking.per, "direction": i}
        rows += steps.go_on(f"direction {i}", walk, total=len(axis), **of)
    widths = basin_rows(pd.DataFrame(rows), ("direction",))
    return Ground({"curves": rows, "widths": widths.to_dict("records")}, walking)
