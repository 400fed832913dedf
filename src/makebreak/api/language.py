"""Results on language models: the jobs of the command line, with the pages that it writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from makebreak import lm, report
from makebreak.api.drawings import (
    attack_drawings,
    comparison_drawings,
    landscape_drawings,
    refusal_drawings,
    separation_drawings,
)
from makebreak.api.model import Model, current_store, result_owner
from makebreak.api.result import Result
from makebreak.errors import InvalidInput
from makebreak.evaluation import ChatTarget, check_context, deciding_judge
from makebreak.models import LanguageModel, model_digest
from makebreak.prompts import evaluation_prompts
from makebreak.settings import (
    AttackSettings,
    GenerationSettings,
    GoalSettings,
    LandscapeSettings,
    PromptSettings,
)
from makebreak.tables import Rows

PromptSource = str | Path | Mapping[str, Sequence[str]] | None
"""A file of prompts, prompts by family (`harmful`, `harmless`), or None for those that ship."""


@dataclass(frozen=True)
class Prompts:
    """Requests to a language model, and how it answers them."""

    source: PromptSource = None
    """A file, prompts by family, or None for those that ship."""
    n: int | None = None
    """Largest number of requests per family, spaced evenly; None for all."""
    generation: GenerationSettings = field(default_factory=GenerationSettings)
    """Prompt template, answer length and reasoning."""

    def __post_init__(self) -> None:
        if self.source is not None and not isinstance(self.source, str | Path | Mapping):
            raise TypeError(
                f"prompts of type {type(self.source).__name__}: expected a file, or a dictionary such as "
                "{'harmful': [...], 'harmless': [...]}"
            )

    @property
    def settings(self) -> PromptSettings:
        """The file of the prompts, if there is one."""
        is_file = isinstance(self.source, str | Path)
        return PromptSettings(Path(self.source) if is_file else None)  # type: ignore[arg-type]

    def families(self) -> dict[str, list[str]]:
        """Prompts by family."""
        if isinstance(self.source, Mapping):
            prompts = {family: list(texts) for family, texts in self.source.items()}
            unknown = set(prompts) - set(lm.FAMILIES)
            if unknown or "harmful" not in prompts:
                raise InvalidInput(
                    f"prompts of {', '.join(map(repr, prompts)) or 'no family'}: expected harmful, and "
                    "optionally harmless and borderline"
                )
            for family, texts in self.source.items():
                if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
                    raise TypeError(f"prompts of family {family!r}: expected a list of texts")
            own = evaluation_prompts()
            prompts = {"harmless": own["harmless"], **prompts}
            lm.check_distinct(prompts)
            return {
                family: texts if self.n is None else lm.evenly_spaced(texts, self.n)
                for family, texts in prompts.items()
            }
        return lm.load_prompts(self.settings, self.n)

    def check(self, model: LanguageModel, n_new: int) -> dict[str, list[str]]:
        """Prompts by family; raises InvalidInput if one exceeds the context of a model with its answer."""
        prompts, target = self.families(), ChatTarget(model, self.generation)
        for family, texts in prompts.items():
            check_context(model, target.encode(texts, family=family), n_new)
        return prompts

    def facts(self, prompts: Mapping[str, Sequence[str]], **models: LanguageModel) -> dict[str, str]:
        """Facts of a page on prompts, answers and models."""
        return job_facts(prompts, self.settings, self.generation, **models)


def job_facts(
    prompts: Mapping[str, Sequence[str]],
    source: PromptSettings,
    generation: GenerationSettings,
    **models: LanguageModel,
) -> dict[str, str]:
    """Facts of a page on prompts, which are those of the last model, on answers and on models."""
    settings = ChatTarget(list(models.values())[-1], generation).settings
    return report.prompt_facts(prompts, source, settings) | {
        name: f"{model.description}, SHA-256 {model_digest(model)[:16]}" for name, model in models.items()
    }


def evaluate_language(models: Sequence[Model], prompts: Prompts) -> Result:
    """Refusal rates of language models by family and judge, from greedy answers."""
    rows: Rows = []
    answers: Rows = []
    texts: dict[str, list[str]] = {}
    for model in models:
        language_model = language_model_of(model)
        texts = prompts.check(language_model, prompts.generation.n_new)
        judged = lm.judged_answer_rows(language_model, texts, current_store(), prompts.generation)
        answers += [{"model": model.name} | row for row in judged]
        rows += [{"model": model.name} | row for row in lm.behaviour_rows(judged)]
    tables = {"behaviour": pd.DataFrame(rows), "answers": pd.DataFrame(answers)}
    decides = deciding_judge()
    summary = [
        f"{row['model']} refuses {row['refuse']:.2f} [{row['low']:.2f}, {row['high']:.2f}] of {row['n']} "
        f"{row['family']} requests (judge {decides}; 95 % intervals over requests)."
        for row in rows
        if row["judge"] == decides
    ]
    names = {model.name: language_model_of(model) for model in models}
    return Result(
        f"the evaluation of {', '.join(names)}",
        result_owner("makebreak evaluate", *models),
        tables,
        summary,
        refusal_drawings(tables),
        prompts.facts(texts, **names),
    )


def inspect_language(model: Model, prompts: Prompts) -> Result:
    """Refusals of a language model, separation of the classes, and the refusal direction."""
    language_model = language_model_of(model)
    texts = prompts.check(language_model, prompts.generation.n_new)
    inspection = lm.inspect(language_model, texts, current_store(), prompts.generation)
    tables = _frames(inspection.tables, first="behaviour")
    facts = prompts.facts(texts, model=language_model) | {"refusals begin with": inspection.openers}
    return Result(
        f"the inspection of {model.name}",
        result_owner("makebreak inspect", model),
        tables,
        report.inspection_summary(inspection),
        separation_drawings(tables) or refusal_drawings(tables),
        facts,
        write=lambda folder: report.write_inspection(model.name, inspection, facts, folder),
    )


def compare_language(base: Model, aligned: Model, prompts: Prompts) -> Result:
    """What alignment changed between two checkpoints of a language model."""
    before, after = language_model_of(base), language_model_of(aligned)
    lm.check_weights_differ(before, after)
    texts = prompts.check(after, 0)
    rows, verdict = lm.compare_models(texts, current_store(), prompts.generation, base=before, tuned=after)
    tables = _frames(rows, first="quantities")
    facts = prompts.facts(texts, base=before, aligned=after)
    del facts["answers"]  # none are generated
    return Result(
        f"the comparison of {base.name} with {aligned.name}",
        result_owner("makebreak compare", base, aligned),
        tables,
        report.comparison_summary(rows, verdict),
        comparison_drawings(tables, ("harmless", "harmful")),
        facts,
        verdict,
        lambda folder: report.write_comparison((base.name, aligned.name), rows, verdict, facts, folder),
    )


def attack_language(model: Model, prompts: Prompts, settings: AttackSettings, seed: int) -> Result:
    """Attacks on the harmful requests that a language model refuses."""
    language_model = language_model_of(model)
    lm.choose_attacks(settings)
    lm.check_sizes_are_used(settings)
    goals = GoalSettings() if prompts.n is None else GoalSettings(requests=prompts.n)
    if isinstance(prompts.source, Mapping):
        requests = lm.evenly_spaced(prompts.families()["harmful"], goals.requests)
        targets = [goals.target] * len(requests)
    else:
        requests, targets = lm.load_attack_prompts(prompts.settings, goals)
    generation = replace(prompts.generation, seed=seed)
    data = lm.AttackData(requests, targets, evaluation_prompts())
    suite = lm.attack_model(language_model, data, current_store(), generation, settings)
    frames = _frames(suite.tables, first="attacked_answers")
    if "attacked_answers" in suite.tables:
        frames = {"success": pd.DataFrame(lm.success_rows(suite.tables["attacked_answers"]))} | frames
    facts = prompts.facts({"harmful": requests}, model=language_model)
    facts |= report.attack_facts(settings, targets, seed)
    return Result(
        f"attacks on {model.name}",
        result_owner("makebreak attack", model),
        frames,
        report.attack_summary(suite),
        attack_drawings(frames),
        facts,
        write=lambda folder: report.write_attacks(model.name, suite, facts, folder),
    )


def landscape_language(model: Model, prompts: Prompts, settings: LandscapeSettings) -> Result:
    """Refusal and compliance of a language model along random directions in weight space."""
    language_model = language_model_of(model)
    texts = prompts.check(language_model, prompts.generation.n_new)
    texts = {family: texts[family] for family in ("harmful", "harmless")}
    data = lm.chat_landscape_data(language_model, texts, prompts.generation)
    rows = lm.evaluate_landscape(data, current_store(), settings)
    tables = _frames(rows, first="widths")
    facts = prompts.facts(texts, model=language_model) | report.landscape_facts(settings)
    return Result(
        f"the landscape of {model.name}",
        result_owner("makebreak landscape", model),
        tables,
        report.landscape_summary(rows),
        landscape_drawings(tables, model.name),
        facts,
        write=lambda folder: report.write_landscape(model.name, rows, facts, folder),
    )


def language_model_of(model: Model) -> LanguageModel:
    """The language model of a model; raises InvalidInput for one of a synthetic world."""
    if model.language_model is None:
        raise InvalidInput(f"{model.name} is a model of a synthetic world: expected a language model")
    return model.language_model


def _frames(tables: Mapping[str, Rows], *, first: str) -> dict[str, pd.DataFrame]:
    """Tables as data frames, the main one first."""
    frames = {name: pd.DataFrame(rows) for name, rows in tables.items()}
    main: dict[str, pd.DataFrame] = {first: frames[first]} if first in frames else {}
    return main | frames
