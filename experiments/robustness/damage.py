"""Trials that damage files of a store.

The next run must name the damaged file and a remedy, must not use the file, and must reach the reference's
result after the remedy.
"""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from experiments.robustness.trials import (
    Reference,
    TrialRow,
    differences,
    one_clear_line,
    run,
    snapshot,
    study,
)
from makebreak.store import RECORD_FILE
from makebreak.training import CHECKPOINT, METRICS

Damage = Callable[[bytes, bytes, random.Random], bytes | None]
"""Function of a file's content, that of the same file of another result, and random numbers.

It returns the new content, or None to delete the file.
"""
FOLDERS = "folders swapped"
"""The damage that exchanges the folders of two results."""


class Case(NamedTuple):
    """One damage of one file or folder."""

    path: str
    """`stage/key/file` below the store, or `stage/key` for a folder."""
    damage: str
    """Name of the damage."""
    other: Path
    """The file or folder that it may be exchanged with."""


def _bit(mine: bytes, other: bytes, rng: random.Random) -> bytes:
    limit = mine.find(b'"cost"')  # of a record: what follows is measured, or has cases of its own
    content = bytearray(mine)
    content[rng.randrange(limit if limit > 0 else len(mine))] ^= 1 << rng.randrange(8)
    return bytes(content)


def _number(mine: bytes, other: bytes, rng: random.Random) -> bytes:
    at = rng.choice([m.start() for m in re.finditer(rb"\d", mine)])
    return mine[:at] + b"%d" % ((int(mine[at : at + 1]) + 1) % 10) + mine[at + 1 :]


def _edit(change: Callable[[dict[str, Any]], object]) -> Damage:
    def edit_record(mine: bytes, other: bytes, rng: random.Random) -> bytes:
        record = json.loads(mine)
        change(record)
        return json.dumps(record, indent=1, sort_keys=True).encode()

    return edit_record


