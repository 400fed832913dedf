"""What does one checkpoint of a language model do otherwise than another, and how does that come about?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

from makebreak.artifacts import Store
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
from makebreak.models import LanguageModel, digest
from makebreak.pages.inspection import LEAST, Settings, ask, prompts_digest
from makebreak.pages.steps import Rows, Seen, Steps


def compare_models(
    base: LanguageModel,
    aligned: LanguageModel,
    prompts: Mapping[str, Sequence[str]],
    store: Store,
    settings: Settings,
) -> tuple[dict[str, Rows], Verdict]:
    """Tables (rivals, anatomy, energy, reading, sensitivity, updates), and how refusing comes about by the rules.

    Both read the same tokens, the aligned model's: a base often has no chat template. prompts: `harmful` and
    `harmless`. Raises ValueError where the two are not checkpoints of one model, or a family is too small.
    """
    shapes = [{name: tuple(w.shape) for name, w in m.model.state_dict().items()} for m in (base, aligned)]
    if shapes[0] != shapes[1]:
        other = sorted(set(shapes[0].items()) ^ set(shapes[1].items()))[0][0]
        raise ValueError(f"{base.name} and {aligned.name} are not checkpoints of one model: {other} differs in shape")
    asked = {family: ask(aligned, family, prompts[family], settings) for family in ("harmless", "harmful")}
    for family, requests in asked.items():
        if len(requests) < LEAST:
            raise ValueError(f"{len(requests)} {family} requests: expected at least {LEAST}")
    config = {
        "base": digest(base),
        "aligned": digest(aligned),
        "settings": asdict(settings),
        "prompts": prompts_digest(prompts),
    }
    steps, seed = Steps("compare", store, config), settings.seed
    one, other = aligned.model, base.model
    makes: dict[str, Callable[[Seen], Rows]] = {
        "rivals": lambda _: rival_rows(one, other, asked["harmful"], seed=seed),
        "anatomy": lambda _: anatomy_rows(one, other, asked),
        "energy": lambda _: energy_rows(one, other, asked, asked["harmless"]),
        "reading": lambda _: reading_rows(one, other, asked),
        "sensitivity": lambda _: sensitivity_rows(one, other, asked),
        "updates": lambda _: update_rows(one, other, None, seed=seed),
    }
    tables = {name: steps.run(name, make) for name, make in makes.items()}
    return tables, verdict(tables["rivals"])
