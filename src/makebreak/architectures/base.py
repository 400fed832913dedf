"""What is known about the modules of an architecture: sites, weight matrices, parts and norms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Side = Literal["input", "output"]
"""Side of a module at which a hook is attached."""


def head_size(config: Any) -> int:
    """Number of units of one attention head, d_head."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


@dataclass(frozen=True)
class Architecture:
    """Where a family of causal language models keeps what TransformerLens names.

    Paths of modules are relative to a block, except `blocks`, `embeddings`, `final_norm` and `head`.
    """

    model_types: tuple[str, ...]
    """Values of `config.model_type` that are built so."""
    blocks: str
    """Path of the list of blocks."""
    embeddings: tuple[str, ...]
    """Paths of the modules that embed tokens and positions."""
    final_norm: str
    """Path of the norm after the last block, which the head reads."""
    head: str
    """Path of the unembedding."""
    sites: Mapping[str, tuple[str, Side]]
    """Module and side of each activation site, in the order of the forward pass; '' is the block itself.
    What `hook_attn_out` and `hook_mlp_out` give is added to the residual stream as it is."""
    matrices: Mapping[str, str]
    """Module of each weight matrix, by its name in `matrix_shapes`. Matrices of the same module are stored
    jointly, one below the other in the order given here."""
    parts: Mapping[str, tuple[str, ...]]
    """Modules of each part of a block (`attn`, `mlp_in`, `mlp_out`, and `mlp_gate` of a gated MLP); every
    parameter is in exactly one."""
    norms: Mapping[str, tuple[str, ...]]
    """Modules that read each norm of a block; none if no matrix reads it, such as a norm of queries."""
    stores_transposed: bool = False
    """Whether weights are stored as (d_in, d_out), as in GPT-2."""
    joint_by_head: bool = False
    """Whether matrices that are stored jointly alternate head by head, as in GPT-NeoX."""
    gain_offset: float = 0.0
    """What is added to the weight of a norm to give its gain, 1 in Gemma."""
    normalises_writes: bool = False
    """Whether norms stand between the matrices of a block and the residual stream, as in Gemma 3."""

    def path(self, layer: int, module: str) -> str:
        """Dotted path of a module of a block, or of the block itself for ''."""
        return f"{self.blocks}.{layer}.{module}".removesuffix(".")

    def joint_matrices(self, matrix: str) -> list[str]:
        """Names of all matrices that are stored in the module of a matrix, in order."""
        return [name for name, module in self.matrices.items() if module == self.matrices[matrix]]

    def matrix_shapes(self, config: Any) -> dict[str, tuple[int, int]]:
        """Shape (d_out, d_in) of every matrix that a block of this config can have."""
        d_model, d_head = config.hidden_size, head_size(config)
        d_attn = d_head * config.num_attention_heads
        d_kv = d_head * (getattr(config, "num_key_value_heads", None) or config.num_attention_heads)
        d_mlp = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * d_model
        return {
            "attn.W_Q": (d_attn, d_model),
            "attn.W_K": (d_kv, d_model),
            "attn.W_V": (d_kv, d_model),
            "attn.W_O": (d_model, d_attn),
            "mlp.W_in": (d_mlp, d_model),
            "mlp.W_gate": (d_mlp, d_model),
            "mlp.W_out": (d_model, d_mlp),
        }

    def parts_of(self, parameter: str) -> list[str]:
        """Names of the parts that a parameter of `state_dict()` belongs to; exactly one if all is well."""
        if not parameter.startswith(f"{self.blocks}."):
            outside = {"embed": self.embeddings, "unembed": (self.final_norm, self.head)}
            return [part for part, modules in outside.items() if _is_in(parameter, modules)]
        layer, _, rest = parameter.removeprefix(f"{self.blocks}.").partition(".")
        return [f"blocks.{layer}.{part}" for part, modules in self.parts.items() if _is_in(rest, modules)]


def _is_in(parameter: str, modules: tuple[str, ...]) -> bool:
    """Whether a parameter is one of these modules' own or of a module within them."""
    return any(parameter.startswith(f"{module}.") for module in modules)
