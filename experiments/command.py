"""How is a study run from the command line? One clear line and status 2 for bad input, never a traceback."""

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
from typing import Annotated, Any, Literal

import tyro

from makebreak.cli import debug_requested, guarded, parse

DEFAULT_STORE = Path("runs/store")


@dataclass(frozen=True)
class Command:
    """Run a study: build what is missing, measure, judge its claims, write tables, figures and a report.

    What is already in the store is not computed again; an interrupted run goes on where it was.
    """

    study: Annotated[str, tyro.conf.Positional]
    """Which study: jain2024, peng2024 (landscapes of its models), jan2024 (tuned tasks × formats of harm),
    eiras2024 (restructured data and mitigations), real (what carries over to a language model), or speed (ratios to
    the naive way)."""
    preset: str = "mini"
    """Size: smoke (seconds), mini (minutes, 3 seeds), small (an hour, 5 seeds), all (also every factor), paper (an
    accelerator)."""
    world: str | None = None
    """World, where the preset offers several."""
    model: str | None = None
    """Of real, the language model: a folder, a .gguf file or a hub id; SmolLM2-135M-Instruct by default."""
    seeds: tuple[int, ...] | None = None
    """Pretraining seeds, of real alignment seeds; the preset's own by default. Seeds from 1000 on are for tuning and
    never reported."""
    out: Path | None = None
    """Folder of the results; by default runs/STUDY/PRESET, or PRESET-WORLD for a world that is not the first."""
    store: Path = DEFAULT_STORE
    """Folder of the models, shared by all studies."""
    estimate: bool = False
    """Only say how long training would take here, and how much memory; `paper` always begins with that."""
    launcher: Literal["none", "local", "slurm"] | None = None
    """Make models one by one in this process, in many on this machine, or as jobs of Slurm. By default local; none at
    smoke, which has too little to do, and at paper, which is for one accelerator."""
    workers: int = os.cpu_count() or 1
    """Processes at once, of one thread each, where there are many."""
    debug: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show the Python traceback of an error; the environment variable MAKEBREAK_DEBUG=1 does the same."""


def main(arguments: Sequence[str]) -> int:
    """Exit status: 0 done, 2 bad input or a failure that is named, 130 interrupted."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    return guarded(
        lambda: _run(parse(Command, arguments, "python -m experiments")), debug=debug_requested(arguments)
    )


def _run(command: Command) -> None:
    from makebreak.configs import nearest

    studies = ["jain2024", "peng2024", "jan2024", "eiras2024", "real", "speed"]
    if command.study not in studies:
        raise ValueError(f"study {command.study!r} does not exist; {nearest(command.study, studies)}")
    if command.study == "speed":
        from experiments import speed

        out = command.out or Path("runs/speed")
        _check_writable(out)
        speed.run(out)
        return
    from experiments.estimate import estimate
    from makebreak.artifacts import Store, record, remove_torn_files, write_json
    from makebreak.claims import format_claims
    from makebreak.report import write_tables
    from makebreak.zoo import FIRST_TUNING_SEED

    study = importlib.import_module(f"experiments.{command.study}")
    presets = study.PRESETS
    if command.preset not in presets:
        raise ValueError(
            f"preset {command.preset!r} does not exist; {nearest(command.preset, list(presets))}"
        )
    preset = presets[command.preset]
    if command.model is not None:
        if command.study != "real":
            raise ValueError(f"--model is of real: {command.study} makes its own models")
        preset = replace(preset, model=command.model)
    world = command.world or preset.worlds[0]
    if world not in preset.worlds:
        raise ValueError(
            f"world {world!r} is not one of preset {preset.name!r}; {nearest(world, list(preset.worlds))}"
        )
    seeds = preset.seeds if command.seeds is None else command.seeds
    if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise ValueError(f"seeds {seeds}: expected distinct numbers from 0 on")
    if max(seeds) >= FIRST_TUNING_SEED:
        raise ValueError(
            f"seeds {seeds}: those from {FIRST_TUNING_SEED} on are for tuning and never reported"
        )
    own = preset.name if world == preset.worlds[0] else f"{preset.name}-{world}"
    out = command.out or Path("runs") / command.study / own
    for folder in (out, command.store):  # both, before either is made
        _check_writable(folder)
    for folder in (out, command.store):
        folder.mkdir(parents=True, exist_ok=True)

    recipes = study.trainings(preset, world, seeds)
    print(
        f"{command.study} at {preset.name}, world {world}, seeds {' '.join(map(str, seeds))}: {len(recipes)} models",
        flush=True,
    )
    if command.estimate and command.study == "real":
        raise ValueError("--estimate is of studies that pretrain; real tells its steps as it goes")
    if command.estimate or preset.name == "paper":
        print(estimate(recipes, world), flush=True)
        if command.estimate:
            return
    started = time.monotonic()
    study.check_gates(preset, world, Store(command.store))
    launcher = command.launcher or ("none" if preset.name in ("smoke", "paper") else "local")
    if launcher != "none":
        from makebreak import sweeps

        waves = study.tasks(preset, world, seeds, command.store, workers=command.workers)
        for wave in filter(None, waves):
            sweeps.run_tasks(wave, launcher=launcher, workers=command.workers, folder=command.store / "jobs")
    results = study.run(preset, world, seeds, Store(command.store))
    remove_torn_files(out)
    write_tables(results.tables, out / "tables")
    write_json(out / "claims.json", results.claims)
    report = study.write_report(results, preset, world, out)
    stages = [{"folder": f"{f.parent.name}/{f.name}"} | record(f)["cost"] for f in results.folders]
    write_json(out / "provenance.json", _provenance(command, preset, world, seeds) | {"stages": stages})
    print(format_claims(results.claims))
    print(f"report: {report}   claims: {out / 'claims.json'}   ({time.monotonic() - started:.0f} s)")


def _check_writable(folder: Path) -> None:
    """Raises ValueError where the folder, or the nearest one above it, cannot be written; makes nothing."""
    try:
        there = folder if folder.is_dir() else next(p for p in folder.absolute().parents if p.exists())
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        probe = there / f".writable.{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(
            f"{folder} cannot be written ({error.strerror}): choose another --out or --store"
        ) from None


def _provenance(command: Command, preset: Any, world: str, seeds: tuple[int, ...]) -> dict[str, Any]:
    import torch

    import makebreak
    from makebreak.configs import to_json

    names = ("torch", "transformers", "numpy", "scipy", "scikit-learn", "seaborn")
    return {
        "study": command.study,
        "preset": to_json(preset),
        "world": world,
        "seeds": list(seeds),
        "versions": {"makebreak": makebreak.__version__, "python": platform.python_version()}
        | {name: metadata.version(name) for name in names},
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "commit": _commit(),
    }


def _commit() -> str | None:
    """The commit of this code, `-dirty` where it was changed; None without git or outside a clone."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--dirty"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return found.stdout.strip() or None
