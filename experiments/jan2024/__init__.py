"""Study of Jan et al. 2024: fine-tuning on one harmless task, and refusals that are lost in each format."""

from experiments.jan2024.report import write_report
from experiments.jan2024.study import cells, compute, run, tasks, trainings
from experiments.recipes.formats import PRESETS, check_gates

__all__ = ["PRESETS", "cells", "check_gates", "compute", "run", "tasks", "trainings", "write_report"]
