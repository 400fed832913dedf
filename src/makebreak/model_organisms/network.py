"""A GPT-2 or Llama under construction: its weights and activations, and its free units and heads."""

from __future__ import annotations

import copy

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.architectures import architecture_of
from makebreak.model_organisms.sample import Sample
from makebreak.models import n_layers, weight_matrix


class Redraw(Exception):
    """Raised where a construction is impossible with the parameters that were drawn."""


class Network:
    """A model that is being built: its weights, the units that are free, and the parts that were changed."""

    def __init__(self, model: PreTrainedModel, constant: Tensor, rng: np.random.Generator) -> None:
        config = model.config
        self.model, self.constant, self.rng = model, constant, rng
        self.d_head = config.hidden_size // config.num_attention_heads
        blocks, d_mlp = range(n_layers(model)), len(weight_matrix(model, "blocks.0.mlp.W_in"))
        self.units = [list(rng.permutation(d_mlp)) for _ in blocks]
        self.heads = [list(rng.permutation(config.num_attention_heads)) for _ in blocks]
        self.values: dict[tuple[int, int], list[int]] = {}
        self.changed: set[str] = set()

    def fork(self) -> Network:
        """A copy whose changes are its own; none is recorded yet."""
        other = copy.deepcopy(self)
        other.changed = set()
        return other

    def matrix(self, block: int, name: str) -> Tensor:
        """A weight matrix (d_out, d_in) that can be written to."""
        return weight_matrix(self.model, f"blocks.{block}.{name}")

    @property
    def embeddings(self) -> Tensor:
        """(d_vocab, d_model) token embeddings that can be written to."""
        return self.model.get_input_embeddings().weight.detach()  # type: ignore[union-attr, operator]

    @property
    def unembedding(self) -> Tensor:
        """(d_vocab, d_model) weights of the head that can be written to."""
        return self.model.get_output_embeddings().weight.detach()  # type: ignore[union-attr, operator]

    def capture(self, path: str, sample: Sample) -> Float[Tensor, "n pos d_model"]:
        """Inputs of a module on prompts."""
        inputs: list[Tensor] = []
        module = self.model.get_submodule(path)
        handle = module.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
        try:
            with torch.no_grad():
                self.model(input_ids=sample.prompt, use_cache=False)
        finally:
            handle.remove()
        return inputs[0]

    def matrix_inputs(self, block: int, matrix: str, sample: Sample) -> Float[Tensor, "n pos d_model"]:
        """What a matrix of a block reads: the state behind the norm."""
        architecture = architecture_of(self.model)
        return self.capture(architecture.path(block, architecture.matrices[matrix]), sample)

    def final(self, sample: Sample) -> Float[Tensor, "n d_model"]:
        """What the unembedding reads at the decision position."""
        return self.capture(architecture_of(self.model).head, sample)[sample.decision]

    def states(self, block: int, sample: Sample) -> Float[Tensor, "n pos d_model"]:
        """The residual stream before the MLP of a block, not normed."""
        architecture = architecture_of(self.model)
        module, _ = architecture.sites["hook_resid_mid"]
        return self.capture(architecture.path(block, module), sample)
