"""Trials of generated bad command lines, configs and worlds.

Each must end in one clear line and change no file.
"""

from __future__ import annotations

import dataclasses
import math
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.command import Command, main
from experiments.recipes.composition import PRESETS
from experiments.robustness.trials import Problems, ProcessResult, TrialRow, one_clear_line, run, snapshot
from makebreak.configs import from_json, to_json
from makebreak.recipes import Recipe
from synthetic import COMPOSITION_CONFIGS, CompositionWorld

_REPOSITORY = Path(__file__).parents[2]
_KNOWN = {"jain2024", "peng2024", "jan2024", "eiras2024", "real", "speed", *PRESETS, *COMPOSITION_CONFIGS}
_ODD = ("", " ", "nan", "None", "../smoke", "smoke\nmini", "\x1b[31msmoke", "шмоук", "smoke,mini", "-")
_UNWRITABLE = ("file", "file/below", "/proc/nowhere/x", "x" * 300)


def typo(word: str, rng: random.Random) -> str:
    """The word with one letter removed, doubled, exchanged or added; never another valid name."""
    while True:
        i = rng.randrange(len(word))
        new = rng.choice(
            (
                word[:i] + word[i + 1 :],
                word[:i] + word[i] + word[i:],
                word[:i] + rng.choice("qxz") + word[i + 1 :],
                word + "x",
            )
        )
        if new and new not in _KNOWN | {word} | {f.name for f in dataclasses.fields(Command)}:
            return new


def command_line(rng: random.Random) -> tuple[list[str], str]:
    """A generated bad command line, and the text that its error message must contain."""
    seeds = {
        "negative": (["0", str(-rng.randint(1, 10**6))], "seeds"),
        "repeated": (["3", "1", "3"], "seeds (3, 1, 3)"),
        "tuning": ([str(rng.randint(1000, 10**12))], "for tuning"),
        "no number": ([rng.choice(("one", "1.5", "nan", "1e3", "0x1", "0,1", "∞", ""))], "seeds"),
        "none": ([], "seeds"),
    }
    parts = {"study": ["jain2024"], "preset": ["smoke"], "seeds": ["0"], "out": ["out"], "store": ["store"]}
    kind = rng.choice(
        ("study", "preset", "world", "option", "seeds", "folder", "missing", "surplus", "odd", "type")
    )
    extra: list[str] = []
    name = ""
    if kind in ("study", "preset"):
        parts[kind] = [name := typo(parts[kind][0], rng)]
    elif kind == "world":
        parts[kind] = [name := typo("mini", rng)]
    elif kind == "option":
        extra = [name := f"--{typo(rng.choice(('preset', 'world', 'seeds', 'store')), rng)}", "0"]
    elif kind == "seeds":
        parts["seeds"], name = seeds[rng.choice(list(seeds))]
    elif kind == "folder":
        which = rng.choice(("out", "store"))
        path = rng.choice(_UNWRITABLE)
        parts[which], name = [path], path[:100]  # messages shorten long values
        if rng.random() < 0.5:  # the other one does not exist yet
            parts["store" if which == "out" else "out"] = ["new"]
    elif kind == "missing":
        name = rng.choice(("preset", "world", "out", "store"))
        parts.pop(name, None)
        extra = [f"--{name}"]
    elif kind == "surplus":
        extra = [name := rng.choice(("jain2024", "smoke", "0", "--all", "-x"))]
    elif kind == "odd":
        part = rng.choice(("study", "preset", "world"))
        # tyro reads None as no value, which is the default world
        parts[part] = [rng.choice([word for word in _ODD if (part, word) != ("world", "None")])]
    else:
        parts[rng.choice(("preset", "world"))], name = ["smoke", "mini"], "mini"
    line = [
        *parts.pop("study"),
        *(word for name, values in parts.items() for word in (f"--{name}", *values)),
        *extra,
    ]
    return line, name


def bad_command(
    number: int, seed: int, root: Path, call: Callable[[list[str]], int] = main, *, process: bool = False
) -> TrialRow:
    """Runs a bad command line: its message must be one line, and no file may change.

    Args:
        number: Number of the trial.
        seed: Seed of the trials.
        root: Folder in which the trial makes its own.
        call: The command.
        process: Start a new Python process instead of a fork of this one.

    Returns:
        The trial's result.
    """
    line, name = command_line(random.Random(f"{seed}/command/{number}"))
    folder, log = root / f"bad{number}", root / f"bad{number}.log"
    (folder / "store/pretraining/0123").mkdir(parents=True)
    (folder / "out").mkdir()
    for file in ("file", "out/claims.json", "store/pretraining/0123/artifact.json"):
        (folder / file).write_text("not to be changed\n")
    before = snapshot(folder)

    def call_in_folder() -> int:
        os.chdir(folder)
        return call(line)

    result = _new_process(line, folder) if process else run(call_in_folder, log)
    problems = one_clear_line(result, name)
    if snapshot(folder) != before:
        problems.append(f"written or lost: {sorted(set(snapshot(folder).items()) ^ set(before.items()))}")
    return TrialRow("bad command lines", number, repr(line), problems)


