"""Low-rank adapters, which are merged into the weights when a model is saved."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import PreTrainedModel

from makebreak.configs import check_positive
from makebreak.errors import InvalidInput
from makebreak.models import merge_in_place
from makebreak.training.constraint import plain_model


@dataclass(frozen=True)
class LoRA:
    """Low-rank adapters on every matrix of the blocks, while nothing else is trained (Hu et al. 2021)."""

    tag: ClassVar[str] = "LoRA"
    rank: int = 8
    """Rank of each update."""
    alpha: int = 16
    """Numerator of the scale alpha / rank of each update."""

    def __post_init__(self) -> None:
        check_positive(rank=self.rank, alpha=self.alpha)

    def attach(self, model: PreTrainedModel, *, seed: int) -> PreTrainedModel:
        """Freezes the weights of a model in place and adds new adapters, which change no output yet.

        Args:
            model: The model.
            seed: Seed of the adapters' initial values.

        Returns:
            The same model.

        Raises:
            InvalidInput: If the rank is above that of every matrix.
        """
        check_rank(model, self.rank)
        modules = _matrices(model)
        transposed = any(type(module).__name__ == "Conv1D" for module in modules.values())  # GPT-2's storage
        config = LoraConfig(
            r=self.rank, lora_alpha=self.alpha, target_modules=list(modules), fan_in_fan_out=transposed
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            inject_adapter_in_model(config, model)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("lora_" in name)
        return model


def check_rank(model: PreTrainedModel, rank: int) -> None:
    """Checks the rank of adapters against the matrices of a model, before anything is computed.

    Args:
        model: The model.
        rank: The rank.

    Raises:
        InvalidInput: If the rank is above that of every matrix.
    """
    largest = max((min(module.weight.shape) for module in _matrices(model).values()), default=0)
    if rank > largest:
        raise InvalidInput(
            f"LoRA rank {rank}: expected at most {largest}, the rank of this model's largest matrix"
        )


def _matrices(model: PreTrainedModel) -> dict[str, Any]:
    """The modules that adapters are added to: every matrix but the unembedding."""
    head = model.get_output_embeddings()
    return {
        name: module
        for name, module in model.named_modules()
        if module is not head and type(module).__name__ in ("Linear", "Conv1D")
    }


def merge_adapters(model: PreTrainedModel) -> PreTrainedModel:
    """Returns a copy with adapters and constrained matrices as plain weights, or the model if it has none."""
    if not any(isinstance(module, BaseTunerLayer) for module in model.modules()):
        return plain_model(model)
    return merge_in_place(copy.deepcopy(model))
