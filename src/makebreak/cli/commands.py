"""Commands of `makebreak`: one function per command, whose parameters are its options.

The docstrings are the help texts of the command line. Nothing heavy is imported before a command runs, so
that help is fast.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from makebreak.characters import escape_hidden
from makebreak.configs import check_at_most, check_positive, check_seed
from makebreak.settings import (
    MAX_COUNT,
    AttackSettings,
    FineTuneSettings,
    GenerationSettings,
    GoalSettings,
    LandscapeSettings,
    LoadSettings,
    OutputSettings,
    PromptSettings,
    UserDataSettings,
)

if TYPE_CHECKING:
    from makebreak.models import LanguageModel
    from makebreak.store import Store

Report = tuple[list[str], Path]
"""Lines of the summary, and the page."""
ModelArgument = Annotated[
    str,
    tyro.conf.Positional,
    tyro.conf.arg(
        metavar="MODEL",
        help="Folder of a transformers model, path of a .gguf file, or Hugging Face Hub id.\n"
        "Only a Hub id needs network access.",
    ),
]
"""Positional argument that names a language model."""
EvaluatedRequests = Annotated[
    int,
    tyro.conf.arg(help="Maximum number of prompts per family that are answered before and after training."),
]
"""Option of the commands that train."""
Objective = Annotated[
    str,
    tyro.conf.arg(
        help="Training objective:\n"
        "ssft (supervised safety fine-tuning),\n"
        "dpo, dpo_nll (DPO with a likelihood term),\n"
        "unlearning, npo (negative preference optimisation),\n"
        "ascent (gradient ascent),\n"
        "deep (deep alignment with recovery examples),\n"
        "latent (latent adversarial training),\n"
        "breaker (circuit breakers),\n"
        "or MODULE:CLASS for one of your own."
    ),
]
"""Option that names an alignment objective."""
_WORLD_REQUESTS, _CHAT_REQUESTS = 200, 16  # defaults of `landscape --requests`


class Duplicates(list[str]):
    """Lines about duplicates in files; each is printed when it is added by a call."""

    def __call__(self, line: str) -> None:
        """Adds and prints a line."""
        self.append(line)
        log(line)

    @property
    def facts(self) -> dict[str, str]:
        """The lines as a fact for the page; none without duplicates."""
        return {"duplicates": "; ".join(self)} if self else {}


@dataclass(frozen=True)
class SharedOptions:
    """Options that all commands share."""

    prompts: PromptSettings = PromptSettings()
    """Prompts."""
    generation: GenerationSettings = GenerationSettings()
    """Prompt template and answers."""
    loading: LoadSettings = LoadSettings()
    """Loading of models."""
    output: OutputSettings = OutputSettings()
    """Output and errors."""

    @property
    def store(self) -> Store:
        """Cache of models and results."""
        from makebreak.store import Store

        return Store(self.output.store)

    def open(self, name: str, loading: LoadSettings | None = None) -> LanguageModel:
        """Loads a language model, as the options or other settings say, and prints where it runs."""
        from makebreak.models import open_model

        log(f"loading {name}")
        network = open_model(name, store=self.store, loading=loading or self.loading)
        log(f"{name}: {network.placement}")
        return network

    def check_known(self, model: LanguageModel, prompts: Mapping[str, Sequence[str]]) -> None:
        """Raises ValueError if a prompt of a file is nothing but unknown tokens for a model."""
        from makebreak.prompts import check_known

        if self.prompts.file is not None:
            for texts in prompts.values():
                check_known(model.tokenizer, texts)

    def facts(self, prompts: Mapping[str, Sequence[str]], **models: LanguageModel) -> dict[str, str]:
        """Facts for the page about prompts, answers and models."""
        from makebreak.report import prompt_facts

        facts = prompt_facts(prompts, self.prompts, self.generation)
        return facts | {name: model.description for name, model in models.items()}

    def load_prompts(self, max_per_family: int | None = None) -> tuple[dict[str, list[str]], dict[str, str]]:
        """Prompts by family, and a fact for the page if duplicates were left out, which is also printed."""
        from makebreak import lm

        duplicates = Duplicates()
        prompts = lm.load_prompts(self.prompts, max_per_family, log=duplicates)
        return prompts, duplicates.facts

    def folder(self, command: str, name: str) -> Path:
        """The folder of --out, or runs/COMMAND/NAME with hyphens for the @ and : of tasks and plug-ins."""
        return self.output.out or Path("runs") / command / name.replace("@", "-").replace(":", "-")


_SHORT_ANSWERS = SharedOptions(generation=GenerationSettings(n_new=24))


def log(line: str) -> None:
    """Prints a line at once; characters that would move the cursor or reorder the line are escaped."""
    print(escape_hidden(line), flush=True)


def inspect(model: ModelArgument, shared: SharedOptions = SharedOptions()) -> Report:
    """Report on the refusals of one language model and on their mechanism.

    Refusal and over-refusal by family of prompts, separation of harmful and harmless requests by layer, and
    the effect of ablating or adding the refusal direction.
    """
    from makebreak import lm, report

    prompts, duplicates = shared.load_prompts()
    network = shared.open(model)
    shared.check_known(network, prompts)
    result = lm.inspect(network, prompts, shared.store, shared.generation, log=log)
    facts = shared.facts(prompts, model=network) | duplicates
    out = shared.folder("inspect", Path(model).stem)
    return report.inspection_summary(result), report.write_inspection(model, result, facts, out)


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
        tyro.conf.arg(metavar="ALIGNED", help="Checkpoint after alignment, trained from BASE."),
    ],
    shared: SharedOptions = SharedOptions(),
) -> Report:
    """Report on what alignment changed between two checkpoints of a language model.

    The change in weights and activations, stitching of the two models, and the hypothesis of how refusal
    comes about that these support.
    """
    from makebreak import lm, report

    _check_differ("ALIGNED", aligned, base)
    prompts, duplicates = shared.load_prompts()
    before = shared.open(base)
    after = shared.open(aligned, before.loading)
    lm.check_weights_differ(before, after)
    shared.check_known(after, prompts)
    tables, verdict = lm.compare_models(
        prompts, shared.store, shared.generation, base=before, tuned=after, log=log
    )
    facts = shared.facts(prompts, base=before, aligned=after) | duplicates
    out = shared.folder("compare", f"{Path(base).stem}-{Path(aligned).stem}")
    path = report.write_comparison((base, aligned), tables, verdict, facts, out)
    return report.comparison_summary(tables, verdict), path


def attack(
    model: ModelArgument,
    goals: GoalSettings = GoalSettings(),
    attacks: AttackSettings = AttackSettings(),
    seed: Annotated[int, tyro.conf.arg(help="Seed of random searches and random controls.")] = 0,
    shared: SharedOptions = SharedOptions(),
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
    duplicates = Duplicates()
    prompts, targets = lm.load_attack_prompts(shared.prompts, goals, log=duplicates)
    generation, network = replace(shared.generation, seed=seed), shared.open(model)
    shared.check_known(network, {"harmful": prompts})
    check_known(network.tokenizer, list(dict.fromkeys(targets)))
    data = lm.AttackData(prompts, targets, evaluation_prompts())
    result = lm.attack_model(network, data, shared.store, generation, attacks, log=log)
    facts = shared.facts({"harmful": prompts}, model=network) | duplicates.facts
    facts |= report.attack_facts(attacks, targets, seed)
    out = shared.folder("attack", Path(model).stem)
    return report.attack_summary(result), report.write_attacks(model, result, facts, out)


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
    shared: SharedOptions = _SHORT_ANSWERS,
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
        n = requests or _WORLD_REQUESTS
        data = lm.world_landscape_data(Path(model), n)
        facts = {"model": model} | report.landscape_facts(directions, n)
    else:
        if interpolate_to is not None:
            _check_differ("--interpolate-to", interpolate_to, model)
        prompts, duplicates = shared.load_prompts(requests or _CHAT_REQUESTS)
        network = shared.open(model)
        prompts = {family: prompts[family] for family in ("harmful", "harmless")}
        shared.check_known(network, prompts)
        end = None if interpolate_to is None else shared.open(interpolate_to, network.loading)
        data = lm.chat_landscape_data(network, prompts, shared.generation, other=end)
        facts = shared.facts(prompts, model=network) | duplicates | report.landscape_facts(directions)
    tables = lm.evaluate_landscape(data, shared.store, directions, log=log)
    out = shared.folder("landscape", Path(model).stem)
    return report.landscape_summary(tables), report.write_landscape(model, tables, facts, out)


def align(
    model: ModelArgument,
    objective: Objective = "ssft",
    training: FineTuneSettings = FineTuneSettings(),
    requests: EvaluatedRequests = 48,
    shared: SharedOptions = _SHORT_ANSWERS,
) -> Report:
    """Align a language model on makebreak's own harmful requests and refusals.

    Reports refusals before and after. The folder of the aligned model is printed; all other commands accept
    it as MODEL.
    """
    from makebreak import lm, report
    from makebreak.training import load_objective

    load_objective(objective)  # an unknown name is reported before the model is loaded
    check_at_most(MAX_COUNT, requests=requests)
    prompts, duplicates = shared.load_prompts(requests)
    network = shared.open(model)
    shared.check_known(network, prompts)
    evaluation = lm.Evaluation(prompts, shared.generation)
    result = lm.align(network, objective, evaluation, shared.store, training, log=log)
    facts = shared.facts(prompts, model=network) | duplicates | {"objective": objective}
    facts |= report.training_facts(training)
    out = shared.folder("align", f"{Path(model).stem}-{objective}")
    return report.fine_tuning_summary(result), report.write_fine_tuning(model, result, facts, out)


def tune(
    model: ModelArgument,
    data: UserDataSettings = UserDataSettings(),
    answers_from: Annotated[
        str | None,
        tyro.conf.arg(
            metavar="MODEL",
            help_behavior_hint="(default: the model itself)",
            help="With --task harmful, the model whose answers are trained on,\n"
            "for example the one before alignment.",
        ),
    ] = None,
    training: FineTuneSettings = FineTuneSettings(),
    requests: EvaluatedRequests = 48,
    shared: SharedOptions = _SHORT_ANSWERS,
) -> Report:
    """Fine-tune a language model as a user would, and report its refusals before and after.

    The provider may mix safety examples into the user's data.
    """
    from makebreak import lm, report

    check_at_most(MAX_COUNT, requests=requests)
    lm.check_user_data(data, answers_from=answers_from)
    duplicates = Duplicates()
    own_examples = [] if data.file is None else lm.load_examples(data.file, log=duplicates)
    prompts = lm.load_prompts(shared.prompts, requests, log=duplicates)
    network = shared.open(model)
    shared.check_known(network, prompts)
    source = None if answers_from is None else shared.open(answers_from)
    user_data, evaluation = lm.UserData(data, own_examples, source), lm.Evaluation(prompts, shared.generation)
    result = lm.tune_as_user(network, user_data, evaluation, shared.store, training, log=log)
    facts = shared.facts(prompts, model=network) | duplicates.facts | report.training_facts(training)
    facts |= report.user_data_facts(data, answers_from)
    parts = [Path(model).stem, data.source, *([] if data.mitigation == "none" else [data.mitigation])]
    out = shared.folder("tune", "-".join(parts))
    return report.fine_tuning_summary(result), report.write_fine_tuning(model, result, facts, out)


def _check_differ(name: str, model: str, other: str) -> None:
    """Raises ValueError if two arguments name one model."""
    if model == other or (Path(model).exists() and Path(model).resolve() == Path(other).resolve()):
        raise ValueError(f"{name} {model} is {other} itself: expected another checkpoint of that model")


def _check_exact(shared: SharedOptions) -> None:
    """Raises ValueError for options of language models, which a model of a synthetic world would ignore."""
    given = {
        "--prompts": shared.prompts != PromptSettings(),
        "--max-new-tokens, --template, --system": shared.generation != _SHORT_ANSWERS.generation,
        "--device, --dtype, --device-map": shared.loading != LoadSettings(),
    }
    for names, is_given in given.items():
        if is_given:
            raise ValueError(
                f"{names}: a model of a synthetic world is evaluated exactly, on its own requests; leave "
                "them out"
            )


COMMANDS: dict[str, Callable[..., Report]] = {
    function.__name__: function for function in (inspect, compare, attack, landscape, align, tune)
}
"""Commands by name."""
