"""Command line of the robustness trials: runs them, prints and writes their counts; status 1 if any fails."""

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

from experiments.robustness import bad_input, damage, kills, trainings, trials
from experiments.robustness.trials import ProcessResult, Reference, TrialRow
from makebreak.progress import ProgressBar
from makebreak.store import write_atomic, write_json

T = TypeVar("T")
_MODELS = (transformers.GPT2LMHeadModel, transformers.LlamaForCausalLM)  # imported now, not in every trial


def main() -> int:
    """Runs the trials that the command line asks for.

    Returns:
        Exit status: 0 if all pass, 1 if any fails.
    """
    parser = argparse.ArgumentParser(prog="python -m experiments.robustness", description=__doc__)
    for name, default, description in (
        ("kills", 100, "number of runs killed at random moments; a fifth as many are killed at a rename"),
        ("bad", 100, "number of bad inputs: half are command lines, the others configs and worlds"),
        ("pairs", 10, "pairs of processes that build one model; in every second pair one is killed"),
        ("trainings", 1, "trials of each way to train; each training is killed 20 times"),
        ("damage", 10**6, "largest number of damaged results, and of damaged leftovers"),
        ("seed", 0, "seed of all random choices"),
        ("workers", 2, "number of trials at once"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=description)
    parser.add_argument("--out", type=Path, default=Path("runs/robustness"), help="folder of the tables")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    root, started = Path(tempfile.mkdtemp(prefix="robustness.")), time.monotonic()
    with multiprocessing.get_context("fork").Pool(options.workers) as pool:
        jobs = _bad_input(options, root)
        if options.kills or options.pairs or options.damage:
            reference = _reference(pool, root)
            print(
                "a run takes {:.1f} s, {:.1f} s with a checkpoint every step".format(*reference.seconds),
                flush=True,
            )
            jobs += _jobs(pool, options, reference, root)
        jobs += _trainings(pool, options, root)
        rows = []
        with ProgressBar("trials", len(jobs), leave=True) as bar:
            for row in pool.imap_unordered(_run_trial, jobs):
                bar.update()
                rows.append(row)
                if row.problems:
                    print(_failure_text(row, options.seed), flush=True)
    write(rows, options.out, options.seed)
    failed = [row for row in rows if row.problems]
    outcome = f"{len(failed)} failed, kept in {root}" if failed else "all passed"
    print(f"{time.monotonic() - started:.0f} s; {outcome}")
    if not failed:
        shutil.rmtree(root)
    return 1 if failed else 0


def _reference(pool: Pool, root: Path) -> Reference:
    """An uninterrupted run, compared with one that writes a checkpoint after every step."""
    folders = [root / "reference", root / "checkpoints"]
    results: list[ProcessResult] = pool.starmap(
        trials.measure, [(folders[0], False), (folders[1], True)], chunksize=1
    )
    problems = [r.stderr.strip()[-300:] for r in results if r.status] or trials.differences(*folders)
    if problems:
        raise SystemExit(f"uninterrupted runs fail or differ: {problems}")
    writes = int((folders[0] / "writes").read_text())
    for name in ("writes", "log"):
        (folders[0] / name).unlink()
    known = trials.labels(folders[0] / "store")
    return Reference(folders[0], known, (results[0].seconds, results[1].seconds), writes)


def _trainings(pool: Pool, options: argparse.Namespace, root: Path) -> list[partial[TrialRow]]:
    """Trials of every way to train, after an uninterrupted training of each."""
    jobs: list[partial[TrialRow]] = []
    for training in trainings.TRAININGS if options.trainings else ():
        reference = root / f"reference.{training.name}"
        reference.mkdir()
        (result,) = pool.starmap(trainings.train_once, [(reference, training)])
        if result.status:
            raise SystemExit(f"an uninterrupted training ({training.name}) fails: {result.stderr[-300:]}")
        jobs += [
            partial(trainings.kill_training, i, options.seed, training, reference, root)
            for i in range(options.trainings)
        ]
    return jobs


def _bad_input(options: argparse.Namespace, root: Path) -> list[partial[TrialRow]]:
    jobs: list[partial[TrialRow]] = []
    for i in range(options.bad):
        if i % 2 == 0:
            jobs.append(partial(bad_input.bad_command, i, options.seed, root, process=i % 40 == 0))
        else:
            jobs.append(
                partial(bad_input.bad_world if i % 10 in (3, 7) else bad_input.bad_config, i, options.seed)
            )
    return jobs


def _jobs(
    pool: Pool,
    options: argparse.Namespace,
    reference: Reference,
    root: Path,
) -> list[partial[TrialRow]]:
    seed = options.seed
    jobs: list[partial[TrialRow]] = [
        partial(kills.kill_at_random, i, seed, reference, root) for i in range(options.kills)
    ]
    jobs += [partial(kills.kill_at_write, i, seed, reference, root) for i in range(options.kills // 5)]
    jobs += [partial(kills.two_at_once, i, seed, reference, root) for i in range(options.pairs)]
    if not options.damage:
        return jobs
    cases = list(enumerate(damage.cases_of_results(reference, seed)))
    for i, case in _some(cases, options):
        jobs.append(partial(damage.damage_result, i, seed, reference, root, case, i % 5 == 0))
    checkpoints = (15, 19 + 5)  # in the middle of pretraining, and of the first alignment
    folders = {n: [root / f"left{n}.{s}" for s in (0, 1)] for n in checkpoints}
    killed_runs = [(folders[n][s], s, n) for n in checkpoints for s in (0, 1)]
    pool.starmap(_kill_at_checkpoint, killed_runs, chunksize=1)
    leftovers = [
        (folders[n][0], case) for n in checkpoints for case in damage.cases_of_leftovers(*folders[n])
    ]
    for i, (folder, case) in _some(list(enumerate(leftovers)), options):
        jobs.append(partial(damage.damage_leftover, i, seed, reference, root, case, folder))
    return jobs


def _some(cases: list[T], options: argparse.Namespace) -> list[T]:
    return random.Random(options.seed).sample(cases, min(len(cases), options.damage))


def _kill_at_checkpoint(folder: Path, seed: int, checkpoint: int) -> None:
    """Leaves what a run leaves that is killed just after a checkpoint."""
    folder.mkdir()
    killed = partial(trials.study, folder, seed=seed, checkpoints=True, die_at_checkpoint=checkpoint)
    trials.run(killed, folder / "log")
    (folder / "log").unlink()


def _run_trial(job: partial[TrialRow]) -> TrialRow:
    """The row of a trial, also if the trial itself raises."""
    try:
        return job()
    except Exception as error:
        return TrialRow(
            job.func.__name__, -1, str(job.args)[:200], [f"the trial failed: {type(error).__name__}: {error}"]
        )


def _failure_text(row: TrialRow, seed: int) -> str:
    problems = "".join(f"\n    {problem}" for problem in row.problems[:4])
    return f"FAILED {row.part} {row.number} (seed {seed}): {row.detail}{problems}"


def write(rows: list[TrialRow], out: Path, seed: int) -> None:
    """Prints how many trials of each kind passed, and writes `robustness.json` and `trials.csv`.

    Args:
        rows: Results of all trials.
        out: Folder of the files.
        seed: Seed of the trials; with a trial's number it repeats the trial.
    """
    totals, passes = Counter(r.part for r in rows), Counter(r.part for r in rows if not r.problems)
    stages = Counter(stage for r in rows if r.part == "kills" for stage in r.detail.split(" | "))
    failures = [r._asdict() | {"seed": seed} for r in sorted(rows) if r.problems]
    for part, n in sorted(totals.items()):
        print(f"{part:<20} {passes[part]:>4} of {n}")
    for stage, n in stages.most_common():
        print(f"{n:>4} killed in  {stage}")
    counts = {part: {"passed": passes[part], "trials": n} for part, n in sorted(totals.items())}
    summary = {"seed": seed, "parts": counts, "killed_in": stages, "failures": failures}
    write_json(out / "robustness.json", summary)
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(TrialRow._fields)
    writer.writerows([*row[:3], " | ".join(row.problems)] for row in sorted(rows))
    write_atomic(out / "trials.csv", table.getvalue())


if __name__ == "__main__":
    sys.exit(main())
