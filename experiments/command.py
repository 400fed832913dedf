"""Command line of the studies: trains, measures, evaluates claims and writes the report.

Bad input ends with one line on stderr and status 2; a run that its time budget ended, with status 3.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from makebreak import settings
from makebreak.cli import debug_requested, parse_arguments, run_command
from makebreak.optional_packages import import_optional
from makebreak.output_folders import check_output_folder, check_store_folder
from makebreak.output_record import check_output_files
from makebreak.store import create_folders

if TYPE_CHECKING:
    from experiments.outputs import Run
    from experiments.runner import RunSettings
    from makebreak.studies import Study

DEFAULT_STORE = Path(settings.store)
"""Folder of the models unless another one is given."""
STUDIES = ("jain2024", "peng2024", "jan2024", "eiras2024", "fragility", "real", "speed")
"""Names of the studies."""
UNFINISHED = 3
"""Exit status of a run that its time budget ended."""
_PAPER_PRESETS = ("paper", "paper-block")
"""Presets of the papers' sizes, which begin with an estimate unless a budget bounds the run."""
_SERIAL_PRESETS = ("smoke", *_PAPER_PRESETS)
"""Presets that are run in one process by default: too little to do, or meant for one accelerator."""


@dataclass(frozen=True)
class Command:
    """Run a study: train missing models, measure them, evaluate claims and write the report.

    What is already in the store is not computed again; an interrupted run continues where it was.
    """

    study: Annotated[str, tyro.conf.Positional]
    """Study: jain2024 (activations and weights of aligned models), peng2024 (safety landscapes of these
    models), jan2024 (fine-tuning on benign tasks in several formats), eiras2024 (restructured benign data and
    mitigations), fragility (which measures predict that safety breaks), real (the same measures on a language
    model), or speed (run times relative to plain implementations); or a module of your own that has a study
    as STUDY, by a name with a dot."""
    preset: str = "mini"
    """Size: smoke (seconds), mini (minutes, 3 seeds), small (an hour, 5 seeds), all (small, and every
    training ablation), paper (sizes of the papers; needs an accelerator). jain2024 also has paper-block (with
    the block of Jain et al.), dose (a grid of learning rates and lengths) and rung-even, rung-mixture,
    rung-schedule, rung-depth, rung-width, rung-world (from mini towards the paper)."""
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
    """Only print how long training would take on this machine, and how much memory; the presets paper and
    paper-block start with that, unless there is a budget."""
    launcher: Literal["none", "local", "slurm"] | None = None
    """How models are trained: one by one in this process (none), in several processes on this machine
    (local), or as Slurm jobs (slurm). By default local, and none at the presets smoke and paper."""
    workers: int = os.cpu_count() or 1
    """Number of single-threaded processes or jobs at a time, for the launchers local and slurm."""
    budget: float | None = None
    """Seconds in which results are computed: no training or measurement begins that is not expected to fit,
    judging by earlier ones of its kind, and a training stops at a checkpoint. One line says what is left, the
    status is 3, no report is written, and the same command goes on. The first one begins, while time is left,
    however long it takes. Writing the report, or the portable folder, comes on top. Slurm jobs are cancelled
    a minute after the end."""
    portable: Path | None = None
    """Folder that carries an unfinished run to another machine: read at the start, written at the end, also
    of an interrupted run (Ctrl-C or SIGTERM). It holds all rows, the models that something still needs, and
    checkpoints of unfinished trainings. Not for the study real, whose weights are too large."""
    portable_mib: int = 64
    """Largest size of the portable folder, in MiB."""
    portable_file_mib: int = 16
    """Largest size of one of its files, in MiB."""
    engine: str | None = None
    """What trains models, and where, as ENGINE:DEVICE: single:cpu (one at a time), stacked:cuda (all that fit
    together in one step), single:cuda or stacked:cpu. It is part of the key of every model. By default
    stacked:cuda with a CUDA device, else single:cpu; the environment variable MAKEBREAK_ENGINE sets another
    default."""
    debug: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show the Python traceback of an error; the environment variable MAKEBREAK_DEBUG=1 does the same."""


def main(arguments: Sequence[str]) -> int:
    """Runs the command line.

    Args:
        arguments: Arguments without the program's name.

    Returns:
        Exit status: 0 done, 2 bad input or an error with a known cause, 3 unfinished at the end of the time
        budget, 130 interrupted, 143 terminated.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    complete = True

    def work() -> None:
        nonlocal complete
        complete = _run(parse_arguments(Command, arguments, "python -m experiments"))

    status = run_command(work, debug=debug_requested(arguments), sizes="--preset, or fewer --workers")
    return status or (0 if complete else UNFINISHED)


def _run(command: Command) -> bool:
    """Runs a command; False if its time budget ended before the study was complete."""
    started = time.monotonic()
    if not _is_module(command.study):
        _check_name("study", command.study, STUDIES)
    if command.study == "speed":
        _run_speed(command.out or Path("runs/speed"))
        return True
    check_store_folder(command.store)
    if _is_unchanged(command, started):
        return True
    run = _resolve(command)
    check_output_folder(run.out)
    check_output_files(run.out, run.owner())
    settings = _run_settings(command)
    helpers = import_optional("submitit.helpers", "running a study")
    from makebreak.recipes import ENGINE_VARIABLE

    with helpers.environment_variables(**{ENGINE_VARIABLE: _engine(command)}):  # jobs inherit it
        if _print_plan(run, command):
            return True
        from experiments.runner import run_study

        with create_folders(run.out, run.store):
            return run_study(run, settings)


