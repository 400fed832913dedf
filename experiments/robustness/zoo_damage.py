"""Trials that damage a store before its table is read.

The table must be that of the undamaged store, or an error must name the damaged folder and a remedy: a row
that is lost, or a number that is changed, without a word would decide a study.
"""

from __future__ import annotations

import random
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from experiments.robustness.damage import Case, cases_of_results, damage
from experiments.robustness.programs import Reference
from experiments.robustness.trials import Problems, TrialRow
from makebreak import model_zoo as zoo
from makebreak.store import RECORD_FILE

STRAYS: dict[str, Callable[[Path], object]] = {
    "a folder of notes": lambda stage: (stage / "notes").mkdir(),
    "a notebook's checkpoints": lambda stage: (stage / ".ipynb_checkpoints").mkdir(),
    "a file": lambda stage: (stage / "README.txt").write_text("mine"),
    "a lock": lambda stage: (stage / "0123456789abcdef0123.lock").touch(),
    "an unfinished result": lambda stage: (stage / "0123456789abcdef0123.partial").mkdir(),
    "a dangling link": lambda stage: (stage / "link").symlink_to("nowhere"),
    "a notebook's checkpoints in a result": lambda stage: (_first(stage) / ".ipynb_checkpoints").mkdir(),
    "a file of a desktop": lambda stage: (stage / ".DS_Store").write_bytes(b"\0\0"),
}
"""What other programs leave in a store, which belongs to no result: the table must stay as it is."""


def _first(stage: Path) -> Path:
    return sorted(p.parent for p in stage.glob(f"*/{RECORD_FILE}"))[0]


def damage_zoo(number: int, seed: int, reference: Reference, root: Path) -> TrialRow:
    """Damages one file of a store, or adds a stray one, and reads the table of the store."""
    rng, folder = random.Random(f"{seed}/zoo/{number}"), root / f"zoo.{number}"
    folder.mkdir()
    shutil.copytree(reference.folder / "store", folder / "store")
    expected = zoo.table(reference.folder / "store")
    if rng.random() < 0.25:
        stage = folder / "store" / rng.choice(["pretraining", "alignment", "measure-strength"])
        detail = rng.choice(sorted(STRAYS))
        STRAYS[detail](stage)
        outcome, problems = _read(folder, expected)
        problems += ["a stray file is an error"] if outcome != "same table" else []
        detail = f"{detail} in {stage.name}"
    else:
        prefixes = ("pretraining/", "alignment/", "measure-")
        cases = [
            case for case in cases_of_results(reference, seed + number) if case.path.startswith(prefixes)
        ]
        case: Case = rng.choice(cases)
        damage(folder, case, seed + number)
        outcome, problems = _read(folder, expected, case.path.split("/")[1])
        detail = f"{case.path}: {case.damage}"
    return TrialRow("zoo tables", number, f"{detail} ({outcome})", problems)


def _read(folder: Path, reference: pd.DataFrame, *names: str) -> tuple[str, Problems]:
    """How reading the table ended, and what is wrong with that."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            table = zoo.table(folder / "store")
        except ValueError as error:
            text = str(error)
            problems = ["the message has several lines"] if "\n" in text else []
            problems += [] if any(name in text for name in names) else [f"names none of {names}: {text}"]
            problems += [] if "delete" in text else [f"names no remedy: {text}"]
            return "named", problems
        except Exception as error:
            return "fault", [f"{type(error).__name__}: {error}"]
    warning = f", warned: {str(caught[0].message)[:200]}" if caught else ""
    if table.equals(reference):
        return "same table", []
    return "another table", [f"{len(table)} rows of {len(reference)}, or another value{warning}"]
