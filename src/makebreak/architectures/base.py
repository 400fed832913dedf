"""What is known about the modules of an architecture: sites, weight matrices, parts and norms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Side = Literal["input", "output"]
"""Side of a module at which a hook is attached."""


_MLP_WIDTHS = ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size")
"""Names that configs have for the number of hidden units of an MLP, d_mlp."""


def head_size(config: Any) -> int:
    """Number of units of one attention head, d_head."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


class UnknownArchitecture(ValueError):
    """Raised for a model that no architecture describes."""


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
    """Whether matrices that are stored jointly alternate, by head as in GPT-NeoX or, where several heads of
    queries share keys and values, by group of heads."""
    key_value_heads: str | int = "num_key_value_heads"
    """Number of heads of keys and values, or the name of the setting of a config that gives it; all heads
    where a config has no such setting."""
    gain_offset: float = 0.0
    """What is added to the weight of a norm to give its gain, 1 in Gemma."""
    normalises_writes: bool = False
    """Whether norms stand between the matrices of a block and the residual stream, as in Gemma 3."""
    normalises_embeddings: bool = False
    """Whether a norm stands between the embeddings and the residual stream, as in BLOOM."""
    overwrites_stream: bool = False
    """Whether the first norm of a block replaces the residual stream, as in Jain et al. 2024: what attention
    and MLP write is added to its output, the site `ln1.hook_normalized`, not to the states before it."""
    has_experts: bool = False
    """Whether MLPs are mixtures of experts, none of whose matrices has a name."""
    write_scale: str = ""
    """Setting of a config by which outputs of attention and MLP are multiplied where they are added to the
    residual stream, as in Granite; the sites `hook_attn_out` and `hook_mlp_out` give the products."""
    returns_tuples: bool = False
    """Whether a block returns a tuple that begins with the states, as in BLOOM."""
    joins_rows: bool = False
    """Whether an MLP must be run at all positions: its rows are joined, as in OPT, or its output is changed
    in place, as in Falcon."""
    adapt: Callable[[Architecture, Any], Architecture] | None = None
    """Function that returns the architecture of one config, given this one, where modules depend on settings
    of a config; it raises `UnknownArchitecture` for settings that cannot be described."""

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
        d_kv = d_head * self.n_key_value_heads(config)
        widths = (getattr(config, name, None) for name in _MLP_WIDTHS)
        d_mlp = next((width for width in widths if width), 4 * d_model)
        return {
            "attn.W_Q": (d_attn, d_model),
            "attn.W_K": (d_kv, d_model),
            "attn.W_V": (d_kv, d_model),
            "attn.W_O": (d_model, d_attn),
            "mlp.W_in": (d_mlp, d_model),
            "mlp.W_gate": (d_mlp, d_model),
            "mlp.W_out": (d_model, d_mlp),
        }

    def n_key_value_heads(self, config: Any) -> int:
        """Number of heads of keys and values of each block of this config."""
        if isinstance(self.key_value_heads, int):
            return self.key_value_heads
        return int(getattr(config, self.key_value_heads, None) or config.num_attention_heads)

    def site_scale(self, site: str, config: Any) -> float:
        """Factor between what a module gives at a site and what is added to the residual stream."""
        is_written = site in ("hook_attn_out", "hook_mlp_out")
        return float(getattr(config, self.write_scale)) if self.write_scale and is_written else 1.0

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
