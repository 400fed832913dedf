"""Command line of makebreak: invalid input ends in one line on standard error and status 2."""

from __future__ import annotations

import contextlib
import dis
import io
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from makebreak.cli.commands import (
    COMMANDS,
    AlignCommand,
    AttackCommand,
    Command,
    CompareCommand,
    InspectCommand,
    LandscapeCommand,
    TuneCommand,
)
from makebreak.cli.session import Session
from makebreak.settings import AttackSettings, FineTuneSettings, LandscapeSettings

if TYPE_CHECKING:
    from makebreak.models import LanguageModel

DEBUG_OPTION = "--debug"
"""Option that shows the traceback of an error."""
DEBUG_VARIABLE = "MAKEBREAK_DEBUG"
"""Environment variable that does the same unless it is empty or 0."""
Report = tuple[list[str], Path]
"""Lines of the summary, and the page."""

_PACKAGES = ("makebreak", "synthetic", "experiments")
_BOX = r"\x1b\[[0-9;]*m|[╭╮╰╯─│]"  # colours and frames of tyro's messages
_WORLD_REQUESTS, _LANGUAGE_REQUESTS = 200, 16  # defaults of `landscape --requests`


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs makebreak.

    Args:
        arguments: The words of the command line after the program; None for those of this process.

    Returns:
        The exit status: 0 for success, 2 for a reported error, 130 for an interruption.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    return run_command(
        lambda: _run(parse_arguments(COMMANDS, words, "makebreak")), debug=debug_requested(words)
    )


def debug_requested(arguments: Sequence[str]) -> bool:
    """Whether `--debug` or the environment variable MAKEBREAK_DEBUG asks for tracebacks."""
    return DEBUG_OPTION in arguments or os.environ.get(DEBUG_VARIABLE, "0") not in ("", "0")


def run_command(work: Callable[[], None], *, debug: bool = False) -> int:
    """Runs the work of a command and reports a failure as one line on standard error.

    Args:
        work: What the command does. A ValueError, OSError or RuntimeError that it raises is reported; any
            other exception is a fault of this program and passes through.
        debug: Whether the traceback of a reported error is printed before its line.

    Returns:
        The exit status: 0 for success, 2 for a reported error, 130 for an interruption.
    """
    try:
        work()
    except KeyboardInterrupt:
        print("interrupted: the same command continues where it stopped", file=sys.stderr)
        return 130
    except (ValueError, OSError, RuntimeError) as error:
        line = f"error: {' '.join(str(error).split()) or type(error).__name__}"
        if debug:
            traceback.print_exception(error)
        elif not _is_bad_input(error):
            line += f" [{type(error).__name__}; {DEBUG_OPTION} or {DEBUG_VARIABLE}=1 shows the traceback]"
        print(line, file=sys.stderr)
        return 2
    return 0


def _is_bad_input(error: Exception) -> bool:
    """Whether the operating system refused a file, or a `raise` statement of this project names the fault.

    Errors from libraries, and from expressions such as `zip(strict=True)`, may be faults of this program.
    """
    if isinstance(error, OSError):
        return True
    origin = error.__traceback__
    assert origin is not None  # the error was raised
    while origin.tb_next is not None:
        origin = origin.tb_next
    package = str(origin.tb_frame.f_globals.get("__name__", "")).split(".")[0]
    instruction = dis.opname[origin.tb_frame.f_code.co_code[origin.tb_lasti]]
    return package in _PACKAGES and instruction == "RAISE_VARARGS"


def parse_arguments(commands: Any, arguments: Sequence[str], program: str) -> Any:
    """Parses a command line with tyro.

    Args:
        commands: A dataclass of options, or dataclasses by the name of their command.
        arguments: The words of the command line after the program.
        program: Name of the program in messages.

    Returns:
        An instance of the dataclass.

    Raises:
        ValueError: If the command line is invalid; tyro's boxed message is reduced to one line.
    """
    messages = io.StringIO()
    try:
        with contextlib.redirect_stderr(messages):
            if isinstance(commands, dict):
                return tyro.extras.subcommand_cli_from_dict(commands, args=arguments, prog=program)
            return tyro.cli(commands, args=arguments, prog=program)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise ValueError(" ".join(re.sub(_BOX, " ", messages.getvalue()).split())) from None


