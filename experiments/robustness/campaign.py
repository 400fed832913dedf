"""Which trials are run: the undisturbed runs that they are compared with, and a job for every trial."""

from __future__ import annotations

import argparse
import random
import shutil
from collections.abc import Callable
from functools import partial
from multiprocessing.pool import Pool
from pathlib import Path
from typing import TypeVar

from experiments.robustness import (
    bad_input,
    command_lines,
    concurrency,
    damage,
    data_files,
    disk_faults,
    hostile_models,
    kills,
    programs,
    tiny_models,
    trainings,
    zoo_damage,
)
from experiments.robustness.programs import COMMANDS, STUDIES, Reference
from experiments.robustness.trials import TrialRow

T = TypeVar("T")
Job = partial[TrialRow]
PROGRAMS = [*COMMANDS, *STUDIES]
"""Names of all programs."""
NUMBERS = (
    ("kills", 110, "runs killed at random moments; a fifth as many are killed at a rename"),
    ("several", 6, "trials of four processes of one program at once"),
    ("pairs", 6, "pairs of processes that train one model; in every second pair one is killed"),
    ("trainings", 1, "trials of each way to train; each training is killed 20 times"),
    ("damage", 200, "damaged files of finished results"),
    ("states", 80, "damaged files of interrupted results"),
    ("zoo", 60, "damaged stores of which the table is read"),
    ("models", 220, "model folders with one thing changed"),
    ("gguf", 60, "GGUF files with bytes changed"),
    ("lines", 140, "bad command lines of makebreak"),
    ("files", 120, "files of prompts, and a third as many of training examples"),
    ("bad", 80, "bad input of the studies: half are command lines, the others configs and worlds"),
    ("disk", 20, "runs on a full disk or with a limit of file sizes"),
)
"""Numbers of trials: name of the option, default and description."""
_COMMAND_WEIGHT = 8  # a study takes ten times as long as a command