def _new_process(line: list[str], folder: Path) -> ProcessResult:
    """The command line in a Python process of its own."""
    path = os.pathsep.join([str(_REPOSITORY), *filter(None, sys.path)])
    process = subprocess.run(
        [sys.executable, "-m", "experiments", *line],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    return ProcessResult(process.returncode, process.stderr, 0.0)


_LIMITS: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("steps", "batch_size", "n_layers", "n_heads", "d_model", "d_mlp"), (0, -1)),
    **dict.fromkeys(("learning_rate", "beta", "w_preferred"), (0.0, -1e-3, math.nan, math.inf)),
    **dict.fromkeys(
        ("warmup_share", "final_share", "safe_share", "modes_start", "modes_end"), (-0.1, 1.5, math.nan)
    ),
    **dict.fromkeys(("betas",), (-0.1, 1.0, math.nan)),
    **dict.fromkeys(("weight_decay", "w_dispreferred"), (-1.0, math.nan, math.inf)),
    "clip": (0.0, -1.0, math.nan),
    "seed": (-1,),
}
_TYPES = ("many", None, True, [1], [], {"type": "Nope"}, {"type": []})


def bad_config(number: int, seed: int) -> TrialRow:
    """Reads a recipe with one field misspelt, missing, of another type or out of range."""
    rng, recipe = random.Random(f"{seed}/config/{number}"), PRESETS["smoke"].recipe("mini", 0, "dpo")
    stages = recipe.alignments + PRESETS["smoke"].recipe("mini", 0, "unlearning").alignments
    data = to_json(dataclasses.replace(recipe, alignments=stages))
    fault = rng.choice(("unknown", "missing", "type", "type", "range", "range"))
    places = [
        (container, key, field)
        for container, key, field in _places(data, "Recipe")
        if (fault != "range" or (field in _LIMITS and not isinstance(container[key], list)))
        and (fault != "unknown" or isinstance(key, str))
        and (fault != "missing" or container is data)  # all other fields have defaults
    ]
    container, key, field = rng.choice(places)
    new: Any = None
    old, name = container[key], field
    if fault == "unknown":
        new = name = typo(key, rng)
        container[new] = container.pop(key)
    elif fault == "missing":
        name = key
        del container[key]
    else:
        wrong_types = [value for value in _TYPES if type(value) is not type(old) and value != old]
        new = container[key] = rng.choice(_LIMITS[field] if fault == "range" else wrong_types)
    problems = _value_error(lambda: from_json(Recipe, data), name)
    return TrialRow("bad configs", number, f"{fault}: {field} = {new!r}", problems)


def _places(value: Any, field: str) -> list[tuple[Any, Any, str]]:
    """(container, key, field) of every field and item below a value, without the types of configs.

    The field of a list's item is that of the list.
    """
    if not isinstance(value, dict | list):
        return []
    keys = [k for k in value if k != "type"] if isinstance(value, dict) else list(range(len(value)))
    places: list[tuple[Any, Any, str]] = []
    for key in keys:
        name = key if isinstance(key, str) else field
        child: Any = value[key]  # pyright: ignore[reportArgumentType, reportCallIssue]  (keys are those of value)
        places += [(value, key, name), *_places(child, name)]
    return places


_WORLDS: tuple[dict[str, Any], ...] = (
    *({"text_length": v} for v in ((0, 8), (9, 8), (-3, -1))),
    *({"duplicates": v} for v in ((99,), (-1,))),
    *({"shared_maps": v} for v in ((10,), (-11,))),
    *({"n_pairs": v} for v in (0, 3, -1, math.nan)),
    *({"sequence_length": v} for v in (0, 5, -34)),
    *({"n_letters": v} for v in (0, 1, -12, 11)),
    *({"n_maps": v} for v in (0, -1, 5)),
    *({"map_seeds": v} for v in ((), (0,), (0, 1, 2), (0, -1))),
    *({"always_unsafe": v} for v in ((), ((0,), (0,)), ((3, 99), (4,)), ((-1,), (-2,)))),
    *({"always_safe": v} for v in (((1,), (2,)), ((0, 99), (0,)))),
    *({"full": v} for v in ("", "S -> ", "S -> Q9", "S A1 A2", "S -> S")),
    {"branches": {**COMPOSITION_CONFIGS["mini"].branches, "safe": "S -> Q9"}},
    {"leaves": ()},
    {"leaves": ("C1 -> 99,98", "C1 -> 1")},
    {"null_symbol": "T0"},
    {"null_symbol": "<pad>"},
)


def bad_world(number: int, seed: int) -> TrialRow:
    """Makes and uses the world `mini` with one bad field."""
    [(field, value)] = random.Random(f"{seed}/world/{number}").choice(_WORLDS).items()
    problems = _value_error(lambda: _use(**{field: value}), field, str(value).strip(), "grammar")
    return TrialRow("bad worlds", number, f"{field} = {value!r}", problems)


def _use(**changes: Any) -> None:
    world = CompositionWorld(dataclasses.replace(COMPOSITION_CONFIGS["mini"], **changes))
    assert world.fingerprint
    for family in ("pretraining", "safe", "unsafe", "context_safe"):
        world.sample(family, 8, seed=0)


def _value_error(call: Callable[[], object], *names: str) -> Problems:
    """Checks that a call raises a ValueError of one line that contains one of `names`."""
    try:
        value = call()
    except ValueError as error:
        problems = ["the message has several lines"] if "\n" in str(error) else []
        known = any(name in str(error) for name in names)
        return problems + ([] if known else [f"names none of {names}: {error}"])
    except Exception as error:
        return [f"{type(error).__name__}: {error}"]
    return [f"accepted: {str(value)[:200]}"]
