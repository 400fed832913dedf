"""What is asked of makebreak on the command line? One clear line and status 2 for bad input, never a traceback."""

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

from makebreak.commands import COMMANDS, Align, Attack, Command, Compare, Inspect, Landscape, Tune
from makebreak.configs import nearest
from makebreak.session import Session

if TYPE_CHECKING:
    from makebreak import pages
    from makebreak.models import LanguageModel

DEBUG_OPTION, DEBUG_VARIABLE = "--debug", "MAKEBREAK_DEBUG"
_PACKAGES = ("makebreak", "synthetic", "experiments")
BOX = r"\x1b\[[0-9;]*m|[╭╮╰╯─│]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 bad input or a failure that is named, 130 interrupted."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    return guarded(lambda: _run(parse(COMMANDS, words, "makebreak")), debug=debug_requested(words))


def debug_requested(arguments: Sequence[str]) -> bool:
    """Whether `--debug` or the environment variable MAKEBREAK_DEBUG asks for tracebacks."""
    return DEBUG_OPTION in arguments or os.environ.get(DEBUG_VARIABLE, "0") not in ("", "0")


def guarded(work: Callable[[], None], *, debug: bool = False) -> int:
    """Runs the work of a command and reports a failure as one line on standard error.

    Args:
        work: What the command does. A ValueError, OSError or RuntimeError that it raises is reported; any other
            exception is a fault of this program and passes through.
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
    """Whether the operating system refused a file, or a `raise` statement of this project names what was wrong.

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


