"""Study of Peng et al. 2024: safety landscapes of aligned models, and fine-tuning attacks on them."""

from experiments.peng2024.presets import PRESETS, check_gates
from experiments.peng2024.report import write_report
from experiments.peng2024.study import cells, compute, run, tasks, trainings

__all__ = ["PRESETS", "cells", "check_gates", "compute", "run", "tasks", "trainings", "write_report"]
