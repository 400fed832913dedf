"""What is asked of makebreak on the command line? One clear line and status 2 for bad input, never a traceback."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from makebreak.configs import check_positive

BOX = r"\x1b\[[0-9;]*m|[╭╮╰╯─│]"


@dataclass(frozen=True)
class Asking:
    """What models are asked, and how."""

    prompts: Path | None = None
    """CSV or JSONL with columns harmful and harmless (and borderline); our own prompts by default."""
    column: str | None = None
    """Of --prompts, the column of harmful requests; where it has none of harmless ones, ours are taken."""
    template: str = "chat"
    """How a request becomes a prompt: chat (the tokenizer's own template), none, or a text with {} in it."""
    system: str | None = None
    """System prompt, where the template has a place for it."""
    tokens: int = 48
    """Of an answer, at most."""
    dtype: str = "float32"
    """float32, bfloat16 or float16."""
    device_map: str | None = None
    """Where layers go: auto, cuda, cpu …; the CPU by default."""
    out: Path | None = None
    """Folder of the page; by default runs/COMMAND/MODEL, of compare runs/compare/BASE-ALIGNED."""
    store: Path = Path("runs/store")
    """Folder of what was computed: an interrupted run goes on where it was."""


@dataclass(frozen=True)
class Inspect:
    """One page on a language model: does it refuse, and over-refuse; where do harmful and harmless requests separate;
    is there a refusal direction, and what does ablating it do."""

    model: Annotated[str, tyro.conf.Positional]
    """A folder, a .gguf file or a hub id; only the last asks the network."""
    asking: tyro.conf.OmitArgPrefixes[Asking] = Asking()


@dataclass(frozen=True)
class Compare:
    """One page on two checkpoints of a language model: what changed, and how refusing comes about."""

    base: Annotated[str, tyro.conf.Positional]
    """A folder, a .gguf file or a hub id."""
    aligned: Annotated[str, tyro.conf.Positional]
    """The checkpoint tuned from it."""
    asking: tyro.conf.OmitArgPrefixes[Asking] = Asking()


@dataclass(frozen=True)
class Attack:
    """One page on attacks on a language model: which of the harmful requests that it refuses does it answer put
    otherwise, with a suffix (GCG), with soft tokens or with its answer begun for it; what do controls of the same size
    reach, and where do attacked requests land?"""

    model: Annotated[str, tyro.conf.Positional]
    """A folder, a .gguf file or a hub id; only the last asks the network."""
    requests: int = 16
    """Harmful requests that it is asked at most, evenly from all there are; those that it refuses are attacked."""
    target: str = "Sure, here is how"
    """What an attack wants an answer to begin with, where the file of --prompts does not say."""
    target_column: str | None = None
    """Of --prompts, the column of what each answer is to begin with; "target" by default, if there is one."""
    attack_tokens: int = 16
    """Tokens that are put into a request."""
    where: Literal["suffix", "prefix"] = "suffix"
    """Behind the request or before it."""
    steps: int = 50
    """Of each search; a request that gives its target is done."""
    candidates: int = 64
    """Tried per request and step, by GCG and by its controls alike."""
    soft_tokens: int = 10
    """Vectors of the soft attack, which nobody can type."""
    soft_radius: float = 0.3
    """Their norm at most, in units of the embeddings' mean norm; the smaller, the shorter each step."""
    prefill: int = 5
    """First tokens of the target that are forced, at most."""
    phrasings: tuple[str, ...] | None = None
    """Ways to put a request otherwise: base64, cipher, 'prefix injection', 'refusal suppression', 'role play' and a
    control; all by default, and none where none is named behind the option."""
    universal: bool = False
    """One attack for all requests, found on half of the refused ones and tried on the other half, not one for each."""
    seed: int = 0
    """Of what is drawn at random."""
    asking: tyro.conf.OmitArgPrefixes[Asking] = Asking()


@dataclass(frozen=True)
class Landscape:
    """One page on the ground around a model: how far may its weights move at random until it no longer refuses, and
    until it no longer answers? A folder of a store (runs/store/alignment/KEY) is judged exactly, in its own world."""

    model: Annotated[str, tyro.conf.Positional]
    """A folder of a store or of a language model, a .gguf file or a hub id; only the last asks the network."""
    requests: int = 0
    """Unsafe, and as many safe ones; by default 200 of a world, 16 of a language model."""
    directions: int = 3
    """Random ones, the same for every model that has tensors of the same names."""
    points: int = 21
    """Of each direction, an odd number."""
    window: float = 0.5
    """How far, on either side, in units of the weights' own norm."""
    per: Literal["tensor", "row"] = "tensor"
    """What has its own norm: every tensor, as published, or every output row."""
    asking: tyro.conf.OmitArgPrefixes[Asking] = Asking(tokens=24)


COMMANDS = {"inspect": Inspect, "compare": Compare, "attack": Attack, "landscape": Landscape}


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 bad input or a failure that is named, 130 interrupted."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    return guarded(lambda: _run(parse(COMMANDS, given, "makebreak")))


def guarded(work: Callable[[], None]) -> int:
    """Exit status of work that may fail; what went wrong is one line."""
    try:
        work()
    except KeyboardInterrupt:
        print("interrupted: the same command goes on where it was", file=sys.stderr)
        return 130
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


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


def _run(command: Inspect | Compare | Attack | Landscape) -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # of libraries: our own bars know
    from transformers.utils import logging

    from makebreak import pages
    from makebreak.artifacts import Store
    from makebreak.models import LanguageModel, n_layers, open_model
    from makebreak.requests import shipped

    logging.disable_progress_bar()
    asking = command.asking
    template = None if asking.template == "none" else asking.template
    settings = pages.Settings(n_new=asking.tokens, template=template, system=asking.system)
    if isinstance(command, Attack):
        settings = replace(settings, seed=command.seed)
    store = Store(asking.store)
    prompts = _harmful(command) if isinstance(command, Attack) else _prompts(asking)
    targets = prompts.pop("target", [])

    def opened(name: str) -> LanguageModel:
        print(f"loading {name}", flush=True)
        return open_model(name, store=store, dtype=asking.dtype, device_map=asking.device_map)

    def told(found: LanguageModel) -> str:
        config = found.model.config
        size = f"{n_layers(found.model)} layers × {config.hidden_size}, {found.model.num_parameters() / 1e6:.0f} M"
        return f"{found.name}: {config.model_type}, {size} parameters, {asking.dtype}"

    def say(line: str) -> None:
        print(line, flush=True)

    facts = {
        "prompts": ", ".join(f"{len(texts)} {family}" for family, texts in prompts.items())
        + f" from {asking.prompts or 'makebreak itself'}",
        "template": asking.template + ("" if asking.system is None else f", system prompt {asking.system!r}"),
    }
    if isinstance(command, Inspect):
        found = opened(command.model)
        inspection = pages.inspect(found, prompts, store, settings, say=say)
        facts |= {"model": told(found), "answers": f"greedy, at most {asking.tokens} tokens"}
        out = asking.out or Path("runs/inspect") / Path(command.model).stem
        lines, path = pages.summary(inspection), pages.write_inspection(command.model, inspection, facts, out)
    elif isinstance(command, Attack):
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
        found = opened(command.model)
        attacks = pages.attack_model(
            found, prompts["harmful"], targets, store, settings, attacking, reference=shipped(), say=say
        )
        facts |= {"model": told(found), "answers": f"greedy, at most {asking.tokens} tokens"}
        facts |= {"target": ", ".join(repr(target) for target in dict.fromkeys(targets))}
        facts |= {"attacks": _attacks(command)}
        out = asking.out or Path("runs/attack") / Path(command.model).stem
        lines, path = pages.attack_lines(attacks), pages.write_attacks(command.model, attacks, facts, out)
    elif isinstance(command, Landscape):
        walking = pages.Walking(command.directions, command.points, command.window, command.per)
        if pages.of_the_zoo(command.model):
            n = command.requests or 200
            ground = pages.walk_world(Path(command.model), store, walking, n=n, say=say)
            facts = {"model": command.model, "requests": f"{n} unsafe and {n} safe ones, held out; outcomes exact"}
        else:
            few = {family: _evenly(prompts[family], command.requests or 16) for family in ("harmful", "harmless")}
            found = opened(command.model)
            ground = pages.walk_language_model(found, few, store, settings, walking, say=say)
            facts |= {"model": told(found), "answers": f"greedy, at most {asking.tokens} tokens, cut at a refusal"}
            facts |= {"asked": ", ".join(f"{len(texts)} {family}" for family, texts in few.items())}
        facts |= {
            "moves": f"random directions: {command.directions}; {command.points} points each, norms by {command.per}"
        }
        out = asking.out or Path("runs/landscape") / Path(command.model).stem
        lines, path = pages.ground_lines(ground), pages.write_ground(command.model, ground, facts, out)
    else:
        base, aligned = opened(command.base), opened(command.aligned)
        tables, verdict = pages.compare_models(base, aligned, prompts, store, settings, say=say)
        facts |= {"base": told(base), "aligned": told(aligned)}
        names = (command.base, command.aligned)
        out = asking.out or Path("runs/compare") / "-".join(Path(name).stem for name in names)
        lines = pages.verdict_lines(tables, verdict)
        path = pages.write_comparison(names, tables, verdict, facts, out)
    print("\n".join(lines))
    print(f"page: {path}")


def _prompts(asking: Asking) -> dict[str, list[str]]:
    from makebreak.requests import read_prompts, shipped

    ours = shipped()
    if asking.prompts is None:
        return ours
    prompts = {"harmful": read_prompts(asking.prompts, asking.column or "harmful"), "harmless": ours["harmless"]}
    for family in ("harmless", "borderline"):
        with contextlib.suppress(ValueError):  # not in this file
            prompts[family] = read_prompts(asking.prompts, family)
    return prompts


def _harmful(command: Attack) -> dict[str, list[str]]:
    """Harmful requests, evenly from all there are, and the `target` of each."""
    from makebreak.requests import read_targeted, shipped

    check_positive(requests=command.requests)
    asking = command.asking
    if not command.target.strip():
        raise ValueError("--target is empty: expected what an answer is to begin with, such as 'Sure, here is how'")
    if asking.prompts is not None:
        found = read_targeted(asking.prompts, asking.column, command.target_column)
    elif command.target_column is not None:
        raise ValueError(f"--target-column {command.target_column}: our own prompts have none; give --prompts")
    else:
        found = [(prompt, "") for prompt in shipped()["harmful"]]
    n = min(command.requests, len(found))
    prompts, targets = zip(*(found[i * len(found) // n] for i in range(n)), strict=True)
    return {"harmful": list(prompts), "target": [target or command.target for target in targets]}


def _evenly(texts: Sequence[str], n: int) -> list[str]:
    """At most so many, evenly from all there are."""
    check_positive(requests=n)
    n = min(n, len(texts))
    return [texts[i * len(texts) // n] for i in range(n)]


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