def _engine(command: Command) -> str:
    """The engine of a command; ValueError for one that does not exist, or a device that is not there."""
    import torch

    from makebreak.recipes import ENGINE_VARIABLE, Engine

    has_cuda = torch.cuda.is_available()
    default = os.environ.get(ENGINE_VARIABLE) or ("stacked:cuda" if has_cuda else str(Engine()))
    engine = Engine.from_name(command.engine or default)
    if engine.device == "cuda" and not has_cuda:
        raise ValueError(f"engine {str(engine)!r}: this machine has no CUDA device; choose one with cpu")
    return str(engine)


def _is_unchanged(command: Command, start: float) -> bool:
    """Whether an earlier run has written all that this one would; prints its claims then.

    Nothing heavy is imported for it.
    """
    from experiments.outputs import format_paths, print_unchanged

    if command.estimate or command.portable or _is_module(command.study):
        return False  # the digest of the code leaves out modules of others
    folder = Path("runs") / command.study
    default = [folder / f"{command.preset}-{command.world}", folder / command.preset]
    for out in [command.out] if command.out else default:
        if os.path.isdir(out) and print_unchanged(out, _request(command), command.store):
            print(format_paths(out, time.monotonic() - start))
            return True
    return False


def _request(command: Command) -> dict[str, Any]:
    """What decides the results of a command, as it was given."""
    seeds = None if command.seeds is None else list(command.seeds)
    names = {name: getattr(command, name) for name in ("study", "preset", "world", "model")}
    return names | {"seeds": seeds, "engine": command.engine or os.environ.get("MAKEBREAK_ENGINE")}


def _run_settings(command: Command) -> RunSettings:
    """How a study is run; ValueError if that is impossible."""
    from experiments.runner import RunSettings
    from makebreak.portable import MIB, SizeLimits

    launcher = command.launcher or ("none" if command.preset in _SERIAL_PRESETS else "local")
    if command.budget is not None and not command.budget > 0:
        raise ValueError(f"budget = {command.budget}: expected a positive number of seconds")
    if command.portable is not None:
        if _engine(command).startswith("stacked"):
            raise ValueError(
                "--portable carries single trainings, not stacks of many: choose --engine single:cpu or "
                "single:cuda"
            )
        if command.study == "real":
            raise ValueError(
                "--portable is for studies that train small models; the weights of a language model do not "
                "fit into its limits"
            )
        check_output_folder(command.portable, "--portable")
    limits = SizeLimits(command.portable_mib * MIB, command.portable_file_mib * MIB)
    return RunSettings(launcher, command.workers, command.budget, command.portable, limits)


def _run_speed(out: Path) -> None:
    """Runs the study speed, whose throughput is that of jain2024."""
    check_output_folder(out)
    measures = importlib.import_module("experiments.jain2024.measures")
    speed = importlib.import_module("experiments.speed")
    check_output_files(out, speed.OWNER)
    speed.run(out, measures.final_measures, measures.checkpoint_measures)


def _resolve(command: Command) -> Run:
    """The command's study, preset, world, seeds and folder; ValueError if one is unknown or does not fit."""
    from experiments.outputs import Run

    module = command.study if _is_module(command.study) else f"experiments.{command.study}"
    study = _load_study(module)
    _check_name("preset", command.preset, list(study.presets))
    preset = study.presets[command.preset]
    if command.model is not None:
        if study.with_model is None:
            raise ValueError(
                f"--model {command.model} is an option of the study real: {command.study} trains its own "
                "models"
            )
        preset = study.with_model(preset, command.model)
    world = command.world or preset.worlds[0]
    _check_world(world, preset)
    seeds = preset.seeds if command.seeds is None else command.seeds
    _check_seeds(seeds)
    folder = preset.name if world == preset.worlds[0] else f"{preset.name}-{world}"
    out = command.out or Path("runs") / command.study / folder
    request = _request(command)
    return Run(command.study, module, study, preset, world, seeds, command.store, out, request)


def _is_module(study: str) -> bool:
    """Whether a study is given as a module, by a name with a dot."""
    return "." in study and all(part.isidentifier() for part in study.split("."))


def _load_study(module: str) -> Study:
    """The study of a module; ValueError if there is no such module."""
    from makebreak.studies import load_study

    try:
        return load_study(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # an import within the module
        raise ValueError(
            f"study {module!r}: there is no module {error.name!r}; run the command in the folder above it, "
            "or put that folder on PYTHONPATH"
        ) from None


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
    from makebreak.model_zoo import FIRST_TUNING_SEED

    if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise ValueError(f"seeds {seeds}: expected distinct numbers from 0 on")
    if max(seeds) >= FIRST_TUNING_SEED:
        raise ValueError(
            f"seeds {seeds}: those from {FIRST_TUNING_SEED} on are for tuning and never reported; use "
            "smaller ones"
        )


def _print_plan(run: Run, command: Command) -> bool:
    """Prints what is trained, and the estimate if wanted; True if that is all that the command does."""
    from experiments.outputs import describe_plan

    preset = run.preset
    if command.estimate and command.study == "real":
        raise ValueError(
            "--estimate is for studies that pretrain their models; real prints the time of its steps as it "
            "runs"
        )
    recipes = run.trainings()
    print(describe_plan(run.name, preset.name, run.world, run.seeds, len(recipes)), flush=True)
    starts_with_estimate = preset.name in _PAPER_PRESETS and command.budget is None
    if command.estimate or starts_with_estimate:
        from experiments.estimate import estimate

        print(estimate(recipes, run.world), flush=True)
    return command.estimate