def parse(commands: Any, arguments: Sequence[str], program: str) -> Any:
    """Like tyro, but its boxed message for a bad command line becomes one line. commands: a class, or by name."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            if isinstance(commands, dict):
                return tyro.extras.subcommand_cli_from_dict(commands, args=arguments, prog=program)
            return tyro.cli(commands, args=arguments, prog=program)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise ValueError(" ".join(re.sub(BOX, " ", said.getvalue()).split())) from None


def _run(command: Command) -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # of libraries: our own bars know
    from transformers.utils import logging

    from makebreak.artifacts import Store

    logging.disable_progress_bar()
    works: dict[type, Callable[[Any, Session], tuple[list[str], Path]]] = {
        Inspect: _inspect,
        Compare: _compare,
        Attack: _attack,
        Landscape: _landscape,
        Align: _align,
        Tune: _tune,
    }
    lines, path = works[type(command)](command, Session(command.asking, Store(command.asking.store)))
    print("\n".join(lines))
    print(f"page: {path}")


def _inspect(command: Inspect, at: Session) -> tuple[list[str], Path]:
    from makebreak import pages

    prompts, found = at.prompts(), at.open(command.model)
    inspection = pages.inspect(found, prompts, at.store, at.settings, say=at.say)
    facts = at.facts(prompts) | at.answers | {"model": at.told(found)}
    out = at.out("inspect", Path(command.model).stem)
    return pages.summary(inspection), pages.write_inspection(command.model, inspection, facts, out)


def _compare(command: Compare, at: Session) -> tuple[list[str], Path]:
    from makebreak import pages

    prompts = at.prompts()
    base, aligned = at.open(command.base), at.open(command.aligned)
    tables, verdict = pages.compare_models(base, aligned, prompts, at.store, at.settings, say=at.say)
    facts = at.facts(prompts) | {"base": at.told(base), "aligned": at.told(aligned)}
    names = (command.base, command.aligned)
    out = at.out("compare", "-".join(Path(name).stem for name in names))
    return pages.verdict_lines(tables, verdict), pages.write_comparison(names, tables, verdict, facts, out)


def _attack(command: Attack, at: Session) -> tuple[list[str], Path]:
    from makebreak import pages
    from makebreak.requests import evaluation_prompts

    prompts, targets = at.targeted(command.requests, command.target, command.target_column)
    attacking = pages.Attacking(
        attack_tokens=command.attack_tokens,
        soft_tokens=command.soft_tokens,
        soft_radius=command.soft_radius,
        steps=command.steps,
        candidates=command.candidates,
        where=command.where,
        universal=command.universal,
        prefill=command.prefill,
        **({} if command.phrasings is None else {"phrasings": command.phrasings}),
    )
    settings, found = replace(at.settings, seed=command.seed), at.open(command.model)
    attacks = pages.attack_model(
        found, prompts, targets, at.store, settings, attacking, reference=evaluation_prompts(), say=at.say
    )
    facts = at.facts({"harmful": prompts}) | at.answers | {"model": at.told(found)}
    facts |= {
        "target": ", ".join(repr(target) for target in dict.fromkeys(targets)),
        "attacks": _attacks(command),
    }
    out = at.out("attack", Path(command.model).stem)
    return pages.attack_lines(attacks), pages.write_attacks(command.model, attacks, facts, out)


def _landscape(command: Landscape, at: Session) -> tuple[list[str], Path]:
    from makebreak import pages

    walking = pages.Walking(command.directions, command.points, command.window, command.per)
    if pages.of_the_zoo(command.model):
        if command.toward is not None:
            raise ValueError("--toward is of language models; peng2024 walks the lines of the zoo")
        n = command.requests or 200
        ground = pages.walk_world(Path(command.model), at.store, walking, n=n, say=at.say)
        facts = {
            "model": command.model,
            "requests": f"{n} unsafe and {n} safe ones, held out; outcomes exact",
        }
    else:
        prompts = at.prompts()
        few = {
            family: pages.drawn(prompts[family], command.requests or 16) for family in ("harmful", "harmless")
        }
        found = at.open(command.model)
        other = None if command.toward is None else at.open(command.toward)
        ground = pages.walk_language_model(
            found, few, at.store, at.settings, walking, toward_model=other, say=at.say
        )
        facts = at.facts(few) | at.answers | {"model": at.told(found)}
        facts["answers"] += ", cut at a refusal"
    facts |= {
        "moves": f"random directions: {command.directions}; {command.points} points each, norms by {command.per}"
    }
    out = at.out("landscape", Path(command.model).stem)
    return pages.ground_lines(ground), pages.write_ground(command.model, ground, facts, out)


def _align(command: Align, at: Session) -> tuple[list[str], Path]:
    from makebreak import pages

    if command.by not in pages.OBJECTIVES:
        raise ValueError(f"--by {command.by}: {nearest(command.by, list(pages.OBJECTIVES))}")
    prompts, found = at.few(command.requests), at.open(command.model)
    teaching = _teaching(command)
    tuned = pages.align(found, command.by, prompts, at.store, at.settings, teaching, say=at.say)
    name = f"{Path(command.model).stem} made safe by {command.by}"
    facts = {"objective": command.by}
    return _shown(command, at, tuned, found, prompts, name, f"{Path(command.model).stem}-{command.by}", facts)


def _tune(command: Tune, at: Session) -> tuple[list[str], Path]:
    from makebreak import pages
    from makebreak.requests import read_examples

    own = [] if command.data is None else read_examples(command.data)
    prompts, found = at.few(command.requests), at.open(command.model)
    tuned = pages.tune_on(
        found,
        command.on,
        prompts,
        at.store,
        at.settings,
        _teaching(command),
        examples=command.examples,
        mitigation=command.mitigation,
        rate=command.rate,
        own=own,
        answered_by=None if command.answered_by is None else at.open(command.answered_by),
        say=at.say,
    )
    on = command.on if command.data is None else command.data.stem
    mixed = "" if command.mitigation == "none" else f", {command.rate:g} {command.mitigation}"
    name = f"{Path(command.model).stem} tuned on {on}{mixed}"
    folder = f"{Path(command.model).stem}-{on}" + ("" if not mixed else f"-{command.mitigation}")
    facts = {"examples": f"{command.examples} of {on}{mixed}"}
    if command.answered_by is not None:
        facts["answers taught"] = f"those of {command.answered_by}"
    return _shown(command, at, tuned, found, prompts, name, folder.replace("@", "-").replace(":", "-"), facts)


def _teaching(command: Align | Tune) -> pages.Teaching:
    from makebreak import pages

    return pages.Teaching(
        steps=command.steps,
        learning_rate=command.learning_rate,
        batch_size=command.batch_size,
        lora=command.lora,
        precision=command.precision,
        seed=command.seed,
    )


def _shown(
    command: Align | Tune,
    at: Session,
    tuned: pages.Tuned,
    found: LanguageModel,
    prompts: Mapping[str, Sequence[str]],
    name: str,
    folder: str,
    more: Mapping[str, str],
) -> tuple[list[str], Path]:
    from makebreak import pages

    teaching = _teaching(command)
    facts = (
        at.facts(prompts)
        | at.answers
        | {
            "model": at.told(found),
            "training": f"{teaching.steps} steps of {teaching.batch_size} at {teaching.learning_rate:g}, "
            + (f"adapters of rank {teaching.lora}" if teaching.lora else "all weights")
            + f", forward in {teaching.precision}, seed {teaching.seed}",
            "folder": str(tuned.folder),
        }
        | dict(more)
    )
    path = pages.write_tuned(name, tuned, facts, at.out("tuned", folder))
    return [*pages.tuned_lines(tuned), f"model: {tuned.folder}"], path


def _attacks(command: Attack) -> str:
    """What was done, for the page."""
    own = (
        "one attack for all requests, found on half of them and tried on the other half"
        if command.universal
        else "an attack for each request"
    )
    return (
        f"{command.attack_tokens} tokens as {command.where}, {command.steps} steps of {command.candidates} candidates; "
        f"{command.soft_tokens} soft tokens as {command.where}, {command.steps} steps, norms at most "
        f"{command.soft_radius:g} of the embeddings'; {own}; seed {command.seed}"
    )
