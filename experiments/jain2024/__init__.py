"""Jain et al. 2024: what do SSFT, DPO and unlearning do to the weights and activations?"""

from experiments.jain2024.presets import PRESETS
from experiments.jain2024.report import write_report
from experiments.jain2024.study import ARMS, count_models, run

__all__ = ["ARMS", "PRESETS", "count_models", "run", "write_report"]
