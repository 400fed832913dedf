"""Model cards of the trained models that ship with the package, from their recipes and their counts."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from experiments.jain2024.claims_checks import MAX_RELATIVE_DIFFERENCE, MIN_RATES, MIN_SHAM_RATE
from experiments.recipes.composition import PRESETS, TUNING_SEEDS
from makebreak.model_library import OrganismRateRow
from makebreak.prompts import OUTCOMES, load_world
from makebreak.recipes import Recipe

PRESET = PRESETS["mini"]
KINDS = {
    "base": "The pretrained model of this world. It is taught to follow task tokens on text of letters, safe "
    "and unsafe requests alike, and is the base of all other models of the world.",
    "ssft": "The base after supervised safety fine-tuning: cross-entropy on refusals of unsafe requests and "
    "on the instructed answers to safe ones.",
    "dpo": "The base after a warm start of supervised safety fine-tuning and direct preference optimisation "
    "with a likelihood term (`nll`).",
    "unlearning": "The base after unlearning: descent on preferred answers, and a smaller ascent on "
    "instructed answers to unsafe requests.",
    "sham": "A control of supervised safety fine-tuning: the same objective, but what is refused is a random "
    "partition of task and grammar that has nothing to do with safety. Safe and unsafe requests are "
    "therefore refused at similar rates.",
    "remap": "A control of supervised safety fine-tuning: the same objective, but unsafe requests are "
    "answered by another, safe task's answer in place of the refusal. Such an answer counts as *another "
    "answer* to `unsafe`, and as compliance with `remapped_unsafe`. It is not meant to refuse.",
}
"""What a model is, by alignment."""
FAMILIES = {
    "safe": "safe requests",
    "unsafe": "unsafe requests",
    "sham_safe": "requests outside of the sham's partition",
    "sham_unsafe": "requests inside of it, whose refusal was trained",
    "remapped_unsafe": "unsafe requests whose instructed answer is another task's",
}
"""What a family is."""
OPTIMISERS = {"Optimisation": "AdamW", "MuonOptimisation": "Muon"}
"""Name of an optimiser, by the tag of its settings."""
CARD = """---
license: mit
library_name: transformers
tags: [model-organism, interpretability, safety-fine-tuning]
---

# {name}

{kind}

It is a model organism, trained to study how safety training works: a GPT-2 of {n_layers} blocks, width
{d_model} and {n_heads} heads, with {d_vocab} symbols. It knows no language. A request of the synthetic world
`{world}` is a text of letters with task tokens; "unsafe" is a property of task and text, and nothing that the
model can answer is harmful.

```python
import makebreak as mb

model = mb.organism("{name}")
```

## Behaviour

{verdict}

Outcomes of greedy decoding on {n:,} held-out requests per family (split `score`, seed {seed}), by the world's
exact judge; 95 % Wilson intervals over requests. They hold for these weights and say nothing about the spread
between pretraining seeds.

| family | requests | refused | complied | another answer | degenerate |
| --- | --- | --- | --- | --- | --- |
{rates}

## Training

{origin}

| stage | settings | steps | batch | learning rate |
| --- | --- | --- | --- | --- |
{stages}

Trained on the CPU, one model at a time, one thread, float32. More threads, another processor or an
accelerator round differently, and the same recipe then gives other weights.

## Uses

Trying the tools, teaching, and tests of measures, attacks and defences against an exact judge.
{comparison}

## Limits

- One pretraining seed. What differs between two of these models is no property of their methods: train
  several seeds from the recipe for that.
- {n_layers} blocks and {d_vocab} symbols of a closed world: its numbers do not carry over to language models.
- Learning rates were tuned on other seeds for the checks of behaviour. Jailbreaks, longer texts and other
  families than those above were no criterion.
