"""How is a language model aligned, or tuned? By any objective, on a world of texts; `tune` makes what is missing."""

from __future__ import annotations

import copy
from pathlib import Path

from transformers import PreTrainedModel

from makebreak.artifacts import Store
from makebreak.configs import to_json
from makebreak.defences import Mixed
from makebreak.defences import digest as digest_of
from makebreak.models import LanguageModel, digest
from makebreak.requests import TextWorld
from makebreak.training import LoRA, Objective, Optimisation, train

REVISION = 1  # raise it when the same config would give other weights
STAGE = "language"
_CHECKPOINT_SECONDS = 120.0  # weights and two moments of a large model are slow to write


def tune(
    found: LanguageModel,
    world: TextWorld,
    objective: Objective,
    optimisation: Optimisation,
    store: Store,
    *,
    seed: int,
    lora: LoRA | None = None,
    label: str = "tuning",
) -> Path:
    """The folder of the tuned model, which transformers opens; adapters are merged. Interrupted, it goes on from its
    last checkpoint. Raises TrainingStopped where the loss is not finite."""

    def write(model: PreTrainedModel, folder: Path) -> None:
        model.save_pretrained(folder)
        found.tokenizer.save_pretrained(folder)

    def make(folder: Path) -> None:
        model = copy.deepcopy(found.model).float()
        if lora is not None:
            lora.attach(model, seed=seed)
        train(
            model,
            objective,
            optimisation,
            world,
            folder,
            seed=seed,
            label=label,
            checkpoint_seconds=_CHECKPOINT_SECONDS,
            write=write,
        )

    config = {
        "model": digest(found),
        "data": world.fingerprint,
        "objective": to_json(objective),
        "optimisation": to_json(optimisation),
        "lora": None if lora is None else to_json(lora),
        "seed": seed,
    }
    if (
        isinstance(objective, Mixed)
        and objective.mitigation != "none"
        and (own := digest_of(objective.mitigation))
    ):
        config[f"{objective.mitigation} is"] = own
    return store.build(STAGE, revision=REVISION, config=config, make=make)