ANY: dict[str, Damage] = {
    "empty": lambda mine, other, rng: b"",
    "cut in half": lambda mine, other, rng: mine[: len(mine) // 2],
    "end cut off": lambda mine, other, rng: mine.rstrip(b"\n")[:-1],  # a line's end is no loss to JSON
    "one bit flipped": _bit,
    "deleted": lambda mine, other, rng: None,
    "another's": lambda mine, other, rng: other,
}
OF_RECORDS: dict[str, Damage] = {
    "config edited": _edit(lambda record: record["config"].update(seed=7)),
    "hash edited": _edit(lambda record: record["files"].update({next(iter(record["files"])): "0" * 64})),
    "revision edited": _edit(lambda record: record.update(revision=99)),
    "files forgotten": _edit(lambda record: record.pop("files")),
    "no object": lambda mine, other, rng: b"[]\n",
}
OF_METRICS: dict[str, Damage] = {
    "last line torn": lambda mine, other, rng: mine[:-25],
    "torn line added": lambda mine, other, rng: mine + b'{"step": 1',
    "bytes that are no text": lambda mine, other, rng: mine + b"\xff\xfe\n",
    "a row without step": lambda mine, other, rng: mine + b"{}\n",
}
NUMBER: dict[str, Damage] = {"number edited": _number}
_ALL = ANY | OF_RECORDS | OF_METRICS | NUMBER


def cases_of_results(reference: Reference, seed: int) -> list[Case]:
    """Cases for two results of every stage: each of their files with each damage, and the folder."""
    rng, store = random.Random(f"{seed}/damage"), reference.folder / "store"
    cases = []
    for stage in sorted({p.parent.parent.name for p in store.glob(f"*/*/{RECORD_FILE}")}):
        folders = sorted(p.parent for p in store.glob(f"{stage}/*/{RECORD_FILE}"))
        for folder in rng.sample(folders, min(2, len(folders))):
            others = [f for f in folders if f != folder] or [
                p.parent for p in store.glob(f"*/*/{RECORD_FILE}")
            ]
            other = rng.choice([f for f in others if f != folder])
            for file in sorted(p for p in folder.rglob("*") if p.is_file()):
                damages = ANY
                if file.name == RECORD_FILE:
                    damages = ANY | OF_RECORDS
                elif file.name == "rows.json":
                    damages = ANY | NUMBER
                cases += _cases(store, file, damages, other / file.relative_to(folder))
            cases.append(Case(f"{stage}/{folder.name}", FOLDERS, other.relative_to(store)))
    return cases


def cases_of_leftovers(folder: Path, other: Path) -> list[Case]:
    """Cases for a run that was killed with a checkpoint; `other` was killed likewise, with another seed."""
    mine = next((folder / "store").glob("*/*.partial"))
    theirs = next((other / "store").glob("*/*.partial"))
    damages = {CHECKPOINT: ANY | NUMBER, METRICS: ANY | OF_METRICS | NUMBER}
    cases = [_cases(folder / "store", mine / name, damages[name], theirs / name) for name in damages]
    return [case for group in cases for case in group]


def _cases(store: Path, file: Path, damages: dict[str, Damage], other: Path) -> list[Case]:
    """One case per damage; the exchange with a file that is equal or absent is left out."""
    swap = other.exists() and other.read_bytes() != file.read_bytes()
    path = str(file.relative_to(store))
    return [Case(path, damage, other) for damage in damages if swap or damage != "another's"]


def _damaged_copy(folder: Path, source: Path, case: Case, seed: int) -> Path:
    """Copies a run's folder and damages the copy."""
    shutil.copytree(source, folder)
    path, other = folder / "store" / case.path, folder / "store" / case.other
    if case.damage == FOLDERS:
        aside = path.rename(path.with_name("aside"))
        other.rename(path)
        aside.rename(other)
        return folder
    theirs = other.read_bytes() if other.exists() else b""
    new = _ALL[case.damage](path.read_bytes(), theirs, random.Random(f"{seed}/{case.path}/{case.damage}"))
    path.unlink() if new is None else path.write_bytes(new)
    return folder


def damage_result(
    number: int, seed: int, reference: Reference, root: Path, case: Case, repair: bool
) -> TrialRow:
    """Damages a result: the next run must name it; with `repair`, the remedy is followed."""
    folder = _damaged_copy(root / f"damage{number}", reference.folder, case, seed)
    log = root / f"damage{number}.log"
    (folder / "writes").touch()
    before, next_run = snapshot(folder), partial(study, folder)
    bad = {str(folder / "store" / Path(*Path(case.path).parts[:2]))}
    if case.damage == FOLDERS:
        bad.add(str(folder / "store" / case.other))
    result = run(next_run, log)
    (folder / "writes").write_bytes(b"")
    remedy = re.search(r"delete (\S+) and", result.stderr)
    problems = one_clear_line(
        result, "/".join(Path(case.path).parts[:2]) if case.damage != FOLDERS else "store"
    )
    if not remedy or remedy[1] not in bad:
        problems.append(f"does not say to delete {bad}: {result.stderr.strip()[-300:]}")
    problems += [
        f"written or lost: {n}" for n, _ in sorted(set(before.items()) ^ set(snapshot(folder).items()))
    ]
    if repair and not problems:
        while remedy and remedy[1] in bad:  # exchanged folders are named one after the other
            bad.discard(remedy[1])
            shutil.rmtree(remedy[1])
            result = run(next_run, log)
            remedy = re.search(r"delete (\S+) and", result.stderr)
        problems = [f"after the remedy: {result.stderr.strip()[-300:]}"] if result.status else []
        problems += differences(reference.folder, folder)
    stage = reference.labels.get(Path(case.path).parts[1], "?")
    return TrialRow("damaged results", number, f"{stage}, {case.path}: {case.damage}", problems)


def damage_leftover(
    number: int, seed: int, reference: Reference, root: Path, case: Case, source: Path
) -> TrialRow:
    """Damages what a killed run left: the next run must reach the reference's result, or name the file."""
    folder, log = (
        _damaged_copy(root / f"leftover{number}", source, case, seed),
        root / f"leftover{number}.log",
    )
    result, outcome = run(lambda: study(folder), log), "resumed"
    problems: list[str] = []
    if result.status:
        outcome, problems = "named", one_clear_line(result, str(folder / "store" / case.path))
        remedy = re.search(r"delete (\S+) to", result.stderr)
        file = remedy[1] if remedy and remedy[1] != "it" else folder / "store" / case.path
        Path(file).unlink(missing_ok=True)
        result = run(lambda: study(folder), log)
    problems += [f"after the remedy: {result.stderr.strip()[-300:]}"] if result.status else []
    problems += differences(reference.folder, folder)[:3]
    return TrialRow("damaged leftovers", number, f"{case.path}: {case.damage} ({outcome})", problems)
