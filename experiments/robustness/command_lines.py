"""Trials of command lines of `makebreak` with one fault: each must end in one line, before any work."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

from experiments.robustness.bad_input import typo
from experiments.robustness.hostile_models import limited_command
from experiments.robustness.trials import TrialRow, one_clear_line, run, snapshot

_SHARED = {
    "--prompts",
    "--column",
    "--max-new-tokens",
    "--template",
    "--system",
    "--device",
    "--dtype",
    "--out",
}
_INTEGERS = {
    "inspect": ["--max-new-tokens"],
    "compare": ["--max-new-tokens"],
    "attack": ["--max-new-tokens", "--seed", "--requests", "--attack-tokens", "--steps", "--candidates"],
    "landscape": ["--max-new-tokens", "--requests", "--directions", "--points"],
    "align": ["--max-new-tokens", "--seed", "--requests", "--steps", "--batch-size", "--lora-rank"],
    "tune": ["--max-new-tokens", "--seed", "--requests", "--steps", "--batch-size", "--examples"],
}
_REALS = {
    "attack": ["--soft-radius"],
    "landscape": ["--window"],
    "align": ["--learning-rate"],
    "tune": ["--learning-rate", "--safety-share"],
}
_CHOICES = {
    "inspect": ["--device", "--dtype"],
    "compare": ["--device", "--dtype"],
    "attack": ["--method", "--where", "--jailbreak-templates"],
    "landscape": ["--normalisation"],
    "align": ["--objective", "--precision"],
    "tune": ["--task", "--mitigation", "--precision"],
}
_BAD_INTEGERS = ("x", "1.5", "nan", "", "1e3", "-1", "-99999999999999999999", str(10**30), "٣x", "0x10", "--")
_BAD_REALS = ("x", "nan", "inf", "-inf", "-1", "", "1e999", "1,5", "-0.5")
_BAD_NAMES = ("bogus", "", "os:system", "no.such:Class", "os:path", ":", "a b", "\x1b[31mx", "ssft,dpo", "\n")
_MODELS = (
    "",
    " ",
    "nowhere",
    "./nowhere",
    "/nowhere/at/all",
    "~/nowhere",
    "a\nb",
    "x" * 300,
    "..",
    "prompts.csv",
)
_FOLDERS = ("file", "file/below", "/proc/nowhere/x", "x" * 300, "/dev/null", "")
_KINDS = (
    *("command", "option", "integer", "real", "choice", "model", "prompts", "column", "folder"),
    *("missing model", "surplus", "template", "no value", "twice"),
)


def command_line(rng: random.Random, models: Path) -> tuple[list[str], str]:
    """A command line with one fault, and a word that its error must contain."""
    command = rng.choice(sorted(_INTEGERS))
    n_models = 2 if command == "compare" else 1
    given = [str(models / "base"), str(models / "safe")][-n_models:]
    options = {"--prompts": str(models / "prompts.csv"), "--out": "out", "--store": "store"}
    extra: list[str] = []
    kind = rng.choice(_KINDS)
    name = ""
    if kind == "command":
        command = name = typo(command, rng)
    elif kind == "option":
        extra = [name := "--" + typo(rng.choice(sorted(_SHARED))[2:], rng), "x"]
    elif kind == "integer":
        options[name := rng.choice(_INTEGERS[command])] = rng.choice(_BAD_INTEGERS)
    elif kind == "real" and command in _REALS:
        options[name := rng.choice(_REALS[command])] = rng.choice(_BAD_REALS)
    elif kind == "choice" or kind == "real":
        options[rng.choice(_CHOICES[command])] = rng.choice(_BAD_NAMES)
    elif kind == "model":
        given[rng.randrange(n_models)] = rng.choice(_MODELS)
    elif kind == "prompts":
        options["--prompts"] = name = rng.choice(["nowhere.csv", "file", "/proc", "owner/name.csv", "p.md"])
    elif kind == "column":
        options["--column"] = name = typo("harmful", rng)
    elif kind == "folder":
        options[rng.choice(["--out", "--store"])] = rng.choice(_FOLDERS)
    elif kind == "missing model":
        given = given[1:]
    elif kind == "surplus":
        given.append(name := rng.choice(["surplus", "-x", "--all", "0"]))
    elif kind == "template":
        options["--template"] = rng.choice(["no braces", "{} and {}", "{0}", "{prompt}", "{", ""])
        name = "template"
    elif kind == "no value":
        extra = [name := rng.choice(["--column", "--max-new-tokens", "--dtype"])]
    else:
        extra = ["--max-new-tokens", "3", "--max-new-tokens", "x"]
    line = [command, *given, *(word for item in options.items() for word in item), *extra]
    return line, name.lstrip("-")


def bad_command(number: int, seed: int, models: Path, root: Path) -> TrialRow:
    """Runs a bad command line: its message must be one line, and no file may change."""
    line, name = command_line(random.Random(f"{seed}/makebreak/{number}"), models)
    folder, log = root / f"line.{number}", root / f"line.{number}.log"
    (folder / "out").mkdir(parents=True)
    for file in ("file", "out/notes.txt", "p.md"):
        (folder / file).write_text("not to be changed\n")
    before = snapshot(folder)
    result = run(partial(limited_command, folder, line), log)
    # the settings name an option as Python does
    problems = one_clear_line(result, name, name.replace("-", "_"))
    changes = sorted(set(snapshot(folder).items()) ^ set(before.items()))
    problems += [f"written or lost: {changes[:3]}"] if changes else []
    return TrialRow("makebreak command lines", number, f"{line} ({result.stderr.strip()[:160]})", problems)
