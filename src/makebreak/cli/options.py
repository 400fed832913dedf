"""Options and arguments that several commands of `makebreak` share, and what they do."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from makebreak.characters import escape_hidden
from makebreak.configs import check_at_most
from makebreak.model_names import folder_name, models_digest
from makebreak.output_folders import (
    check_inputs_apart,
    check_output_folder,
    check_store_folder,
    name_option,
)
from makebreak.output_record import OutputOwner, check_output_files, holds_other_results, record_output
from makebreak.settings import (
    DEFAULT_JUDGE,
    MAX_COUNT,
    Flag,
    GenerationSettings,
    LoadSettings,
    OutputSettings,
    PromptSettings,
)

if TYPE_CHECKING:
    from makebreak.evaluation import ChatTarget
    from makebreak.models import LanguageModel
    from makebreak.store import Store

_SHORT_REASONING = 512
Report = tuple[list[str], Path | None]
"""Lines of the summary, and the page if there is one."""
DebugFlag = Annotated[bool, Flag, tyro.conf.arg(help="Show the Python traceback of an error.")]
"""Option of the commands that have no other option of the output."""
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
FamilyRequests = Annotated[
    int | None,
    tyro.conf.arg(
        metavar="INT",
        help_behavior_hint="(default: all)",
        help="Maximum number of prompts per family, spaced evenly over all available ones.",
    ),
]
"""Option of the commands that evaluate all prompts unless a number is given."""
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
        "extended (extended refusals), booster,\n"
        "or MODULE:CLASS for one of your own."
    ),
]
"""Option that names an alignment objective."""


class PromptNotes(list[str]):
    """Lines about what was read of files; each is printed when it is added by a call."""

    def __call__(self, line: str) -> None:
        """Adds and prints a line."""
        self.append(line)
        log(line)

    @property
    def facts(self) -> dict[str, str]:
        """The lines as a fact for the page; none without lines."""
        return {"reading of files": "; ".join(self)} if self else {}


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
        with self.name_store():
            network = open_model(name, store=self.store, loading=loading or self.loading)
        log(f"{name}: {network.placement}")
        return network

    def check_prompts(
        self, model: LanguageModel, prompts: Mapping[str, Sequence[str]], *, n_new: int | None = None
    ) -> None:
        """Checks prompts before a model works on any of them.

        Args:
            model: The model.
            prompts: Prompts by family.
            n_new: Tokens that follow a prompt; None for those of an answer.

        Raises:
            ValueError: If a prompt of a file is nothing but unknown tokens, or a prompt and its answer exceed
                the context.
        """
        from makebreak.evaluation import ChatTarget, check_context
        from makebreak.prompts import check_known

        target = ChatTarget(model, self.generation)
        self._log_thinking(model, target)
        for family, texts in prompts.items():
            if self.prompts.file is not None:
                check_known(model.tokenizer, texts)
            check_context(
                model,
                target.encode(texts, family=family),
                self.generation.n_new if n_new is None else n_new,
            )

    def _log_thinking(self, model: LanguageModel, target: ChatTarget) -> None:
        """Prints how reasoning is dealt with, where nothing was asked for or answers may be too short."""
        chosen = target.settings.thinking
        if target.reasons and self.generation.template != "chat":
            option, remedy = target.reasoning_option
            log(
                f"{model.name} may reason before it answers, and {option} does not prevent it: judges read "
                f"what follows the reasoning; to have the answer itself follow the prompt, {remedy}"
            )
        elif chosen is not None and self.generation.thinking is None:
            log(
                f"{model.name} may reason before it answers: --thinking {chosen} is used, so that the answer "
                "itself follows the prompt; --thinking names another choice"
            )
        if target.reasons and self.generation.n_new < _SHORT_REASONING:
            log(
                f"--max-new-tokens {self.generation.n_new}: reasoning is often longer than that, and an "
                "answer whose reasoning does not end is not judged"
            )

    def facts(self, prompts: Mapping[str, Sequence[str]], **models: LanguageModel) -> dict[str, str]:
        """Facts for the page about prompts, answers and models; prompts are those of the last model."""
        from makebreak.api.language import job_facts

        return job_facts(prompts, self.prompts, self.generation, **models)

    def load_prompts(self, max_per_family: int | None = None) -> tuple[dict[str, list[str]], dict[str, str]]:
        """Prompts by family, and a fact for the page on how a file was read, which is also printed."""
        from makebreak import lm

        if max_per_family is not None:
            check_at_most(MAX_COUNT, requests=max_per_family)
        notes = PromptNotes()
        prompts = lm.load_prompts(self.prompts, max_per_family, log=notes)
        return prompts, notes.facts

    def check_folders(
        self, command: str, models: Sequence[str], parts: Sequence[str] = (), inputs: Sequence[Path] = ()
    ) -> Path:
        """Checks, before a model is loaded, that results and report can be written.

        Args:
            command: Name of the command.
            models: The models that the report is about, as they were given.
            parts: What else is in the name of the default folder.
            inputs: Files that are read, besides that of the prompts.

        Returns:
            The folder of --out, or runs/COMMAND/NAME; with a digest in the name if that folder holds the
            report on other models of the same names.

        Raises:
            InvalidInput: If a folder cannot be written, a file that is read lies where results go, or --out
                holds files or results that are not those of an earlier run on the same models.
        """
        check_store_folder(self.output.store)
        out, owner = self.output.out, _owner(command, models)
        if out is None:
            out = Path("runs") / command / folder_name(models, parts)
            if holds_other_results(out, owner):
                other = out.with_name(f"{out.name}-{models_digest(models)}")
                log(f"{out} holds the report on another model of that name: this one goes to {other}")
                out = other
        check_output_folder(out)
        check_inputs_apart(out, *inputs, self.prompts.file)
        check_output_files(out, owner)
        return out

    def name_store(self) -> AbstractContextManager[None]:
        """A context in which errors of the system about the store name its option."""
        return name_option("--store", self.output.store)

    @contextmanager
    def write_report(self, out: Path, command: str, models: Sequence[str]) -> Iterator[None]:
        """A context in which a report is written, and errors of the system name the option of its folder.

        Args:
            out: What `check_folders` returned.
            command: Name of the command.
            models: The models that the report is about.

        Yields:
            Nothing.
        """
        with name_option("--out", out), record_output(out, _owner(command, models)):
            yield


@dataclass(frozen=True)
class AnswerOptions(SharedOptions):
    """Options that the commands share whose answers are judged."""

    judge: Annotated[str, tyro.conf.arg(metavar="NAME")] = DEFAULT_JUDGE
    """Judge that decides what is a refusal; the verdicts of all judges are in the tables:
    arditi2024, qi2023 (published lists of phrases),
    openings (current phrases in many languages, where the answer begins),
    classifier (n-grams and logistic regression),
    MODULE:FUNCTION for one of your own,
    or a file of scores of these answers (.eval or .json of inspect_ai), which decides
    about rates alone: what is attacked or ablated follows the default judge."""

    def facts(self, prompts: Mapping[str, Sequence[str]], **models: LanguageModel) -> dict[str, str]:
        """Facts for the page; where a file decides about rates, also which judge decides what is computed."""
        from makebreak.evaluation import deciding_judge, planning_judge

        facts, decides = super().facts(prompts, **models), deciding_judge()
        if decides == planning_judge():
            return facts
        return facts | {"judges": f"{decides} for rates; {planning_judge()} for what is computed"}


SHORT_ANSWERS = SharedOptions(generation=GenerationSettings(n_new=24))
"""Options of commands that answer prompts many times."""


def with_judge(command: Callable[..., Report]) -> Callable[..., Report]:
    """Returns a command with `AnswerOptions` that runs with their judge, which is loaded before all else."""
    signature = inspect.signature(command)

    @functools.wraps(command)
    def run(*arguments: Any, **options: Any) -> Report:
        from makebreak.evaluation import decide_by

        bound = signature.bind(*arguments, **options)
        bound.apply_defaults()
        with decide_by(bound.arguments["shared"].judge):
            return command(*bound.args, **bound.kwargs)

    return run


def log(line: str) -> None:
    """Prints a line at once; characters that would move the cursor or reorder the line are escaped."""
    print(escape_hidden(line), flush=True)


def _owner(command: str, models: Sequence[str]) -> OutputOwner:
    return OutputOwner(f"makebreak {command}", tuple(models))
