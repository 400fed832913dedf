"""Speed of the package relative to straightforward implementations, measured in one run on one core.

All numbers are ratios, except for two tables that say what a model and a landscape cost on this machine.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch

from experiments.recipes.composition import PRESETS
from experiments.speed.activations import capture_rows, memory_row
from experiments.speed.attacks import attack_rows
from experiments.speed.landscapes import landscape_rows, map_row
from experiments.speed.language_models import language_model_rows
from experiments.speed.training import (
    Measures,
    generation_rows,
    stacked_rows,
    throughput_row,
    training_rows,
)
from makebreak.output_folders import TABLES
from makebreak.output_record import OutputOwner, record_output
from makebreak.report import write_tables

OWNER = OutputOwner("study speed", files=())
"""Whose results are in the folder of the results."""


def run(out: Path, final_measures: Measures, checkpoint_measures: Measures) -> None:
    """Measures all ratios, prints them and writes them to `out`/tables.

    Args:
        out: Folder of the results.
        final_measures: Measures that the study whose throughput is timed takes of a finished model.
        checkpoint_measures: Measures that it takes of the checkpoints before.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        ratios = [*generation_rows(), *training_rows(), *language_model_rows(), *capture_rows(), memory_row()]
        ratios += [*stacked_rows(), *attack_rows(), *landscape_rows()]
        throughput = throughput_row(PRESETS["mini"], "mini", "ssft", final_measures, checkpoint_measures)
        tables = {
            "speed": pd.DataFrame(ratios),
            "throughput": pd.DataFrame([throughput]),
            "maps": pd.DataFrame([map_row()]),
        }
    finally:
        torch.set_num_threads(threads)
    with record_output(out, OWNER):
        write_tables(tables, out / TABLES)
    for table in tables.values():
        print(table.to_string(index=False, float_format=lambda x: f"{x:.3g}"))
