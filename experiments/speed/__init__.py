"""Speed of the package relative to straightforward implementations, measured in one run on one core.

All numbers are ratios, except for two tables that say what a model and a landscape cost on this machine.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch

from experiments.jain2024.presets import PRESETS
from experiments.speed.activations import capture_rows, memory_row
from experiments.speed.attacks import attack_rows
from experiments.speed.landscapes import landscape_rows, map_row
from experiments.speed.language_models import language_model_rows
from experiments.speed.training import generation_rows, throughput_row, training_rows
from makebreak.report import write_tables


def run(out: Path) -> None:
    """Measures all ratios, prints them and writes them to `out`/tables."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        ratios = [*generation_rows(), *training_rows(), *language_model_rows(), *capture_rows(), memory_row()]
        ratios += [*attack_rows(), *landscape_rows()]
        tables = {
            "speed": pd.DataFrame(ratios),
            "throughput": pd.DataFrame([throughput_row(PRESETS["mini"], "mini", "ssft")]),
            "maps": pd.DataFrame([map_row()]),
        }
    finally:
        torch.set_num_threads(threads)
    write_tables(tables, out / "tables")
    for table in tables.values():
        print(table.to_string(index=False, float_format=lambda x: f"{x:.3g}"))
