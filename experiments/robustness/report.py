"""Report of the trials: how many of each kind were tried and passed, and every one that did not."""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from experiments.robustness.trials import TrialRow
from makebreak.output_record import OutputOwner, record_output
from makebreak.store import write_atomic, write_json

OWNER = OutputOwner("robustness trials", files=("robustness.json", "robustness.md", "trials.csv"))
"""Whose results are in the folder of the files."""


class CountRow(NamedTuple):
    """Trials of one kind."""

    kind: str
    """Kind of the trials."""
    n_trials: int
    """Number of trials."""
    n_passes: int
    """Number of trials in which the program did what it must."""


def count(rows: list[TrialRow]) -> list[CountRow]:
    """Numbers of trials by kind, in alphabetical order."""
    n, n_passes = Counter(r.part for r in rows), Counter(r.part for r in rows if not r.problems)
    return [CountRow(kind, n[kind], n_passes[kind]) for kind in sorted(n)]


def failure_text(row: TrialRow, seed: int) -> str:
    """A trial that failed, with what repeats it."""
    problems = "".join(f"\n    {problem}" for problem in row.problems[:4])
    return f"FAILED {row.part} {row.number} (seed {seed}): {row.detail}{problems}"


def write(rows: list[TrialRow], out: Path, seed: int, not_run: dict[str, str]) -> None:
    """Prints the numbers by kind, and writes `robustness.json`, `robustness.md` and `trials.csv`.

    Args:
        rows: Results of all trials.
        out: Folder of the files.
        seed: Seed of the trials; with a trial's number it repeats the trial.
        not_run: Kinds that were not run, with the reason.
    """
    counts = count(rows)
    failures = [r._asdict() | {"seed": seed} for r in sorted(rows) if r.problems]
    for row in counts:
        print(f"{row.kind:<28} {row.n_passes:>4} of {row.n_trials}")
    for kind, reason in not_run.items():
        print(f"{kind:<28} not run: {reason}")
    summary = {"seed": seed, "kinds": [row._asdict() for row in counts], "failures": failures}
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(TrialRow._fields)
    writer.writerows([*row[:3], " | ".join(row.problems)] for row in sorted(rows))
    with record_output(out, OWNER):
        write_json(out / "robustness.json", summary | {"not_run": not_run})
        write_atomic(out / "robustness.md", _markdown(counts, rows, not_run, seed))
        write_atomic(out / "trials.csv", table.getvalue().encode("utf-8", errors="backslashreplace"))


def _markdown(counts: list[CountRow], rows: list[TrialRow], not_run: dict[str, str], seed: int) -> str:
    lines = ["| kind | tried | passed |", "| --- | --- | --- |"]
    lines += [f"| {row.kind} | {row.n_trials} | {row.n_passes} |" for row in counts]
    total = CountRow("all", sum(r.n_trials for r in counts), sum(r.n_passes for r in counts))
    lines += [f"| **{total.kind}** | {total.n_trials} | {total.n_passes} |", "", f"Seed {seed}."]
    lines += [f"Not run: {kind}, since {reason}." for kind, reason in not_run.items()]
    failed = [row for row in sorted(rows) if row.problems]
    lines += ["", "Trials that failed:", ""] if failed else []
    lines += [f"- {row.part} {row.number}: {'; '.join(row.problems)[:300]}" for row in failed]
    return "\n".join(lines) + "\n"
