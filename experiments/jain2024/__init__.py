"""Jain et al. 2024: effects of SSFT, DPO and unlearning on weights and activations."""

from experiments.jain2024.report import write_report
from experiments.jain2024.study import cells, compute, run, tasks, trainings
from experiments.jain2024.worlds import check_gates
from experiments.recipes.composition import PRESETS

__all__ = ["PRESETS", "cells", "check_gates", "compute", "run", "tasks", "trainings", "write_report"]
