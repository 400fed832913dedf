"""How fast are we, beside the naive way, in one and the same run? Ratios, on one core; one table is absolute."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch

from experiments.jain2024.presets import PRESETS
from experiments.speed.attacking import attacking
from experiments.speed.capturing import capturing, memory
from experiments.speed.dialogues import dialogues
from experiments.speed.training import generation, throughput, training
from experiments.speed.walking import a_map, walking
from makebreak.report import write_tables


def run(out: Path) -> None:
    """Print and write the table of ratios, and the one of what a model costs on this machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        tables = {
            "speed": pd.DataFrame(
                [*generation(), *training(), *dialogues(), *capturing(), memory(), *attacking(), *walking()]
            ),
            "throughput": pd.DataFrame([throughput(PRESETS["mini"], "mini", "ssft")]),
            "maps": pd.DataFrame([a_map()]),
        }
    finally:
        torch.set_num_threads(threads)
    write_tables(tables, out / "tables")
    for table in tables.values():
        print(table.to_string(index=False, float_format=lambda x: f"{x:.3g}"))
