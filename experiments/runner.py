"""Runs a study within a time budget, carried from machine to machine by a portable folder."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from experiments.outputs import Run, code_digest, format_paths, write_results
from makebreak import sweeps
from makebreak.budget import OutOfTime, limit_time
from makebreak.output_folders import name_option
from makebreak.portable import MIB, Selection, SizeLimits, pack, unpack
from makebreak.recipes import Engine, build_all
from makebreak.store import RECORD_FILE, DryRun, NotCached, Store, dry_run
from makebreak.studies import Request, missing_tasks

if TYPE_CHECKING:
    from makebreak.studies import Results

_TRAININGS = ("pretraining", "alignment")  # stages of `makebreak.recipes.build`


@dataclass(frozen=True)
class RunSettings:
    """How a study is run; nothing here changes its results."""

    launcher: Literal["none", "local", "slurm"]
    """Where models are made."""
    workers: int
    """Number of processes or jobs at a time."""
    budget: float | None = None
    """Seconds within which results are computed; None for no limit."""
    portable: Path | None = None
    """Folder that carries the unfinished part of the store; None for none."""
    limits: SizeLimits = field(default_factory=SizeLimits)
    """Largest sizes of that folder."""


def run_study(run: Run, settings: RunSettings) -> bool:
    """Computes what the store lacks and writes all results, or stops at the end of the time budget.

    Tables, claims and report are written from complete results only.

    Args:
        run: What is run.
        settings: How it is run.

    Returns:
        Whether the study is complete.

    Raises:
        PortableFolderError: If the portable folder is damaged or foreign, or its limits cannot be kept.
        Exception: What a computation raises, or KeyboardInterrupt; the portable folder has been written then.
    """
    started = time.monotonic()
    code_digest()  # of the code that computes, which may have changed on disk by the end
    store = Store(run.store)
    with ExitStack() as stack:
        if settings.budget is not None:
            stack.enter_context(limit_time(settings.budget))
        if settings.portable is not None:
            stack.enter_context(_interrupt_on_sigterm())
            with name_option("--portable", settings.portable):
                unpack(settings.portable, run.store, _owner(run))
        n_before = _count_results(run.store)
        try:
            with name_option("--store", run.store):
                results = _compute(run, settings, store)
        except OutOfTime:
            results = None
        except (KeyboardInterrupt, Exception):
            _pack(run, settings, _dry_runs(run))
            raise
    if results is None:
        dry_runs = _dry_runs(run)
        n_left = sum(result.missing is not None for result in dry_runs)
        n_results, seconds = _count_results(run.store) - n_before, time.monotonic() - started
        remedy = "run the same command again" if n_results else "run again with a longer --budget"
        print(
            f"unfinished: {n_results} results were computed in {seconds:.0f} s, {n_left} of {len(dry_runs)} "
            f"cells are left; {remedy} to go on",
            flush=True,
        )
        _pack(run, settings, dry_runs)
        return False
    with name_option("--out", run.out):
        write_results(run, results)
    if settings.portable is not None:
        _pack(run, settings, [DryRun(tuple(dict.fromkeys(store.opened)), None, ())])
    print(format_paths(run.out, time.monotonic() - started))
    return True


def _compute(run: Run, settings: RunSettings, store: Store) -> Results:
    """Results of the study; what the store lacks is computed, in other processes if a launcher says so."""
    _check_gates(run, store)
    with suppress(NotCached):
        return run.collect(Store(run.store, read_only=True, opened=store.opened))
    if Engine.default().name == "stacked":
        build_all(run.trainings(), store)
    if settings.launcher != "none":
        model = run.preset.model if run.study.with_model else None
        request = Request(run.module, run.preset.name, run.world, run.seeds, model)
        for wave in missing_tasks(request, run.store, settings.workers):
            if wave:
                sweeps.run_tasks(
                    wave,
                    launcher=settings.launcher,
                    workers=settings.workers,
                    folder=run.store / "jobs",
                )
    return run.collect(store)


def _check_gates(run: Run, store: Store) -> None:
    for gate in run.study.gates:
        gate(run.preset, run.world, store)


def _dry_runs(run: Run) -> list[DryRun]:
    """For every cell of the study, what the store has and what it lacks first."""
    return [dry_run(run.store, cell.compute) for cell in run.cells()]


def select_results(dry_runs: list[DryRun]) -> Selection:
    """What a run elsewhere needs from a store.

    Args:
        dry_runs: For every cell, what the store has and what it lacks first.

    Returns:
        All results of the cells; final weights of those that an unfinished cell opens; the kept steps of the
        models that it measures; what it has begun.
    """
    results = dict.fromkeys(folder for cell in dry_runs for folder in cell.opened)
    weights: set[Path] = set()
    steps: set[Path] = set()
    unfinished: dict[Path, None] = {}
    for cell in dry_runs:
        if cell.missing is None:
            continue
        weights |= {*cell.opened, *cell.parents}
        if cell.parents and cell.missing.parent.name not in _TRAININGS:
            steps |= {*cell.parents}
        partial_folder = cell.missing.with_suffix(".partial")
        if partial_folder.is_dir() and not partial_folder.is_symlink():
            unfinished[partial_folder] = None
    return Selection(list(results), frozenset(weights), frozenset(steps), list(unfinished))


def _pack(run: Run, settings: RunSettings, dry_runs: list[DryRun]) -> None:
    """Writes the portable folder, if there is one, and says how large it is."""
    if settings.portable is None:
        return
    gate = dry_run(run.store, partial(_check_gates, run))
    selection = select_results([*dry_runs, gate._replace(missing=None)])
    with name_option("--portable", settings.portable):
        packing = pack(run.store, settings.portable, selection, _owner(run), settings.limits)
    for folder in packing.left_out:
        print(
            f"left out of {settings.portable}: the checkpoint of {folder.parent.name}/{folder.stem}, which "
            f"begins again elsewhere, since all files may take {settings.limits.total / MIB:.0f} MiB"
        )
    size = f"{packing.size / MIB:.1f} MiB, {len(selection.results)} results"
    print(
        f"portable: {settings.portable} ({size}, {len(selection.weights)} of them still needed)", flush=True
    )


def _owner(run: Run) -> dict[str, object]:
    """What a portable folder belongs to."""
    names: dict[str, object] = {"study": run.name, "preset": run.preset.name, "world": run.world}
    return names | {"seeds": list(run.seeds), "engine": str(Engine.default())}


def _count_results(store: Path) -> int:
    return sum(1 for _ in store.glob(f"*/*/{RECORD_FILE}"))


@contextmanager
def _interrupt_on_sigterm() -> Iterator[None]:
    """A context in which SIGTERM interrupts as Ctrl-C does, so that the portable folder is still written."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
