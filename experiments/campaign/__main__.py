"""python -m experiments.campaign: run the trials, print and write the table of figures; status 1 if any failed."""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy and torch
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import argparse
import csv
import io
import multiprocessing
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from multiprocessing.pool import Pool
from pathlib import Path
from typing import TypeVar

import transformers
from tqdm import tqdm

from experiments.campaign import bad_input, damage, kills, trials
from experiments.campaign.trials import Ended, Reference, Row
from makebreak.artifacts import write_atomic, write_json

T = TypeVar("T")
_MODELS = (transformers.GPT2LMHeadModel, transformers.LlamaForCausalLM)  # imported now, not in every trial


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m experiments.campaign", description=__doc__)
    for name, default, what in (
        ("kills", 100, "runs killed at random moments; a fifth as many at a rename"),
        ("bad", 100, "generated bad command lines (half), configs and worlds"),
        ("pairs", 10, "pairs of processes that build the same; every second has one killed"),
        ("damage", 10**6, "at most so many damaged results, and damaged leftovers"),
        ("seed", 0, "of all that is random"),
        ("workers", 2, "trials at once"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=what)
    parser.add_argument("--out", type=Path, default=Path("runs/campaign"), help="folder of the table")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    root, started = Path(tempfile.mkdtemp(prefix="campaign.")), time.monotonic()
    with multiprocessing.get_context("fork").Pool(given.workers) as pool:
        jobs = _bad_input(given, root)
        if given.kills or given.pairs or given.damage:
            reference = _reference(pool, root)
            print(
                "a run takes {:.1f} s, {:.1f} s with a checkpoint every step".format(*reference.seconds),
                flush=True,
            )
            jobs += _jobs(pool, given, reference, root)
        rows = []
        for row in tqdm(pool.imap_unordered(_tried, jobs), total=len(jobs), disable=not sys.stderr.isatty()):
            rows.append(row)
            if row.problems:
                print(_told(row, given.seed), flush=True)
    write(rows, given.out, given.seed)
    failed = [row for row in rows if row.problems]
    print(
        f"{time.monotonic() - started:.0f} s; {f'{len(failed)} failed, kept in {root}' if failed else 'all passed'}"
    )
    if not failed:
        shutil.rmtree(root)
    return 1 if failed else 0


def _reference(pool: Pool, root: Path) -> Reference:
    """The uninterrupted run, beside one that writes a checkpoint every step."""
    folders = [root / "reference", root / "checkpoints"]
    ended: list[Ended] = pool.starmap(trials.measure, [(folders[0], False), (folders[1], True)], chunksize=1)
    problems = [e.stderr.strip()[-300:] for e in ended if e.status] or trials.differences(*folders)
    if problems:
        raise SystemExit(f"uninterrupted runs fail or differ: {problems}")
    writes = int((folders[0] / "writes").read_text())
    for name in ("writes", "log"):
        (folders[0] / name).unlink()
    known = trials.labels(folders[0] / "store")
    return Reference(folders[0], known, (ended[0].seconds, ended[1].seconds), writes)


def _bad_input(given: argparse.Namespace, root: Path) -> list[partial[Row]]:
    jobs: list[partial[Row]] = []
    for i in range(given.bad):
        if i % 2 == 0:
            jobs.append(partial(bad_input.bad_command, i, given.seed, root, process=i % 40 == 0))
        else:
            jobs.append(
                partial(bad_input.bad_world if i % 10 in (3, 7) else bad_input.bad_config, i, given.seed)
            )
    return jobs


def _jobs(
    pool: Pool,
    given: argparse.Namespace,
    reference: Reference,
    root: Path,
) -> list[partial[Row]]:
    seed = given.seed
    jobs: list[partial[Row]] = [
        partial(kills.kill_at_random, i, seed, reference, root) for i in range(given.kills)
    ]
    jobs += [partial(kills.kill_at_write, i, seed, reference, root) for i in range(given.kills // 5)]
    jobs += [partial(kills.two_at_once, i, seed, reference, root) for i in range(given.pairs)]
    if not given.damage:
        return jobs
    cases = list(enumerate(damage.of_finished(reference, seed)))
    for i, case in _some(cases, given):
        jobs.append(partial(damage.finished, i, seed, reference, root, case, i % 5 == 0))
    died_at = (15, 19 + 5)  # checkpoints: in the middle of pretraining, and of the first alignment
    left = {at: [root / f"left{at}.{s}" for s in (0, 1)] for at in died_at}
    pool.starmap(
        _leave, [(folder, s, at) for at in died_at for s, folder in enumerate(left[at])], chunksize=1
    )
    leftovers = [(left[at][0], case) for at in died_at for case in damage.of_leftovers(*left[at])]
    for i, (folder, case) in _some(list(enumerate(leftovers)), given):
        jobs.append(partial(damage.leftover, i, seed, reference, root, case, folder))
    return jobs


def _some(cases: list[T], given: argparse.Namespace) -> list[T]:
    return random.Random(given.seed).sample(cases, min(len(cases), given.damage))


def _leave(folder: Path, seed: int, at: int) -> None:
    """A run that died just after so many checkpoints."""
    folder.mkdir()
    trials.run(
        partial(trials.study, folder, seed=seed, checkpoints=True, die_at_checkpoint=at), folder / "log"
    )
    (folder / "log").unlink()


def _tried(job: partial[Row]) -> Row:
    """The row of a trial, also where the trial itself fails."""
    try:
        return job()
    except Exception as error:
        return Row(
            job.func.__name__, -1, str(job.args)[:200], [f"the trial failed: {type(error).__name__}: {error}"]
        )


def _told(row: Row, seed: int) -> str:
    problems = "".join(f"\n    {problem}" for problem in row.problems[:4])
    return f"FAILED {row.part} {row.number} (seed {seed}): {row.detail}{problems}"


def write(rows: list[Row], out: Path, seed: int) -> None:
    """The table (passed of tried, by part), where kills fell; in the file every failure, by seed and number."""
    tried, passed = Counter(r.part for r in rows), Counter(r.part for r in rows if not r.problems)
    hits = Counter(stage for r in rows if r.part == "kills" for stage in r.detail.split(" | "))
    failures = [
        {"part": r.part, "seed": seed, "number": r.number, "detail": r.detail, "problems": r.problems}
        for r in sorted(rows)
        if r.problems
    ]
    for part, n in sorted(tried.items()):
        print(f"{part:<20} {passed[part]:>4} of {n}")
    for stage, n in hits.most_common():
        print(f"{n:>4} killed in  {stage}")
    figures = {part: {"passed": passed[part], "tried": n} for part, n in sorted(tried.items())}
    write_json(
        out / "campaign.json", {"seed": seed, "parts": figures, "killed_in": hits, "failures": failures}
    )
    table = io.StringIO()
    csv.writer(table).writerows(
        [Row._fields, *(r._replace(problems=" | ".join(r.problems)) for r in sorted(rows))]
    )  # type: ignore[arg-type]
    write_atomic(out / "trials.csv", table.getvalue())


if __name__ == "__main__":
    sys.exit(main())
