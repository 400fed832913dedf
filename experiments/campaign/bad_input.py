"""Bad command lines and configs, generated: does each end in one clear line, with nothing written or lost?"""

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

from experiments.campaign.trials import Ended, Problems, Row, one_clear_line, run, snapshot
from experiments.command import Command, main
from experiments.jain2024 import PRESETS
from makebreak.configs import from_json, to_json
from makebreak.recipes import Recipe
from synthetic import CONFIGS, CompositionWorld

_REPOSITORY = Path(__file__).parents[2]
_KNOWN = {"jain2024", "peng2024", "jan2024", "eiras2024", "real", "speed", *PRESETS, *CONFIGS}
_ODD = ("", " ", "nan", "None", "../smoke", "smoke\nmini", "\x1b[31msmoke", "шмоук", "smoke,mini", "-")
_UNWRITABLE = ("file", "file/below", "/proc/nowhere/x", "x" * 300)


def typo(word: str, rng: random.Random) -> str:
    """The word with one letter lost, doubled, exchanged or added; never another known name."""
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
    """A bad command line, and what its message must name."""
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
    named = ""
    if kind in ("study", "preset"):
        parts[kind] = [named := typo(parts[kind][0], rng)]
    elif kind == "world":
        parts[kind] = [named := typo("mini", rng)]
    elif kind == "option":
        extra = [named := f"--{typo(rng.choice(('preset', 'world', 'seeds', 'store')), rng)}", "0"]
    elif kind == "seeds":
        parts["seeds"], named = seeds[rng.choice(list(seeds))]
    elif kind == "folder":
        which = rng.choice(("out", "store"))
        parts[which] = [named := rng.choice(_UNWRITABLE)]
        if rng.random() < 0.5:  # the other one does not exist yet
            parts["store" if which == "out" else "out"] = ["new"]
    elif kind == "missing":
        named = rng.choice(("preset", "world", "out", "store"))
        parts.pop(named, None)
        extra = [f"--{named}"]
    elif kind == "surplus":
        extra = [named := rng.choice(("jain2024", "smoke", "0", "--all", "-x"))]
    elif kind == "odd":
        parts[rng.choice(("study", "preset", "world"))] = [rng.choice(_ODD)]
    else:
        parts[rng.choice(("preset", "world"))], named = ["smoke", "mini"], "mini"
    line = [
        *parts.pop("study"),
        *(word for name, values in parts.items() for word in (f"--{name}", *values)),
        *extra,
    ]
    return line, named


def bad_command(
    number: int, seed: int, root: Path, call: Callable[[list[str]], int] = main, *, process: bool = False
) -> Row:
    """process: a real one, not a fork of this."""
    line, named = command_line(random.Random(f"{seed}/command/{number}"))
    here, log = root / f"bad{number}", root / f"bad{number}.log"
    (here / "store/pretraining/0123").mkdir(parents=True)
    (here / "out").mkdir()
    for name in ("file", "out/claims.json", "store/pretraining/0123/artifact.json"):
        (here / name).write_text("in the way\n")
    before = snapshot(here)

    def called() -> int:
        os.chdir(here)
        return call(line)

    if process:
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(_REPOSITORY), *filter(None, sys.path)])
        }
        arguments = [sys.executable, "-m", "experiments", *line]
        done = subprocess.run(
            arguments, cwd=here, env=environment, capture_output=True, text=True, check=False
        )
        ended = Ended(done.returncode, done.stderr, 0.0)
    else:
        ended = run(called, log)
    problems = one_clear_line(ended, named)
    if snapshot(here) != before:
        problems.append(f"written or lost: {sorted(set(snapshot(here).items()) ^ set(before.items()))}")
    return Row("bad command lines", number, repr(line), problems)


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


def bad_config(number: int, seed: int) -> Row:
    """A recipe with one field misspelt, missing, of another type, or out of range, read by `from_json`."""
    rng, recipe = random.Random(f"{seed}/config/{number}"), PRESETS["smoke"].recipe("mini", 0, "dpo")
    stages = recipe.alignments + PRESETS["smoke"].recipe("mini", 0, "unlearning").alignments
    data = to_json(dataclasses.replace(recipe, alignments=stages))
    kind = rng.choice(("unknown", "missing", "type", "type", "range", "range"))
    places = [
        (inside, key, field)
        for inside, key, field in _places(data, "Recipe")
        if (kind != "range" or (field in _LIMITS and not isinstance(inside[key], list)))
        and (kind != "unknown" or isinstance(key, str))
        and (kind != "missing" or inside is data)  # the fields of others have defaults
    ]
    inside, key, field = rng.choice(places)
    old = inside[key]
    if kind == "unknown":
        new = named = typo(key, rng)
        inside[new] = inside.pop(key)
    elif kind == "missing":
        new = None
        del inside[key]
        named = key
    else:
        choices = (
            _LIMITS[field]
            if kind == "range"
            else [v for v in _TYPES if type(v) is not type(old) and v != old]
        )
        new = inside[key] = rng.choice(choices)
        named = field
    return Row(
        "bad configs", number, f"{kind}: {field} = {new!r}", _refused(lambda: from_json(Recipe, data), named)
    )


def _places(value: Any, field: str) -> list[tuple[Any, Any, str]]:
    """(container, key, field) of every field and item below, types of configs apart; the field of an item is its
    list's."""
    if not isinstance(value, dict | list):
        return []
    keys = [k for k in value if k != "type"] if isinstance(value, dict) else list(range(len(value)))
    named = [(k, k if isinstance(k, str) else field) for k in keys]
    return [place for k, name in named for place in ((value, k, name), *_places(value[k], name))]


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
    {"branches": {**CONFIGS["mini"].branches, "safe": "S -> Q9"}},
    {"leaves": ()},
    {"leaves": ("C1 -> 99,98", "C1 -> 1")},
    {"null_symbol": "T0"},
    {"null_symbol": "<pad>"},
)


def bad_world(number: int, seed: int) -> Row:
    """The mini world with one bad field, made and used."""
    ((field, value),) = random.Random(f"{seed}/world/{number}").choice(_WORLDS).items()
    problems = _refused(lambda: _use(**{field: value}), field, str(value).strip(), "grammar")
    return Row("bad worlds", number, f"{field} = {value!r}", problems)


def _use(**changes: Any) -> None:
    world = CompositionWorld(dataclasses.replace(CONFIGS["mini"], **changes))
    assert world.fingerprint
    for family in ("pretraining", "safe", "unsafe", "context_safe"):
        world.sample(family, 8, seed=0)


def _refused(call: Callable[[], object], *named: str) -> Problems:
    """A ValueError of one line that holds one of `named`."""
    try:
        got = call()
    except ValueError as error:
        problems = ["the message has several lines"] if "\n" in str(error) else []
        return problems + ([] if any(n in str(error) for n in named) else [f"names none of {named}: {error}"])
    except Exception as error:
        return [f"{type(error).__name__}: {error}"]
    return [f"accepted: {str(got)[:200]}"]
