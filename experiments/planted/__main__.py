"""Command line of the benchmark on planted mechanisms: prints and writes its tables."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: networks are small, and run side by side

import argparse
import multiprocessing
from pathlib import Path

import pandas as pd

from experiments.planted.benchmark import confusion, method_rows, planted_row, summarise
from makebreak.progress import ProgressBar


def main() -> None:
    """Plants the networks that the command line asks for, and applies every method to each."""
    parser = argparse.ArgumentParser(prog="python -m experiments.planted", description=__doc__)
    parser.add_argument("--n", type=int, default=324, help="number of networks, half of each architecture")
    parser.add_argument(
        "--seed", type=int, default=600, help="seed of the first network; the next has one more"
    )
    parser.add_argument("--workers", type=int, default=2, help="number of processes")
    parser.add_argument("--out", type=Path, default=Path("runs/planted"), help="folder of the tables")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    jobs, rows = [(i, options.seed + i) for i in range(options.n)], []
    with (
        multiprocessing.get_context("spawn").Pool(options.workers) as pool,
        ProgressBar("networks", len(jobs), leave=True) as bar,
    ):
        for row in pool.imap(planted_row, jobs):
            rows.append(row)
            bar.update()
    table = pd.DataFrame(rows)
    matrix, methods = confusion(table), pd.DataFrame(method_rows(table))
    table.to_csv(options.out / "networks.csv", index=False)
    matrix.to_csv(options.out / "confusion.csv")
    methods.to_csv(options.out / "methods.csv", index=False)
    print(matrix.to_string(), methods.round(3).to_string(index=False), summarise(table), sep="\n\n")
    for row in table[table.mechanism != table.truth].itertuples():
        print(f"seed {row.seed}, {row.architecture}: {row.truth} ({row.variants}): {row.reason}")


if __name__ == "__main__":
    main()