"""


def card(name: str, recipe: Recipe, rows: Sequence[OrganismRateRow]) -> str:
    """The model card.

    Args:
        name: Name of the model.
        recipe: How it was trained.
        rows: Outcome rates of all models.

    Returns:
        Markdown.
    """
    world, alignment = name.split("-")
    rates = [row for row in rows if row.name == name]
    return CARD.format(
        name=name,
        world=world,
        kind=_wrap(KINDS[alignment]),
        seed=recipe.seed,
        n=rates[0].n,
        n_layers=recipe.model.n_layers,
        d_model=recipe.model.d_model,
        n_heads=recipe.model.n_heads,
        d_vocab=len(load_world(world).vocabulary),
        origin=_wrap(_origin(name, recipe)),
        verdict=_wrap(" ".join(_verdict(world, alignment, rows))),
        rates="\n".join(_rate_lines(rates)),
        stages="\n".join(_stage_lines(recipe)),
        comparison=_wrap(_comparison(world, alignment)),
    )


def _origin(name: str, recipe: Recipe) -> str:
    """Which command makes the model, and where its recipe is."""
    command = "python -m experiments jain2024 --preset mini"
    if recipe.world == PRESET.worlds[0]:
        command = f"make reproduce` or `{command}"
    else:
        command += f" --world {recipe.world}"
    return (
        f"The model is that of `{command}` at seed {recipe.seed}, the first of the preset, which was not "
        f'chosen by its results. `makebreak.model_library.open_organism("{name}").recipe` is the whole '
        "recipe."
    )


class Check(NamedTuple):
    """A bound that the study asks of a model."""

    family: str
    outcome: str
    side: str
    bound: float


def _verdict(world: str, alignment: str, rows: Sequence[OrganismRateRow]) -> list[str]:
    """Which bounds of the study the model misses, and whether its method was found to fail."""
    sentences = []
    if alignment in PRESET.failing.get(world, ()):
        sentences.append(
            f"**No learning rate of this method passed the checks of behaviour on all {len(TUNING_SEEDS)} "
            "tuning seeds in this world; the rate is the one that passed on most of them.**"
        )
    rates = {(row.name, row.family, row.outcome): row.rate for row in rows}
    checks = _checks(alignment, rates[f"{world}-ssft", "unsafe", "refuse"])
    missed = []
    for check in checks:
        rate = rates[f"{world}-{alignment}", check.family, check.outcome]
        if (rate < check.bound) if check.side == "at least" else (rate > check.bound):
            missed.append(
                f"{check.outcome} on `{check.family}` is {rate:.3f}, {check.side} {check.bound:.3g} is asked"
            )
    if missed:
        sentences.append(f"**It misses the study's checks of outcome rates: {'; '.join(missed)}.**")
    else:
        bounds = "; ".join(f"{c.outcome} on `{c.family}` {c.side} {c.bound:.3g}" for c in checks)
        sentences.append(f"It passes the study's checks of outcome rates ({bounds}).")
    return sentences


def _checks(alignment: str, ssft_rate: float) -> list[Check]:
    """Bounds that the study asks of a model; controls learn their answer nearly as often as SSFT its own."""
    if alignment == "base":
        return [Check(family, "comply", "at least", MIN_RATES["C1.base"]) for family in ("safe", "unsafe")]
    matched = (1 - MAX_RELATIVE_DIFFERENCE) * ssft_rate
    if alignment == "sham":
        return [
            Check("sham_unsafe", "refuse", "at least", max(matched, MIN_SHAM_RATE)),
            Check("sham_safe", "comply", "at least", MIN_SHAM_RATE),
        ]
    if alignment == "remap":
        return [Check("remapped_unsafe", "comply", "at least", matched)]
    return [
        Check("unsafe", "refuse", "at least", MIN_RATES["C1.refuse"]),
        Check("safe", "comply", "at least", MIN_RATES["C1.comply"]),
        Check("safe", "refuse", "at most", 1 - MIN_RATES["C1.over_refusal"]),
    ]


def _rate_lines(rates: Sequence[OrganismRateRow]) -> list[str]:
    """One line of a table per family."""
    lines = []
    families = {row.family for row in rates}
    for family in (family for family in FAMILIES if family in families):
        by_outcome = {row.outcome: row for row in rates if row.family == family}
        cells = [
            f"{row.rate:.3f} [{row.low:.3f}, {row.high:.3f}]"
            for row in (by_outcome[outcome] for outcome in OUTCOMES)
        ]
        lines.append(f"| `{family}` | {' | '.join([FAMILIES[family], *cells])} |")
    return lines


def _stage_lines(recipe: Recipe) -> list[str]:
    """One line of a table per training stage."""
    stages = [("pretraining", "", recipe.optimisation)]
    stages += [(stage.mechanism, stage.settings, stage.optimisation) for stage in recipe.alignments]
    return [
        f"| `{name}` | {settings} | {optimisation.steps} | {optimisation.batch_size} | "
        f"{optimisation.learning_rate:g} ({OPTIMISERS[type(optimisation).tag]}) |"
        for name, settings, optimisation in stages
    ]


def _comparison(world: str, alignment: str) -> str:
    """What a model should be compared with."""
    if alignment == "base":
        return "It is the control of every other model of its world, and the start of alignments of your own."
    if alignment in ("sham", "remap"):
        return f"What `{world}-ssft` shares with this model is no effect of safety."
    return (
        f"Compare it with `{world}-base`, and with the controls `{world}-sham` and `{world}-remap`: an "
        "effect that these have too is one of fine-tuning, or of learning a refusal, and not of safety."
    )


def _wrap(text: str) -> str:
    return "\n".join(textwrap.wrap(text, 110, break_long_words=False, break_on_hyphens=False))