def _run(command: Command) -> None:
    """Runs a command, and prints its summary and the path of its page."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # for libraries; our own bars check the terminal
    from transformers.utils import logging

    from makebreak.store import Store

    logging.disable_progress_bar()
    functions: dict[type, Callable[[Any, Session], Report]] = {
        InspectCommand: _inspect,
        CompareCommand: _compare,
        AttackCommand: _attack,
        LandscapeCommand: _landscape,
        AlignCommand: _align,
        TuneCommand: _tune,
    }
    session = Session(command.common, Store(command.common.store))
    lines, path = functions[type(command)](command, session)
    print("\n".join(lines))
    print(f"page: {path}")


def _inspect(command: InspectCommand, session: Session) -> Report:
    from makebreak import lm, report

    prompts, model = session.prompts(), session.open_model(command.model)
    result = lm.inspect(model, prompts, session.store, session.settings, log=session.log)
    facts = (
        session.prompt_facts(prompts) | session.generation_facts | {"model": session.describe_model(model)}
    )
    out = session.output_folder("inspect", Path(command.model).stem)
    return report.inspection_summary(result), report.write_inspection(command.model, result, facts, out)


def _compare(command: CompareCommand, session: Session) -> Report:
    from makebreak import lm, report

    prompts = session.prompts()
    base, aligned = session.open_model(command.base), session.open_model(command.aligned)
    tables, verdict = lm.compare_models(
        base, aligned, prompts, session.store, session.settings, log=session.log
    )
    facts = session.prompt_facts(prompts) | {
        "base": session.describe_model(base),
        "aligned": session.describe_model(aligned),
    }
    out = session.output_folder("compare", f"{Path(command.base).stem}-{Path(command.aligned).stem}")
    path = report.write_comparison((command.base, command.aligned), tables, verdict, facts, out)
    return report.comparison_summary(tables, verdict), path


def _attack(command: AttackCommand, session: Session) -> Report:
    from makebreak import lm, report
    from makebreak.prompts import evaluation_prompts

    prompts, targets = session.attack_prompts(command.requests, command.target, command.target_column)
    attacking = AttackSettings(
        attack_tokens=command.attack_tokens,
        soft_tokens=command.soft_tokens,
        soft_radius=command.soft_radius,
        steps=command.steps,
        candidates=command.candidates,
        where=command.where,
        universal=command.universal,
        prefill=command.prefill,
    )
    if command.jailbreak_templates is not None:
        attacking = replace(attacking, jailbreak_templates=command.jailbreak_templates)
    settings, model = replace(session.settings, seed=command.seed), session.open_model(command.model)
    data = lm.AttackData(prompts, targets, evaluation_prompts())
    result = lm.attack_model(model, data, session.store, settings, attacking, log=session.log)
    facts = session.prompt_facts({"harmful": prompts}) | session.generation_facts
    facts |= {
        "model": session.describe_model(model),
        "target": ", ".join(repr(target) for target in dict.fromkeys(targets)),
        "attacks": _describe_attacks(command),
    }
    out = session.output_folder("attack", Path(command.model).stem)
    return report.attack_summary(result), report.write_attacks(command.model, result, facts, out)


def _landscape(command: LandscapeCommand, session: Session) -> Report:
    from makebreak import lm, report
    from makebreak.configs import check_positive

    if command.requests is not None:
        check_positive(requests=command.requests)
    landscape = LandscapeSettings(command.directions, command.points, command.window, command.normalisation)
    if lm.is_store_model(command.model):
        if command.interpolate_to is not None:
            raise ValueError(
                "--interpolate-to: expected a language model as MODEL, not a model of a synthetic world; the "
                "study peng2024 interpolates between those"
            )
        n = command.requests or _WORLD_REQUESTS
        result = lm.world_landscape(
            Path(command.model), session.store, landscape, n_requests=n, log=session.log
        )
        facts = {"model": command.model, "requests": f"{n} unsafe and {n} safe, held out; exact outcomes"}
    else:
        available, n = session.prompts(), command.requests or _LANGUAGE_REQUESTS
        prompts = {family: lm.evenly_spaced(available[family], n) for family in ("harmful", "harmless")}
        model = session.open_model(command.model)
        end = None if command.interpolate_to is None else session.open_model(command.interpolate_to)
        result = lm.language_model_landscape(
            model,
            lm.LandscapeData(prompts, end),
            session.store,
            session.settings,
            landscape,
            log=session.log,
        )
        facts = session.prompt_facts(prompts) | session.generation_facts
        facts |= {"model": session.describe_model(model)}
        facts["answers"] += ", generated until the verdict is final"
    facts["directions"] = (
        f"{command.directions} random directions, {command.points} points each, norms by "
        f"{command.normalisation}"
    )
    out = session.output_folder("landscape", Path(command.model).stem)
    return report.landscape_summary(result), report.write_landscape(command.model, result, facts, out)


def _align(command: AlignCommand, session: Session) -> Report:
    from makebreak import lm, report

    lm.find_objective(command.objective)  # an unknown name is reported before the model is loaded
    prompts, model = session.sample_prompts(command.requests), session.open_model(command.model)
    evaluation = lm.Evaluation(prompts, session.settings)
    training = _training(command)
    result = lm.align(model, command.objective, evaluation, session.store, training, log=session.log)
    name = Path(command.model).stem
    facts = _training_facts(command, session, model, prompts)
    facts |= {"folder": str(result.folder), "objective": command.objective}
    out = session.output_folder("align", f"{name}-{command.objective}")
    path = report.write_fine_tuning(f"{name} aligned by {command.objective}", result, facts, out)
    return [*report.fine_tuning_summary(result), f"model: {result.folder}"], path


def _tune(command: TuneCommand, session: Session) -> Report:
    from makebreak import lm, report
    from makebreak.prompts import read_examples

    own_examples = [] if command.data is None else read_examples(command.data)
    prompts, model = session.sample_prompts(command.requests), session.open_model(command.model)
    source = None if command.answers_from is None else session.open_model(command.answers_from)
    data = lm.UserData(
        command.task, command.examples, command.mitigation, command.safety_share, own_examples, source
    )
    evaluation = lm.Evaluation(prompts, session.settings)
    result = lm.tune_as_user(model, data, evaluation, session.store, _training(command), log=session.log)
    name = Path(command.model).stem
    task = command.task if command.data is None else command.data.stem
    is_mixed = command.mitigation != "none"
    mixed = f", {command.safety_share:g} {command.mitigation}" if is_mixed else ""
    facts = _training_facts(command, session, model, prompts)
    facts |= {"folder": str(result.folder), "examples": f"{command.examples} of {task}{mixed}"}
    if command.answers_from is not None:
        facts["answers trained on"] = f"those of {command.answers_from}"
    folder = f"{name}-{task}" + (f"-{command.mitigation}" if is_mixed else "")
    out = session.output_folder("tune", folder.replace("@", "-").replace(":", "-"))
    path = report.write_fine_tuning(f"{name} fine-tuned on {task}{mixed}", result, facts, out)
    return [*report.fine_tuning_summary(result), f"model: {result.folder}"], path


def _training(command: AlignCommand | TuneCommand) -> FineTuneSettings:
    """Hyperparameters of a command that trains."""
    return FineTuneSettings(
        steps=command.steps,
        learning_rate=command.learning_rate,
        batch_size=command.batch_size,
        lora_rank=command.lora_rank,
        precision=command.precision,
        seed=command.seed,
    )


def _training_facts(
    command: AlignCommand | TuneCommand,
    session: Session,
    model: LanguageModel,
    prompts: Mapping[str, Sequence[str]],
) -> dict[str, str]:
    """Facts for the page of a command that trains."""
    weights = f"adapters of rank {command.lora_rank}" if command.lora_rank else "all weights"
    training = (
        f"{command.steps} steps of {command.batch_size} examples, learning rate {command.learning_rate:g}, "
        f"{weights}, forward pass in {command.precision}, seed {command.seed}"
    )
    facts = session.prompt_facts(prompts) | session.generation_facts
    return facts | {"model": session.describe_model(model), "training": training}


def _describe_attacks(command: AttackCommand) -> str:
    """Settings of the attacks, for the page."""
    scope = (
        "one attack for all requests, fitted on half of them and evaluated on the other half"
        if command.universal
        else "one attack for each request"
    )
    return (
        f"{command.attack_tokens} adversarial tokens as a {command.where}, {command.steps} steps of "
        f"{command.candidates} candidates; soft prompt of {command.soft_tokens} embeddings as a "
        f"{command.where}, {command.steps} steps, norms at most {command.soft_radius:g} of the mean norm of "
        f"token embeddings; {scope}; seed {command.seed}"
    )
