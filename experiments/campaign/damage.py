"""Damaged files in the store: is each named with its remedy, and is nothing lost or wrongly used?"""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from experiments.campaign.trials import Reference, Row, differences, one_clear_line, run, snapshot, study
from makebreak.artifacts import RECORD
from makebreak.training.loop import CHECKPOINT, METRICS

Damage = Callable[[bytes, bytes, random.Random], bytes | None]
"""(a file's content, that of the same file of another result, random numbers) → new content, None to delete it."""
FOLDERS = "folders swapped"


class Case(NamedTuple):
    """What is damaged: `stage/key/file` below the store, or `stage/key`; how; what it may be swapped with."""

    path: str
    how: str
    other: Path


def _bit(mine: bytes, other: bytes, rng: random.Random) -> bytes:
    limit = mine.find(b'"cost"')  # of a record: what follows is measured, or has cases of its own
    content = bytearray(mine)
    content[rng.randrange(limit if limit > 0 else len(mine))] ^= 1 << rng.randrange(8)
    return bytes(content)


def _number(mine: bytes, other: bytes, rng: random.Random) -> bytes:
    at = rng.choice([m.start() for m in re.finditer(rb"\d", mine)])
    return mine[:at] + b"%d" % ((int(mine[at : at + 1]) + 1) % 10) + mine[at + 1 :]


def _edit(change: Callable[[dict[str, Any]], object]) -> Damage:
    def edited(mine: bytes, other: bytes, rng: random.Random) -> bytes:
        record = json.loads(mine)
        change(record)
        return json.dumps(record, indent=1, sort_keys=True).encode()

    return edited


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


def of_finished(reference: Reference, seed: int) -> list[Case]:
    """Cases for two finished artifacts of every stage: each file in each way, and the folder."""
    rng, store = random.Random(f"{seed}/damage"), reference.folder / "store"
    cases = []
    for stage in sorted({p.parent.parent.name for p in store.glob(f"*/*/{RECORD}")}):
        folders = sorted(p.parent for p in store.glob(f"{stage}/*/{RECORD}"))
        for folder in rng.sample(folders, min(2, len(folders))):
            others = [f for f in folders if f != folder] or [p.parent for p in store.glob(f"*/*/{RECORD}")]
            other = rng.choice([f for f in others if f != folder])
            for file in sorted(p for p in folder.rglob("*") if p.is_file()):
                ways = (
                    ANY | OF_RECORDS
                    if file.name == RECORD
                    else ANY | NUMBER
                    if file.name == "rows.json"
                    else ANY
                )
                cases += _cases(store, file, ways, other / file.relative_to(folder))
            cases.append(Case(f"{stage}/{folder.name}", FOLDERS, other.relative_to(store)))
    return cases


def of_leftovers(left: Path, other: Path) -> list[Case]:
    """Cases for a run that died with a checkpoint; `other` died likewise, with another seed."""
    mine, theirs = (next((f / "store").glob("*/*.partial")) for f in (left, other))
    ways = {CHECKPOINT: ANY | NUMBER, METRICS: ANY | OF_METRICS | NUMBER}
    return [c for name in ways for c in _cases(left / "store", mine / name, ways[name], theirs / name)]


def _cases(store: Path, file: Path, ways: dict[str, Damage], other: Path) -> list[Case]:
    """One for each way, but the swap with a file that is the same or not there."""
    swap = other.exists() and other.read_bytes() != file.read_bytes()
    return [Case(str(file.relative_to(store)), how, other) for how in ways if swap or how != "another's"]


def _damaged(folder: Path, source: Path, case: Case, seed: int) -> Path:
    """A copy of a result, damaged."""
    shutil.copytree(source, folder)
    path, other = folder / "store" / case.path, folder / "store" / case.other
    if case.how == FOLDERS:
        aside = path.rename(path.with_name("aside"))
        other.rename(path)
        aside.rename(other)
        return folder
    theirs = other.read_bytes() if other.exists() else b""
    new = _ALL[case.how](path.read_bytes(), theirs, random.Random(f"{seed}/{case.path}/{case.how}"))
    path.unlink() if new is None else path.write_bytes(new)
    return folder


def finished(number: int, seed: int, reference: Reference, root: Path, case: Case, repair: bool) -> Row:
    """The next run must name the damage and touch nothing; what it names deleted, it makes it anew (`repair`)."""
    folder, log = (
        _damaged(root / f"damage{number}", reference.folder, case, seed),
        root / f"damage{number}.log",
    )
    (folder / "writes").touch()
    before, next_run = snapshot(folder), partial(study, folder)
    bad = {str(folder / "store" / Path(*Path(case.path).parts[:2]))}
    if case.how == FOLDERS:
        bad.add(str(folder / "store" / case.other))
    ended = run(next_run, log)
    (folder / "writes").write_bytes(b"")
    told = re.search(r"delete (\S+) and", ended.stderr)
    problems = one_clear_line(ended, "/".join(Path(case.path).parts[:2]) if case.how != FOLDERS else "store")
    if not told or told[1] not in bad:
        problems.append(f"does not say to delete {bad}: {ended.stderr.strip()[-300:]}")
    problems += [
        f"written or lost: {n}" for n, _ in sorted(set(before.items()) ^ set(snapshot(folder).items()))
    ]
    if repair and not problems:
        while told and told[1] in bad:  # of swapped folders one after the other
            bad.discard(told[1])
            shutil.rmtree(told[1])
            ended = run(next_run, log)
            told = re.search(r"delete (\S+) and", ended.stderr)
        problems = [f"after the remedy: {ended.stderr.strip()[-300:]}"] if ended.status else []
        problems += differences(reference.folder, folder)
    stage = reference.labels.get(Path(case.path).parts[1], "?")
    return Row("damaged results", number, f"{stage}, {case.path}: {case.how}", problems)


def leftover(number: int, seed: int, reference: Reference, root: Path, case: Case, left: Path) -> Row:
    """The next run must go on to the reference's result, or name the file; with what it says deleted, get there."""
    folder, log = _damaged(root / f"leftover{number}", left, case, seed), root / f"leftover{number}.log"
    ended, how, problems = run(lambda: study(folder), log), "resumed", []
    if ended.status:
        how, problems = "named", one_clear_line(ended, str(folder / "store" / case.path))
        told = re.search(r"delete (\S+) to", ended.stderr)
        named = told[1] if told and told[1] != "it" else folder / "store" / case.path
        Path(named).unlink(missing_ok=True)
        ended = run(lambda: study(folder), log)
    problems += [f"after the remedy: {ended.stderr.strip()[-300:]}"] if ended.status else []
    problems += differences(reference.folder, folder)[:3]
    return Row("damaged leftovers", number, f"{case.path}: {case.how} ({how})", problems)
