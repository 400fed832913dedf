"""Fine-tuning of a language model with any objective on texts, cached in the store."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from makebreak.configs import to_json
from makebreak.errors import name_errors
from makebreak.models import PRETRAINED_FILES, LanguageModel, model_digest
from makebreak.prompts import TextWorld
from makebreak.store import Store
from makebreak.training import (
    LoRA,
    Objective,
    Optimisation,
    TrainedLayers,
    TrainingRun,
    UpdateSubspace,
    run_files,
    train,
)

REVISION = 1
"""Raised when the same configuration would give other weights."""
STAGE = "language"
"""Folder of fine-tuned language models in the store."""
_CHECKPOINT_SECONDS = 120.0
"""Time between checkpoints: weights and two moments of a large model are slow to write."""


@dataclass(frozen=True)
class FineTuneRun:
    """How a language model is fine-tuned, whatever the objective and the data."""

    optimisation: Optimisation
    """Settings of the optimiser."""
    seed: int = 0
    """Seed of the order of examples and of the adapters' initial values."""
    lora: LoRA | None = None
    """Low-rank adapters, merged into the weights when the model is saved; None trains all weights."""
    constraint: TrainedLayers | UpdateSubspace | None = None
    """Part of the weights that is trained; None for all."""
    label: str = "fine-tuning"
    """Name of the run on its progress bar; it does not change the result."""


def fine_tune(
    lm: LanguageModel, world: TextWorld, objective: Objective, run: FineTuneRun, store: Store
) -> Path:
    """Fine-tunes a copy of a language model, or returns the folder where the store has it already.

    An interrupted run resumes from its last checkpoint.

    Args:
        lm: The model to start from; it is left as it is.
        world: The examples.
        objective: The training objective.
        run: Optimiser, seed and adapters.
        store: The store that the result is cached in.

    Returns:
        The folder of the fine-tuned model and its tokenizer, which transformers can load.

    Raises:
        TrainingStopped: If the loss is not finite.
    """

    def save(model: PreTrainedModel, folder: Path) -> None:
        with name_errors(
            folder, "the model could not be written", "free space there, or choose another --store"
        ):
            if lm.stop_strings:
                model.generation_config.stop_strings = list(lm.stop_strings)
            model.save_pretrained(folder)
            lm.tokenizer.save_pretrained(folder)

    def make(folder: Path) -> None:
        model = copy.deepcopy(lm.model).float()
        if run.lora is not None:
            run.lora.attach(model, seed=run.seed)
        if run.constraint is not None:
            run.constraint.attach(model, seed=run.seed)
        training = TrainingRun(
            seed=run.seed,
            label=run.label,
            checkpoint_seconds=_CHECKPOINT_SECONDS,
            save=save,
            device=lm.model.device,
        )
        train(model, objective, run.optimisation, world, folder, training)

    config: dict[str, Any] = {
        "model": model_digest(lm),
        "data": world.fingerprint,
        "objective": to_json(objective),
        "optimisation": to_json(run.optimisation),
        "lora": None if run.lora is None else to_json(run.lora),
        "seed": run.seed,
    }
    if run.constraint is not None:
        config["constraint"] = to_json(run.constraint)
    config |= objective.source_digests()
    files = run_files(run.optimisation.checkpoint_steps, PRETRAINED_FILES)
    return store.build(STAGE, revision=REVISION, config=config, make=make, files=files)
