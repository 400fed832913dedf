"""Fine-tuning on restructured harmless data, and safety data mixed in (Eiras et al. 2024)."""

from experiments.eiras2024.presets import PRESETS
from experiments.eiras2024.report import write_report
from experiments.eiras2024.study import cells, compute, run, tasks, trainings
from experiments.recipes.formats import check_gates

__all__ = ["PRESETS", "cells", "check_gates", "compute", "run", "tasks", "trainings", "write_report"]
