"""Claims of the synthetic worlds on a pretrained language model that is aligned by the same methods."""

from experiments.real.presets import PRESETS, check_gates
from experiments.real.report import write_report
from experiments.real.study import cells, compute, run, tasks, trainings

__all__ = ["PRESETS", "cells", "check_gates", "compute", "run", "tasks", "trainings", "write_report"]
