"""Facts for the page of a job, by name: which prompts, models and settings were used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from makebreak.prompts import evaluation_prompts
from makebreak.settings import (
    AttackSettings,
    FineTuneSettings,
    GenerationSettings,
    LandscapeSettings,
    PromptSettings,
    SamplingSettings,
    UserDataSettings,
)

Facts = dict[str, str]
"""Values of a page by their name."""
_THINKING = {
    "on": "on, by the switch of the chat template; judges read what follows the reasoning",
    "off": "off, by the switch of the chat template",
    "skip": "skip: a block without reasoning precedes the answer",
    "template": "as the prompt template has it; judges read what follows the reasoning",
}


def prompt_facts(
    prompts: Mapping[str, Sequence[str]], source: PromptSettings, settings: GenerationSettings
) -> Facts:
    """Number and source of the prompts of every family, prompt template and length of the answers."""
    ours = evaluation_prompts()
    counts: dict[str, list[str]] = {}
    for family, texts in prompts.items():
        name = "makebreak" if set(texts) <= set(ours[family]) else str(source.file or "lists")
        counts.setdefault(name, []).append(f"{len(texts)} {family}")
    system = "" if settings.system is None else f", system prompt {settings.system!r}"
    facts = {
        "prompts": "; ".join(f"{', '.join(parts)} from {name}" for name, parts in counts.items()),
        "template": (settings.template or "none") + system,
        "answers": f"greedy, at most {settings.n_new} tokens",
    }
    return facts if settings.thinking is None else facts | {"thinking": _THINKING[settings.thinking]}


def sampling_facts(settings: SamplingSettings) -> Facts:
    """Number and temperature of sampled answers; none without them."""
    if not settings.samples:
        return {}
    return {
        "sampled answers": f"{settings.samples} per request at temperature {settings.temperature:g}, "
        "top-p 1, no top-k"
    }


def attack_facts(settings: AttackSettings, targets: Sequence[str], seed: int) -> Facts:
    """Targets, methods and sizes of the attacks; a size is of those methods that have it."""
    settings = settings.complete()
    scope = (
        "one attack for all requests, fitted on half of them and evaluated on the other half"
        if settings.universal
        else "one attack for each request"
    )
    methods = ("all",) if settings.methods is None else settings.methods
    return {
        "target": ", ".join(repr(target) for target in dict.fromkeys(targets)),
        "methods": ", ".join(methods) or "none",
        "sizes": f"{settings.attack_tokens} adversarial tokens as a {settings.where}, {settings.steps} "
        f"steps of {settings.candidates} candidates; soft prompt of {settings.soft_tokens} embeddings as a "
        f"{settings.where}, {settings.steps} steps, norms at most {settings.soft_radius:g} of the mean norm "
        f"of token embeddings; {scope}; seed {seed}",
    }


def landscape_facts(settings: LandscapeSettings, n_exact: int | None = None) -> Facts:
    """Directions of a landscape, and how outcomes were decided.

    Args:
        settings: Directions and points.
        n_exact: Number of requests of either class of a synthetic world; None for a language model.

    Returns:
        The facts.
    """
    directions = (
        f"{settings.directions} random directions, {settings.points} points each, norms by "
        f"{settings.normalisation}"
    )
    if n_exact is None:
        return {"directions": directions, "outcomes": "by answers, generated until their verdict is final"}
    requests = f"{n_exact} unsafe and {n_exact} safe, held out; exact outcomes"
    return {"requests": requests, "directions": directions}


def training_facts(settings: FineTuneSettings) -> Facts:
    """Hyperparameters of a training run."""
    weights = f"adapters of rank {settings.lora_rank}" if settings.lora_rank else "all weights"
    return {
        "training": f"{settings.steps} steps of {settings.batch_size} examples, learning rate "
        f"{settings.learning_rate:g}, {weights}, forward pass in {settings.precision}, seed {settings.seed}"
    }


def user_data_facts(settings: UserDataSettings, answers_from: str | None) -> Facts:
    """Examples that a user fine-tunes on, and the model whose answers they have."""
    facts = {"examples": f"{settings.n_examples} of {settings.description}"}
    return facts if answers_from is None else facts | {"answers trained on": f"those of {answers_from}"}
