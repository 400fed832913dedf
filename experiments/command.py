"""Command line of the studies: trains, measures, evaluates claims and writes the report.

Bad input ends with one line on stderr and status 2.
"""

from __future__ import annotations

import errno
import importlib
import os
import platform
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import tyro

from makebreak.cli import debug_requested, parse_arguments, run_command

if TYPE_CHECKING:
    from experiments.results import Results
    from experiments.study import Study

DEFAULT_STORE = Path("runs/store")
"""Folder of the models unless another one is given."""
STUDIES = ("jain2024", "peng2024", "jan2024", "eiras2024", "real", "speed")
"""Names of the studies."""
_SERIAL_PRESETS = ("smoke", "paper")
"""Presets that are run in one process by default: too little to do, or meant for one accelerator."""


@dataclass(frozen=True)
class Command:
    """Run a study: train missing models, measure them, evaluate claims and write the report.

    What is already in the store is not computed again; an interrupted run continues where it was.
    """

    study: Annotated[str, tyro.conf.Positional]
    """Study: jain2024 (activations and weights of aligned models), peng2024 (safety landscapes of these
    models), jan2024 (fine-tuning on benign tasks in several formats), eiras2024 (restructured benign data and
    mitigations), real (the same measures on a language model), or speed (run times relative to plain
    implementations)."""
    preset: str = "mini"
    """Size: smoke (seconds), mini (minutes, 3 seeds), small (an hour, 5 seeds), all (small, and every
    training ablation), paper (sizes of the papers; needs an accelerator)."""
    world: str | None = None
    """Synthetic world, where the preset offers several; by default its first."""
    model: str | None = None
    """Language model of the study real: a folder, a .gguf file or a hub id; SmolLM2-135M-Instruct by
    default."""
    seeds: tuple[int, ...] | None = None
    """Pretraining seeds (of the study real: alignment seeds); the preset's own by default. Seeds from 1000 on
    are reserved for tuning hyperparameters."""
    out: Path | None = None
    """Folder of the results; by default runs/STUDY/PRESET, or runs/STUDY/PRESET-WORLD for a world that is not
    the first."""
    store: Path = DEFAULT_STORE
    """Folder of trained models and measurements, shared by all studies."""
    estimate: bool = False
    """Only print how long training would take on this machine, and how much memory; the preset paper always
    starts with that."""
    launcher: Literal["none", "local", "slurm"] | None = None
    """How models are trained: one by one in this process (none), in several processes on this machine
    (local), or as Slurm jobs (slurm). By default local, and none at the presets smoke and paper."""
    workers: int = os.cpu_count() or 1
    """Number of single-threaded processes or jobs at a time, for the launchers local and slurm."""
    debug: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show the Python traceback of an error; the environment variable MAKEBREAK_DEBUG=1 does the same."""


@dataclass(frozen=True)
class _Run:
    """A command whose names have been resolved and checked."""

    command: Command
    study: Study
    preset: Any
    world: str
    seeds: tuple[int, ...]
    out: Path


def main(arguments: Sequence[str]) -> int:
    """Runs the command line.

    Args:
        arguments: Arguments without the program's name.

    Returns:
        Exit status: 0 done, 2 bad input or an error with a known cause, 130 interrupted.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    return run_command(
        lambda: _run(parse_arguments(Command, arguments, "python -m experiments")),
        debug=debug_requested(arguments),
    )


def _run(command: Command) -> None:
    _check_name("study", command.study, STUDIES)
    if command.study == "speed":
        _run_speed(command.out or Path("runs/speed"))
        return
    run = _resolve(command)
    if _print_plan(run):
        return
    _run_study(run)


def _run_speed(out: Path) -> None:
    """Runs the study speed, whose throughput is that of jain2024."""
    _check_writable(out)
    measures = importlib.import_module("experiments.jain2024.measures")
    speed = importlib.import_module("experiments.speed")
    speed.run(out, measures.final_measures, measures.checkpoint_measures)


def _resolve(command: Command) -> _Run:
    """The command's study, preset, world, seeds and folder; ValueError if one is unknown or does not fit."""
    study = cast("Study", importlib.import_module(f"experiments.{command.study}"))
    _check_name("preset", command.preset, list(study.PRESETS))
    preset = study.PRESETS[command.preset]
    if command.model is not None:
        if command.study != "real":
            raise ValueError(
                f"--model {command.model} is an option of the study real: {command.study} trains its own "
                "models"
            )
        preset = replace(preset, model=command.model)
    world = command.world or preset.worlds[0]
    _check_world(world, preset)
    seeds = preset.seeds if command.seeds is None else command.seeds
    _check_seeds(seeds)
    folder = preset.name if world == preset.worlds[0] else f"{preset.name}-{world}"
    return _Run(command, study, preset, world, seeds, command.out or Path("runs") / command.study / folder)