def plan(options: argparse.Namespace, pool: Pool, root: Path) -> tuple[list[Job], dict[str, str]]:
    """Prepares what the trials need, and lists them.

    Args:
        options: Numbers by `NUMBERS`, `seed` and `programs`.
        pool: Processes that have imported everything and computed nothing.
        root: Folder of all trials.

    Returns:
        The trials, and the kinds that cannot be run here with the reason.
    """
    seed: int = options.seed
    models = tiny_models.write(root / "models")
    jobs: list[Job] = []
    for name, trial in _INPUT_TRIALS.items():
        jobs += [partial(trial, i, seed, models, root) for i in range(getattr(options, name))]
    jobs += [partial(data_files.example_file, i, seed, models, root) for i in range(options.files // 3)]
    if any(getattr(options, name) for name in ("models", "gguf", "files")):
        pool.apply(_write_expected, (models, root))
    jobs += _bad_input(options, root)
    not_run: dict[str, str] = {}
    if any(getattr(options, name) for name in _OF_PROGRAMS):
        wanted = [p for p in programs.all_programs(models) if p.name in options.programs]
        print(f"undisturbed runs of {', '.join(p.name for p in wanted)}", flush=True)
        arguments = [(p, root / f"reference.{p.name}") for p in reversed(wanted)]
        references = pool.starmap(programs.reference, arguments, chunksize=1)[::-1]
        jobs += _of_programs(options, references, root, not_run)
        jobs += _states(options, pool, references, root)
    jobs += _trainings(options, pool, root)
    return jobs, not_run


_INPUT_TRIALS: dict[str, Callable[[int, int, Path, Path], TrialRow]] = {
    "models": hostile_models.hostile_model,
    "gguf": hostile_models.hostile_gguf,
    "lines": command_lines.bad_command,
    "files": data_files.prompt_file,
}
_OF_PROGRAMS = ("kills", "several", "pairs", "damage", "states", "zoo", "disk")


def _write_expected(models: Path, root: Path) -> None:
    """Tables of the unchanged tiny model, with which accepted input is compared."""
    folder = root / "expected"
    shutil.copytree(models / "safe", folder / "model")
    result = hostile_models.inspect(folder, models, "model")
    if result.status or result.stderr:
        raise RuntimeError(f"the unchanged model is refused: {result.stderr[-300:]}")
    shutil.copytree(folder / "out/tables", models / "expected")


def _bad_input(options: argparse.Namespace, root: Path) -> list[Job]:
    jobs: list[Job] = []
    for i in range(options.bad):
        if i % 2 == 0:
            jobs.append(partial(bad_input.bad_command, i, options.seed, root, process=i % 40 == 0))
        else:
            trial = bad_input.bad_world if i % 10 in (3, 7) else bad_input.bad_config
            jobs.append(partial(trial, i, options.seed))
    return jobs


def _spread(references: list[Reference], n: int) -> list[tuple[int, Reference]]:
    """Numbered trials over all programs, of a command several times as many as of a study."""
    weighted = [r for r in references for _ in range(_COMMAND_WEIGHT if r.program.name in COMMANDS else 1)]
    order = random.Random(0).sample(weighted, len(weighted))
    return [(i, order[i % len(order)]) for i in range(n)]


def _of_programs(
    options: argparse.Namespace, references: list[Reference], root: Path, not_run: dict[str, str]
) -> list[Job]:
    """Kills, damaged results, concurrent and full-disk runs."""
    seed = options.seed
    jobs: list[Job] = [
        partial(kills.kill_at_random, i, seed, r, root) for i, r in _spread(references, options.kills)
    ]
    jobs += [
        partial(kills.kill_at_rename, i, seed, r, root) for i, r in _spread(references, options.kills // 5)
    ]
    jobs += [
        partial(concurrency.several_at_once, i, seed, r, root)
        for i, r in _spread(references, options.several)
    ]
    cases = [(r, case) for r in references for case in damage.cases_of_results(r, seed)]
    for i, (r, case) in enumerate(_some(cases, options.damage, seed)):
        jobs.append(partial(damage.damage_result, i, seed, r, root, case, i % 5 == 0))
    can_mount = bool(options.disk) and disk_faults.can_mount(root)
    for i, r in _spread(references, options.disk):
        trial = disk_faults.full_disk if can_mount and i % 2 else disk_faults.file_size_limit
        jobs.append(partial(trial, i, seed, r, root))
    if options.disk and not can_mount:
        not_run["full disks"] = "this process may not mount a file system (files beyond a limit were tried)"
    by_name = {r.program.name: r for r in references}
    if "jain2024" in by_name:
        reference = by_name["jain2024"]
        jobs += [partial(concurrency.two_at_once, i, seed, reference, root) for i in range(options.pairs)]
        jobs += [partial(zoo_damage.damage_zoo, i, seed, reference, root) for i in range(options.zoo)]
    elif options.pairs or options.zoo:
        not_run["pairs and zoo tables"] = "jain2024 is not among the programs"
    return jobs


def _states(options: argparse.Namespace, pool: Pool, references: list[Reference], root: Path) -> list[Job]:
    """Damaged files of interrupted results, of every program that leaves one."""
    if not options.states:
        return []
    arguments = [
        (r, root / f"unfinished.{r.program.name}.{i}", options.seed + i)
        for r in references
        for i in range(3 if r.program.name in COMMANDS else 1)
    ]
    folders = pool.starmap(programs.leave_unfinished, arguments, chunksize=1)
    cases = [
        (r, case, source)
        for (r, source, _), folder in zip(arguments, folders, strict=True)
        for case in damage.cases_of_states(folder)
    ]
    return [
        partial(damage.damage_state, i, options.seed, r, root, case, source)
        for i, (r, case, source) in enumerate(_some(cases, options.states, options.seed))
    ]


def _some(cases: list[T], n: int, seed: int) -> list[T]:
    return random.Random(seed).sample(cases, min(len(cases), n))


def _trainings(options: argparse.Namespace, pool: Pool, root: Path) -> list[Job]:
    """Trials of every way to train, after an uninterrupted training of each."""
    jobs: list[Job] = []
    for training in trainings.TRAININGS if options.trainings else ():
        reference = root / f"reference.{training.name}"
        reference.mkdir()
        result = pool.apply(trainings.train_once, (reference, training))
        if result.status:
            raise RuntimeError(f"an uninterrupted training ({training.name}) fails: {result.stderr[-300:]}")
        jobs += [
            partial(trainings.kill_training, i, options.seed, training, reference, root)
            for i in range(options.trainings)
        ]
    return jobs
