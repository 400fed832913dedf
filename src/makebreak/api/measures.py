"""Measures of models of synthetic worlds: taken of some models, or collected over all models of a store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from makebreak import model_zoo, settings
from makebreak.api.drawings import measure_drawings
from makebreak.api.model import Model, check_models, current_store, store_model
from makebreak.api.result import Result
from makebreak.errors import InvalidInput
from makebreak.output_record import OutputOwner


def score(models: Model | Sequence[Model], *measures: model_zoo.Measure) -> Result:
    """Takes measures of models of a synthetic world, each of them once: the store keeps the values.

    Args:
        models: A model, or several of one world.
        *measures: Measures, such as a function with the decorator `makebreak.measure`; none takes refusal
            margin, KL on safe requests, ‖ΔW‖ and outcome rates.

    Returns:
        One row per model, one column per value; longer tables of the measures under their own names.

    Raises:
        InvalidInput: If a model is a language model, which has no known training.
    """
    every = check_models(models)
    for each in measures:
        if not isinstance(each, model_zoo.Measure):
            raise TypeError(f"{each!r} is no measure: decorate a function with @makebreak.measure(NAME)")
    rows, tables = [], {}
    for model in every:
        if model.recipe is None:
            raise InvalidInput(
                f"{model.name} is a language model: a measure needs a model of a synthetic world, whose base "
                "and training are known"
            )
        store_model(model)
        row: dict[str, object] = {"model": model.name}
        results = model_zoo.measure(
            current_store(), model.recipe, *(measures or (model_zoo.SafetyMeasure(300),))
        )
        for measurement, folder in results:
            model_zoo.mark_as_latest(folder)
            for column in measurement.columns:
                if column in row:
                    raise InvalidInput(f"two measures give the column {column!r}: give one another name")
            row |= measurement.columns
            for name, longer in measurement.tables.items():
                tables.setdefault(name, []).extend({"model": model.name} | each for each in longer)
        rows.append(row)
    names = [model.name for model in every]
    frames = {"scores": pd.DataFrame(rows)} | {name: pd.DataFrame(each) for name, each in tables.items()}
    summary = ["These are single models: a claim needs several pretraining seeds, and control models."]
    return Result(
        f"measures of {', '.join(names)}",
        OutputOwner("makebreak.score", tuple(names)),
        frames,
        summary,
        measure_drawings(frames["scores"], "model", list(frames["scores"].columns.drop("model"))),
    )


def zoo(store: str | Path | None = None) -> Result:
    """The table of all models of a store, with all measures that were taken of them.

    Args:
        store: Folder of the store; None for `makebreak.settings.store`.

    Returns:
        One row per model and kept training step; the columns before `parent` say how a model was trained, the
        others are the values of measures.

    Raises:
        DamagedArtifact: If a result is not what its record says.
        ValueError: If the store is no folder.
    """
    folder = Path(settings.store if store is None else store)
    table = model_zoo.table(folder)
    n_trained = int((table.mechanism != "base").sum())
    summary = [f"{len(table)} models and training steps, {n_trained} of them after an alignment."]
    owner = OutputOwner("makebreak.zoo", (str(folder),))
    columns = list(table.columns.drop([*model_zoo.IDENTITY, "key", "step", "parent"]))
    drawings = measure_drawings(table, "mechanism", columns)
    return Result(f"the zoo of {folder}", owner, {"zoo": table}, summary, drawings)
