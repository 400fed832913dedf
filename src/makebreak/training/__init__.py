"""Training: one loop, and objectives that define what a step sees and its loss."""

from makebreak.training.adapters import LoRA, check_rank
from makebreak.training.booster import Booster
from makebreak.training.circuit_breaker import CircuitBreaker
from makebreak.training.constraint import (
    TrainedLayers,
    UpdateSubspace,
    constrain_updates,
    matrix_subspace,
    remove_constraints,
)
from makebreak.training.data import AlignmentData, concatenate, draw_batch
from makebreak.training.deep_alignment import DeepAlignment
from makebreak.training.engine import (
    Member,
    StackOptions,
    TrainedStack,
    largest_stack,
    remove_stack,
    train_stack,
)
from makebreak.training.extended_refusal import ExtendedRefusal
from makebreak.training.finetuning import FineTuning
from makebreak.training.latent_adversarial import LatentAdversarialTraining
from makebreak.training.loop import Optimisation, TrainingRun, TrainingStopped, train
from makebreak.training.losses import mean_cross_entropy, sequence_log_probs
from makebreak.training.muon import MuonOptimisation
from makebreak.training.objective import AlignmentObjective, Objective
from makebreak.training.preferences import DPO, JainDPO, Unlearning, dpo_loss
from makebreak.training.pretraining import ModeShares, Pretraining
from makebreak.training.registry import OBJECTIVES, load_objective, objective_name
from makebreak.training.resumption import CHECKPOINT, CHECKPOINTS, METRICS, run_files
from makebreak.training.retain_forget import NPO, GradientAscent, npo_loss
from makebreak.training.ssft import SSFT
from makebreak.training.stack_batches import BatchPlan, default_workers, single_batches, stack_batches

__all__ = [
    "CHECKPOINT",
    "CHECKPOINTS",
    "DPO",
    "METRICS",
    "NPO",
    "OBJECTIVES",
    "SSFT",
    "AlignmentData",
    "AlignmentObjective",
    "BatchPlan",
    "Booster",
    "CircuitBreaker",
    "DeepAlignment",
    "ExtendedRefusal",
    "FineTuning",
    "GradientAscent",
    "JainDPO",
    "LatentAdversarialTraining",
    "LoRA",
    "Member",
    "ModeShares",
    "MuonOptimisation",
    "Objective",
    "Optimisation",
    "Pretraining",
    "StackOptions",
    "TrainedLayers",
    "TrainedStack",
    "TrainingRun",
    "TrainingStopped",
    "Unlearning",
    "UpdateSubspace",
    "check_rank",
    "concatenate",
    "constrain_updates",
    "default_workers",
    "dpo_loss",
    "draw_batch",
    "largest_stack",
    "load_objective",
    "matrix_subspace",
    "mean_cross_entropy",
    "npo_loss",
    "objective_name",
    "remove_constraints",
    "remove_stack",
    "run_files",
    "sequence_log_probs",
    "single_batches",
    "stack_batches",
    "train",
    "train_stack",
]
