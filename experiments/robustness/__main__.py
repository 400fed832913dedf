"""Command line of the robustness trials: runs them, prints and writes their counts; status 1 if any fails."""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy and torch
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["TQDM_DISABLE"] = "1"  # as the command line does where standard error is no terminal

import argparse
import importlib
import multiprocessing
import shutil
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from transformers.utils import logging

from experiments.robustness import campaign, report
from experiments.robustness.programs import STUDIES
from experiments.robustness.trials import TrialRow
from makebreak.errors import InvalidInput
from makebreak.output_folders import check_output_folder
from makebreak.output_record import check_output_files
from makebreak.progress import ProgressBar

# what the programs import when they run; imported now, and not in every trial
_IMPORTS = (
    *("makebreak.lm", "makebreak.report", "makebreak.plots", "makebreak.model_zoo", "makebreak.studies"),
    *("transformers.models.llama.modeling_llama", "transformers.models.gpt2.modeling_gpt2"),
    *(
        "transformers.models.qwen2.modeling_qwen2",
        "gguf",
        "peft",
        "sklearn.linear_model",
        "experiments.runner",
    ),
    *(f"experiments.{study}" for study in STUDIES),
)


def main() -> int:
    """Runs the trials that the command line asks for.

    Returns:
        Exit status: 0 if all pass, 1 if any fails.
    """
    parser = argparse.ArgumentParser(prog="python -m experiments.robustness", description=__doc__)
    for name, default, description in campaign.NUMBERS:
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=description)
    parser.add_argument("--seed", type=int, default=0, help="seed of all random choices")
    parser.add_argument("--workers", type=int, default=2, help="number of trials at once")
    parser.add_argument(
        "--programs",
        nargs="+",
        choices=campaign.PROGRAMS,
        default=campaign.PROGRAMS,
        metavar="NAME",
        help=f"studies and commands that are killed and damaged: {', '.join(campaign.PROGRAMS)} (all)",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/robustness"), help="folder of the tables")
    options = parser.parse_args()
    try:
        check_output_folder(options.out)
        check_output_files(options.out, report.OWNER)
    except InvalidInput as error:
        parser.error(str(error))
    logging.disable_progress_bar()
    for module in _IMPORTS:
        importlib.import_module(module)
    root, started = Path(tempfile.mkdtemp(prefix="robustness.")), time.monotonic()
    with multiprocessing.get_context("fork").Pool(options.workers) as pool:
        jobs, not_run = campaign.plan(options, pool, root)
        rows = []
        with ProgressBar("trials", len(jobs), leave=True) as bar:
            for row in pool.imap_unordered(_run_trial, jobs):
                bar.update()
                rows.append(row)
                if row.problems:
                    print(report.failure_text(row, options.seed), flush=True)
    report.write(rows, options.out, options.seed, not_run)
    failed = [row for row in rows if row.problems]
    outcome = f"{len(failed)} failed, kept in {root}" if failed else "all passed"
    print(f"{time.monotonic() - started:.0f} s; {outcome}")
    if not failed:
        shutil.rmtree(root)
    return 1 if failed else 0


def _run_trial(job: partial[TrialRow]) -> TrialRow:
    """The row of a trial, also if the trial itself raises."""
    try:
        return job()
    except Exception as error:
        problem = f"the trial failed: {type(error).__name__}: {error}"
        return TrialRow(job.func.__name__, -1, str(job.args)[:200], [problem])


if __name__ == "__main__":
    sys.exit(main())
