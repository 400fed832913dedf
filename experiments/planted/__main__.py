"""Command line of the benchmark on planted mechanisms: prints and writes its tables."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: networks are small, and run side by side

import argparse
import multiprocessing
from pathlib import Path

import pandas as pd

from experiments.planted.methods import score_network
from makebreak.errors import InvalidInput
from makebreak.model_organisms import confusion, is_right, method_rows, summarise
from makebreak.output_folders import check_output_folder
from makebreak.output_record import OutputOwner, check_output_files, record_output
from makebreak.progress import ProgressBar
from makebreak.store import write_atomic

_FILES = ("networks.csv", "confusion.csv", "methods.csv", "requests.csv")
_OWNER = OutputOwner("benchmark on planted mechanisms", files=_FILES)


def main() -> None:
    """Plants the networks that the command line asks for, and applies every method to each."""
    parser = argparse.ArgumentParser(prog="python -m experiments.planted", description=__doc__)
    parser.add_argument("--n", type=int, default=360, help="number of networks, half of each architecture")
    parser.add_argument(
        "--seed", type=int, default=10_000, help="seed of the first network; the next has one more"
    )
    parser.add_argument("--workers", type=int, default=2, help="number of processes")
    parser.add_argument("--out", type=Path, default=Path("runs/planted"), help="folder of the tables")
    options = parser.parse_args()
    try:
        check_output_folder(options.out)
        check_output_files(options.out, _OWNER)
    except InvalidInput as error:
        parser.error(str(error))
    jobs, rows = [(index, options.seed) for index in range(options.n)], []
    with (
        multiprocessing.get_context("spawn").Pool(options.workers) as pool,
        ProgressBar("networks", len(jobs), leave=True) as bar,
    ):
        for scores in pool.imap(score_network, jobs):
            rows += scores
            bar.update()
    with record_output(options.out, _OWNER):
        write_tables(pd.DataFrame(rows), options.out)


def write_tables(rows: pd.DataFrame, folder: Path) -> None:
    """Prints and writes the tables of the benchmark.

    Args:
        rows: Rows of `makebreak.model_organisms.score`, of every method.
        folder: Folder of the tables.
    """
    verdicts = rows[rows.method == "verdict"]
    matrix, methods = confusion(verdicts), pd.DataFrame(method_rows(rows))
    requests = verdicts.groupby("truth").request_accuracy.agg(["mean", "min", "count"])
    write_atomic(folder / "networks.csv", rows.to_csv(index=False))
    write_atomic(folder / "confusion.csv", matrix.to_csv())
    write_atomic(folder / "methods.csv", methods.to_csv(index=False))
    write_atomic(folder / "requests.csv", requests.to_csv())
    print(matrix.to_string(), methods.round(3).to_string(index=False), summarise(verdicts), sep="\n\n")
    print("\nsingle requests named rightly, by truth", requests.round(3).to_string(), sep="\n")
    for row in verdicts[~is_right(verdicts)].itertuples():
        print(f"seed {row.seed}, {row.architecture}: {row.truth}, {row.variant} ({row.parts}): {row.reason}")


if __name__ == "__main__":
    main()