def _check_name(kind: str, name: str, names: Sequence[str]) -> None:
    from makebreak.configs import nearest

    if name not in names:
        raise ValueError(f"{kind} {name!r} does not exist; {nearest(name, list(names))}")


def _check_world(world: str, preset: Any) -> None:
    from makebreak.configs import nearest

    if world not in preset.worlds:
        raise ValueError(
            f"world {world!r} is not one of preset {preset.name!r}; {nearest(world, list(preset.worlds))}"
        )


def _check_seeds(seeds: tuple[int, ...]) -> None:
    from makebreak.zoo import FIRST_TUNING_SEED

    if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise ValueError(f"seeds {seeds}: expected distinct numbers from 0 on")
    if max(seeds) >= FIRST_TUNING_SEED:
        raise ValueError(
            f"seeds {seeds}: those from {FIRST_TUNING_SEED} on are for tuning and never reported; use "
            "smaller ones"
        )


def _print_plan(run: _Run) -> bool:
    """Prints what is trained, and the estimate if wanted; True if that is all that the command does."""
    command, preset = run.command, run.preset
    for folder in (run.out, command.store):  # both are checked before either is created
        _check_writable(folder)
    for folder in (run.out, command.store):
        folder.mkdir(parents=True, exist_ok=True)
    recipes = run.study.trainings(preset, run.world, run.seeds)
    seeds = " ".join(map(str, run.seeds))
    print(
        f"{command.study} at {preset.name}, world {run.world}, seeds {seeds}: {len(recipes)} models",
        flush=True,
    )
    if command.estimate and command.study == "real":
        raise ValueError(
            "--estimate is for studies that pretrain their models; real prints the time of its steps as it "
            "runs"
        )
    if command.estimate or preset.name == "paper":
        from experiments.estimate import estimate

        print(estimate(recipes, run.world), flush=True)
    return command.estimate


def _run_study(run: _Run) -> None:
    """Trains and measures, in parallel where the launcher says so, then writes everything."""
    from makebreak import sweeps
    from makebreak.store import Store

    started = time.monotonic()
    command, study, preset = run.command, run.study, run.preset
    study.check_gates(preset, run.world, Store(command.store))
    launcher = command.launcher or ("none" if preset.name in _SERIAL_PRESETS else "local")
    if launcher != "none":
        waves = study.tasks(preset, run.world, run.seeds, command.store, workers=command.workers)
        for wave in waves:
            if wave:
                jobs = command.store / "jobs"
                sweeps.run_tasks(wave, launcher=launcher, workers=command.workers, folder=jobs)
    results = study.run(preset, run.world, run.seeds, Store(command.store))
    report = _write_results(run, results)
    seconds = time.monotonic() - started
    print(f"report: {report}   claims: {run.out / 'claims.json'}   ({seconds:.0f} s)")


def _write_results(run: _Run, results: Results) -> Path:
    """Writes tables, claims, report and provenance, and prints the claims; returns the report's file."""
    from makebreak.claims import format_claims
    from makebreak.report import write_tables
    from makebreak.store import record, remove_torn_files, write_json

    remove_torn_files(run.out)
    write_tables(results.tables, run.out / "tables")
    write_json(run.out / "claims.json", results.claims)
    report = run.study.write_report(results, run.preset, run.world, run.out)
    stages = [
        {"folder": f"{folder.parent.name}/{folder.name}"} | record(folder)["cost"]
        for folder in results.folders
    ]
    write_json(run.out / "provenance.json", _provenance(run) | {"stages": stages})
    print(format_claims(results.claims))
    return report


def _check_writable(folder: Path) -> None:
    """ValueError unless the folder, or the nearest existing one above it, can be written; creates nothing."""
    try:
        parents = (parent for parent in folder.absolute().parents if parent.exists())
        existing = folder if folder.is_dir() else next(parents)
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        probe = existing / f".writable.{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(
            f"{folder} cannot be written ({error.strerror}): choose another --out or --store"
        ) from None


def _provenance(run: _Run) -> dict[str, Any]:
    """What was run, by which versions, on which kind of machine."""
    import torch

    import makebreak
    from makebreak.configs import to_json

    packages = ("torch", "transformers", "numpy", "scipy", "scikit-learn", "seaborn")
    versions = {"makebreak": makebreak.__version__, "python": platform.python_version()}
    return {
        "study": run.command.study,
        "preset": to_json(run.preset),
        "world": run.world,
        "seeds": list(run.seeds),
        "versions": versions | {name: metadata.version(name) for name in packages},
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "commit": _commit(),
    }


def _commit() -> str | None:
    """The commit of this code, with `-dirty` if files were changed; None without git or outside a clone."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--dirty"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return result.stdout.strip() or None
