"""How are networks trained? One loop; an objective says what a step sees and its loss."""

from makebreak.training.adapters import LoRA
from makebreak.training.breaking import CircuitBreaker
from makebreak.training.data import Data, drawn, join
from makebreak.training.deep import Deep
from makebreak.training.finetuning import FineTuning
from makebreak.training.forgetting import NPO, Ascent, npo_loss
from makebreak.training.latent import LatentAdversarial
from makebreak.training.loop import CHECKPOINTS, Objective, Optimisation, train
from makebreak.training.losses import log_probabilities, mean_cross_entropy
from makebreak.training.preferences import DPO, PaperDPO, Unlearning, dpo_loss
from makebreak.training.pretraining import Pretraining
from makebreak.training.ssft import SSFT

__all__ = [
    "CHECKPOINTS",
    "DPO",
    "NPO",
    "SSFT",
    "Ascent",
    "CircuitBreaker",
    "Data",
    "Deep",
    "FineTuning",
    "LatentAdversarial",
    "LoRA",
    "Objective",
    "Optimisation",
    "PaperDPO",
    "Pretraining",
    "Unlearning",
    "dpo_loss",
    "drawn",
    "join",
    "log_probabilities",
    "mean_cross_entropy",
    "npo_loss",
    "train",
]
