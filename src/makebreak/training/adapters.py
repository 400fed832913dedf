"""How is only a small part of a model trained? With low-rank adapters, merged into the weights when it is saved."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import PreTrainedModel

from makebreak.configs import check_positive


@dataclass(frozen=True)
class LoRA:
    """Low-rank adapters on every matrix of the blocks, nothing else trained (Hu et al. 2021); alpha / rank scales."""

    rank: int = 8
    alpha: int = 16

    def __post_init__(self) -> None:
        check_positive(rank=self.rank, alpha=self.alpha)

    def attach(self, model: PreTrainedModel, *, seed: int) -> PreTrainedModel:
        """The model, changed in place: its own weights frozen, fresh adapters that change nothing yet."""
        head = model.get_output_embeddings()
        modules = {
            name: module
            for name, module in model.named_modules()
            if module is not head and type(module).__name__ in ("Linear", "Conv1D")
        }
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


def merged(model: PreTrainedModel) -> PreTrainedModel:
    """The model itself where it has no adapters, else a copy with them merged into its weights."""
    if not any(isinstance(module, BaseTunerLayer) for module in model.modules()):
        return model
    plain = copy.deepcopy(model)
    adapted = [(name, module) for name, module in plain.named_modules() if isinstance(module, BaseTunerLayer)]
    for name, module in adapted:
        module.merge()
        plain.set_submodule(name, module.get_base_layer())
    return plain
