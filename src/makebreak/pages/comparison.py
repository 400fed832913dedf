"""What does one checkpoint of a language model do otherwise than another, and how does that come about?"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

import torch

from makebreak.artifacts import Store
from makebreak.behaviour import decide
from makebreak.mechanism import (
    Verdict,
    anatomy_rows,
    energy_rows,
    reading_rows,
    rival_rows,
    sensitivity_rows,
    update_rows,
    verdict,
)
from makebreak.models import LanguageModel, digest, matrix, matrix_names, n_layers
from makebreak.pages.inspection import LEAST, Settings, ask, prompts_digest
from makebreak.pages.steps import Rows, Seen, Steps
from makebreak.requests import TextRequests

MOST = 48  # requests of each kind: every cut reads all of them three times
CUTS = 8  # of the network, beside those at either end and before the last block


def compare_models(
    base: LanguageModel,
    aligned: LanguageModel,
    prompts: Mapping[str, Sequence[str]],
    store: Store,
    settings: Settings,
    *,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[dict[str, Rows], Verdict]:
    """Tables (rivals, anatomy, energy, reading, sensitivity, updates), and how refusing comes about by the rules.

    Both read the same tokens, the aligned model's: a base often has no chat template. prompts: `harmful` and
    `harmless`, of which the first `MOST` are asked. say: told how long it will take, before it starts. Raises
    ValueError where the two are not checkpoints of one model, or a family is too small.
    """
    shapes = [{name: tuple(w.shape) for name, w in m.model.state_dict().items()} for m in (base, aligned)]
    if shapes[0] != shapes[1]:
        other = sorted(set(shapes[0].items()) ^ set(shapes[1].items()))[0][0]
        raise ValueError(
            f"{base.name} and {aligned.name} are not checkpoints of one model: {other} differs in shape"
        )
    asked = {
        family: ask(aligned, family, prompts[family][:MOST], settings) for family in ("harmless", "harmful")
    }
    for family, requests in asked.items():
        if len(requests) < LEAST:
            raise ValueError(f"{len(requests)} {family} requests: expected at least {LEAST}")
    config = {
        "base": digest(base),
        "aligned": digest(aligned),
        "settings": asdict(settings),
        "prompts": prompts_digest({family: prompts[family][:MOST] for family in asked}),
    }
    depth = n_layers(base.model)
    cuts = sorted({*range(0, depth + 1, max(depth // CUTS, 1)), depth // 2, depth - 1, depth})
    say(
        f"about {max(_estimate(base, asked['harmful'], len(cuts)) / 60, 0.1):.1f} minutes, less what is in the store"
    )
    steps, seed = Steps("compare", store, config), settings.seed
    one, other = aligned.model, base.model
    makes: dict[str, Callable[[Seen], Rows]] = {
        "rivals": lambda _: rival_rows(one, other, asked["harmful"], cuts=cuts, seed=seed),
        "anatomy": lambda _: anatomy_rows(one, other, asked),
        "energy": lambda _: energy_rows(one, other, asked, asked["harmless"]),
        "reading": lambda _: reading_rows(one, other, asked),
        "sensitivity": lambda _: sensitivity_rows(one, other, asked),
        "updates": lambda _: update_rows(one, other, None, seed=seed),
    }
    tables = {name: steps.run(name, make) for name, make in makes.items()}
    return tables, verdict(tables["rivals"])


def _estimate(base: LanguageModel, requests: TextRequests, n_cuts: int) -> float:
    """Seconds, from one forward of a few requests and one decomposition of a matrix."""
    few, model = requests[:8], base.model
    decide(model, few)  # warms up
    times = [time.monotonic()]
    decide(model, few)
    times.append(time.monotonic())
    torch.linalg.svd(matrix(model, "blocks.0.mlp.W_in").double())
    times.append(time.monotonic())
    forwards = 3 * n_cuts + 3 * 8 + 30  # cuts; eight gradients for what the base hears; all else
    decompositions = 4 * len(matrix_names(model)) + 4 * n_layers(model)
    return forwards * len(requests) * (times[1] - times[0]) / len(few) + decompositions * (
        times[2] - times[1]
    )
