"""Trials that damage files of a store.

The next run of a program must name a damaged result and a remedy, must not use the result, and must reach the
reference's after the remedy. The state of an interrupted step may also begin anew by itself.
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

from experiments.robustness.programs import Reference, differences, run_program
from experiments.robustness.trials import TrialRow, one_clear_line, run, snapshot
from makebreak.store import RECORD_FILE
from makebreak.training import METRICS

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
OF_STATES: dict[str, Damage] = {
    "an empty object": lambda mine, other, rng: b"{}",
    "an empty list": lambda mine, other, rng: b"[]",
    "null": lambda mine, other, rng: b"null",
    "NaN": lambda mine, other, rng: re.sub(rb"-?\d+\.\d+", b"NaN", mine, count=1) or b"NaN",
    "random bytes": lambda mine, other, rng: rng.randbytes(max(len(mine), 1)),
}
_ALL = ANY | OF_RECORDS | OF_METRICS | NUMBER | OF_STATES


def cases_of_results(reference: Reference, seed: int) -> list[Case]:
    """Cases for two results of every stage: each of their files with each damage, and the folder."""
    rng, store = random.Random(f"{seed}/damage/{reference.program.name}"), reference.folder / "store"
    everything = [p.parent for p in sorted(store.glob(f"*/*/{RECORD_FILE}"))]
    provenance = reference.folder / "out" / "provenance.json"
    if provenance.exists():  # a study vouches for these; models of its gates alone are not read again
        stages = {stage["folder"] for stage in json.loads(provenance.read_text())["stages"]}
        everything = [p for p in everything if p.relative_to(store).as_posix() in stages]
    cases = []
    for stage in sorted({p.parent.name for p in everything}):
        folders = [p for p in everything if p.parent.name == stage]
        for folder in rng.sample(folders, min(2, len(folders))):
            others = [f for f in folders if f != folder] or [f for f in everything if f != folder]
            if not others:
                continue
            other = rng.choice(others)
            for file in sorted(p for p in folder.rglob("*") if p.is_file()):
                damages = ANY
                if file.name == RECORD_FILE:
                    damages = ANY | OF_RECORDS
                elif file.suffix == ".json":
                    damages = ANY | NUMBER
                cases += _cases(store, file, damages, other / file.relative_to(folder))
            cases.append(Case(f"{stage}/{folder.name}", FOLDERS, other.relative_to(store)))
    return cases


def cases_of_states(folder: Path) -> list[Case]:
    """Cases for every file of an unfinished result that holds anything."""
    store = folder.parents[1]
    cases: list[Case] = []
    for file in sorted(p for p in folder.rglob("*") if p.is_file() and p.stat().st_size):
        damages = ANY | (OF_METRICS if file.name == METRICS else OF_STATES)
        if re.search(rb"\d", file.read_bytes()):
            damages = damages | NUMBER
        cases += _cases(store, file, damages, folder / "no other")
    return cases


def _cases(store: Path, file: Path, damages: dict[str, Damage], other: Path) -> list[Case]:
    """One case per damage; the exchange with a file that is equal or absent is left out."""
    swap = other.is_file() and other.read_bytes() != file.read_bytes()
    path = str(file.relative_to(store))
    return [Case(path, damage, other) for damage in damages if swap or damage != "another's"]


def damage(folder: Path, case: Case, seed: int) -> None:
    """Damages a file, or exchanges two folders, below `folder`/store."""
    path, other = folder / "store" / case.path, folder / "store" / case.other
    if case.damage == FOLDERS:
        aside = path.rename(path.with_name("aside"))
        other.rename(path)
        aside.rename(other)
        return
    theirs = other.read_bytes() if other.is_file() else b""
    rng = random.Random(f"{seed}/{case.path}/{case.damage}")
    new = _ALL[case.damage](path.read_bytes(), theirs, rng)
    path.unlink() if new is None else path.write_bytes(new)


def damage_result(
    number: int, seed: int, reference: Reference, root: Path, case: Case, repair: bool
) -> TrialRow:
    """Damages a result: the next run must name it; with `repair`, the remedy is followed."""
    name = reference.program.name
    folder, log = root / f"damage.{name}.{number}", root / f"damage.{name}.{number}.log"
    shutil.copytree(reference.folder, folder)
    damage(folder, case, seed)
    before = snapshot(folder)
    # an unchanged study reads its tables from `out`: it must look at the store that it vouches for
    next_run = partial(run_program, reference.program, folder)
    result = run(next_run, log)
    stage_key = "/".join(Path(case.path).parts[:2])
    bad = {f"store/{stage_key}"}
    if case.damage == FOLDERS:
        bad.add(f"store/{case.other}")
    remedy = re.search(r"delete (\S+) and", result.stderr)
    problems = one_clear_line(result, "store" if case.damage == FOLDERS else stage_key)
    if not problems and (not remedy or remedy[1] not in bad):
        problems.append(f"does not say to delete {bad}: {result.stderr.strip()[-300:]}")
    problems += [
        f"written or lost: {n}" for n, _ in sorted(set(before.items()) ^ set(snapshot(folder).items()))
    ]
    if repair and not problems:
        while remedy and remedy[1] in bad:  # exchanged folders are named one after the other
            bad.discard(remedy[1])
            shutil.rmtree(folder / remedy[1])
            result = run(next_run, log)
            remedy = re.search(r"delete (\S+) and", result.stderr)
        problems = [f"after the remedy: {result.stderr.strip()[-300:]}"] if result.status else []
        problems += differences(reference.folder, folder)
    stage = reference.labels.get(Path(case.path).parts[1], "?")
    return TrialRow("damaged results", number, f"{name}: {stage}, {case.path}: {case.damage}", problems)


def damage_state(
    number: int, seed: int, reference: Reference, root: Path, case: Case, source: Path
) -> TrialRow:
    """Damages what a killed run left: the next run must reach the reference's result, or name the file."""
    name = reference.program.name
    folder, log = root / f"state.{name}.{number}", root / f"state.{name}.{number}.log"
    shutil.copytree(source, folder)
    damage(folder, case, seed)
    next_run = partial(run_program, reference.program, folder)
    result, outcome = run(next_run, log), "the step continued or began anew"
    problems: list[str] = []
    if result.status:
        outcome, problems = "named", one_clear_line(result, f"store/{case.path}")
        remedy = re.search(r"delete (\S+) to", result.stderr)
        file = folder / (remedy[1] if remedy and remedy[1] != "it" else f"store/{case.path}")
        file.unlink(missing_ok=True)
        result = run(next_run, log)
    elif "Traceback" in result.stderr or len(result.stderr.splitlines()) > 1:
        problems.append(f"more than one line on stderr: {result.stderr.strip()[-300:]}")
    problems += [f"after the remedy: {result.stderr.strip()[-300:]}"] if result.status else []
    problems += differences(reference.folder, folder)[:3]
    return TrialRow("damaged states", number, f"{name}: {case.path}: {case.damage} ({outcome})", problems)
