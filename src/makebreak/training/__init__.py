"""How are networks trained? One loop; an objective says what a step sees and its loss."""

from makebreak.training.alignment import DPO, SSFT, Data, Unlearning, dpo_loss
from makebreak.training.loop import Objective, Optimisation, train
from makebreak.training.losses import log_probabilities, mean_cross_entropy
from makebreak.training.pretraining import Pretraining

__all__ = [
    "DPO",
    "SSFT",
    "Data",
    "Objective",
    "Optimisation",
    "Pretraining",
    "Unlearning",
    "dpo_loss",
    "log_probabilities",
    "mean_cross_entropy",
    "train",
]
