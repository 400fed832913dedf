"""Commands that evaluate language models: `inspect`, `compare`, `attack` and `landscape`.

The docstrings are the help texts of the command line. Nothing heavy is imported before a command runs, so
that help is fast.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from makebreak.cli.options import (
    SHORT_ANSWERS,
    AnswerOptions,
    FamilyRequests,
    ModelArgument,
    PromptNotes,
    Report,
    SharedOptions,
    log,
    with_judge,
)
from makebreak.configs import check_at_most, check_positive, check_seed
from makebreak.settings import (
    MAX_COUNT,
    AttackSettings,
    GenerationSettings,
    GoalSettings,
    LandscapeSettings,
    LoadSettings,
    PromptSettings,
    SamplingSettings,
)

_WORLD_REQUESTS, _CHAT_REQUESTS = 200, 16  # defaults of `landscape --requests`


@with_judge
def inspect(
    model: ModelArgument,
    requests: FamilyRequests = None,
    sampling: SamplingSettings = SamplingSettings(),
    selection: Annotated[
        Literal["arditi2024", "cosmic"],
        tyro.conf.arg(
            help="Selection of the refusal direction:\n"
            "arditi2024 (log-odds of a refusal under ablation and addition),\n"
            "cosmic (cosines of states; it needs no token of a refusal)."
        ),
    ] = "arditi2024",
    shared: AnswerOptions = AnswerOptions(),
) -> Report:
    """Report on the refusals of one language model and on their mechanism.

    Refusal and over-refusal by family of prompts, separation of harmful and harmless requests by layer, and
    the effect of ablating or adding the refusal direction.
    """
    from makebreak import lm, report

    out = shared.check_folders("inspect", [model])
    prompts, notes = shared.load_prompts(requests)
    network = shared.open(model)
    shared.check_prompts(network, prompts)
    with shared.name_store():
        result = lm.inspect(
            network,
            prompts,
            shared.store,
            shared.generation,
            inspection=lm.InspectionSettings(sampling, selection),
            log=log,
        )
    facts = shared.facts(prompts, model=network) | notes | report.sampling_facts(sampling)
    facts |= {"refusals begin with": result.openers, "selection of a direction": selection}
    with shared.write_report(out, "inspect", [model]):
        path = report.write_inspection(model, result, facts, out)
    return report.inspection_summary(result), path


def compare(
    base: Annotated[
        str,
        tyro.conf.Positional,
        tyro.conf.arg(
            metavar="BASE", help="Checkpoint before alignment: a folder, a .gguf file or a Hub id."
        ),
    ],
    aligned: Annotated[
        str,
        tyro.conf.Positional,
        tyro.conf.arg(
            metavar="ALIGNED",
            help="Checkpoint after alignment, trained from BASE, or the folder of a LoRA adapter of BASE.",
        ),
    ],
    requests: FamilyRequests = None,
    shared: SharedOptions = SharedOptions(),
) -> Report:
    """Report on what alignment changed between two checkpoints of a language model.

    The change in weights and activations, stitching of the two models, and the hypothesis of how refusal
    comes about that these support.
    """
    from makebreak import lm, report

    _check_differ("ALIGNED", aligned, base)
    if shared.generation.n_new != GenerationSettings().n_new:
        log(f"--max-new-tokens {shared.generation.n_new} has no effect: compare generates no answers")
    out = shared.check_folders("compare", [base, aligned])
    prompts, notes = shared.load_prompts(requests)
    before = shared.open(base)
    after = shared.open(aligned, replace(before.loading, base_model=base))
    lm.check_weights_differ(before, after)
    shared.check_prompts(after, prompts, n_new=0)
    with shared.name_store():
        tables, verdict = lm.compare_models(
            prompts, shared.store, shared.generation, base=before, tuned=after, log=log
        )
    facts = shared.facts(prompts, base=before, aligned=after) | notes
    del facts["answers"]  # none are generated
    with shared.write_report(out, "compare", [base, aligned]):
        path = report.write_comparison((base, aligned), tables, verdict, facts, out)
    return report.comparison_summary(tables, verdict), path


@with_judge
def attack(
    model: ModelArgument,
    goals: GoalSettings = GoalSettings(),
    attacks: AttackSettings = AttackSettings(),
    seed: Annotated[int, tyro.conf.arg(help="Seed of random searches and random controls.")] = 0,
    shared: AnswerOptions = AnswerOptions(),
) -> Report:
    """Report on jailbreak attacks on a language model.

    Jailbreak templates, adversarial suffixes (GCG), soft prompts and prefilled answers, each compared with
    controls of the same size; and where the attacked requests lie between the harmful and the harmless
    class.
    """
    from makebreak import lm, report
    from makebreak.prompts import check_known, evaluation_prompts

    check_seed(seed)
    lm.choose_attacks(attacks)  # an unknown name is reported before the model is loaded
    lm.check_sizes_are_used(attacks)
    out = shared.check_folders("attack", [model])
    notes = PromptNotes()
    prompts, targets = lm.load_attack_prompts(shared.prompts, goals, log=notes)
    generation, network = replace(shared.generation, seed=seed), shared.open(model)
    shared.check_prompts(network, {"harmful": prompts})
    check_known(network.tokenizer, list(dict.fromkeys(targets)))
    data = lm.AttackData(prompts, targets, evaluation_prompts())
    with shared.name_store():
        result = lm.attack_model(network, data, shared.store, generation, attacks, log=log)
    facts = shared.facts({"harmful": prompts}, model=network) | notes.facts
    facts |= report.attack_facts(attacks, targets, seed)
    with shared.write_report(out, "attack", [model]):
        path = report.write_attacks(model, result, facts, out)
    return report.attack_summary(result), path


def landscape(
    model: ModelArgument,
    requests: Annotated[
        int | None,
        tyro.conf.arg(
            metavar="INT",
            help_behavior_hint="(default: 200 in a synthetic world, else 16)",
            help="Number of harmful requests, and of harmless requests.",
        ),
    ] = None,
    directions: LandscapeSettings = LandscapeSettings(),
    interpolate_to: Annotated[
        str | None,
        tyro.conf.arg(
            metavar="MODEL",
            help_behavior_hint="(default: none)",
            help="Another checkpoint of the same model; the straight line between the two is evaluated as "
            "well.",
        ),
    ] = None,
    shared: SharedOptions = SHORT_ANSWERS,
) -> Report:
    """Report on the safety landscape of a model: refusal along random directions in weight space.

    A model in a store folder (runs/store/alignment/KEY) is evaluated exactly, on held-out requests of its
    synthetic world. A language model is evaluated by the answers that it generates.
    """
    from makebreak import lm, report

    if requests is not None:
        check_positive(requests=requests)
        check_at_most(MAX_COUNT, requests=requests)
    if lm.is_store_model(model):
        if interpolate_to is not None:
            raise ValueError(
                "--interpolate-to: expected a language model as MODEL, not a model of a synthetic world; the "
                "study peng2024 interpolates between those"
            )
        _check_exact(shared)
        out = shared.check_folders("landscape", [model])
        n = requests or _WORLD_REQUESTS
        data = lm.world_landscape_data(Path(model), n)
        facts = {"model": model} | report.landscape_facts(directions, n)
    else:
        if interpolate_to is not None:
            _check_differ("--interpolate-to", interpolate_to, model)
        out = shared.check_folders("landscape", [model])
        prompts, notes = shared.load_prompts(requests or _CHAT_REQUESTS)
        network = shared.open(model)
        prompts = {family: prompts[family] for family in ("harmful", "harmless")}
        shared.check_prompts(network, prompts)
        end = None if interpolate_to is None else shared.open(interpolate_to, network.loading)
        data = lm.chat_landscape_data(network, prompts, shared.generation, other=end)
        facts = shared.facts(prompts, model=network) | notes | report.landscape_facts(directions)
    with shared.name_store():
        tables = lm.evaluate_landscape(data, shared.store, directions, log=log)
    with shared.write_report(out, "landscape", [model]):
        path = report.write_landscape(model, tables, facts, out)
    return report.landscape_summary(tables), path


def _check_differ(name: str, model: str, other: str) -> None:
    """Raises ValueError if two arguments name one model."""
    if model == other or (Path(model).exists() and Path(model).resolve() == Path(other).resolve()):
        raise ValueError(f"{name} {model} is {other} itself: expected another checkpoint of that model")


def _check_exact(shared: SharedOptions) -> None:
    """Raises ValueError for options of language models, which a model of a synthetic world would ignore."""
    given = {
        "--prompts": shared.prompts != PromptSettings(),
        "--max-new-tokens, --template, --system, --thinking": shared.generation != SHORT_ANSWERS.generation,
        "--device, --dtype, --device-map": shared.loading != LoadSettings(),
    }
    for names, is_given in given.items():
        if is_given:
            raise ValueError(
                f"{names}: a model of a synthetic world is evaluated exactly, on its own requests; leave "
                "them out"
            )
