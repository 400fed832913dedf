"""Weight matrices are those that the network multiplies by, (d_out, d_in), however the library stores
them.
"""

from __future__ import annotations

import re

import pytest
import torch
from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

from makebreak.activations import transformer_lens_view
from makebreak.models import (
    ModelConfig,
    create_model,
    matrix_names,
    n_layers,
    set_weight_matrix,
    weight_matrix,
)
from tests.activations.networks import ARCHITECTURES, LENS_ARCHITECTURES, network

D_MODEL, D_MLP = 32, 48
FIRST_NORM = {"gpt2": "transformer.h.1.ln_1", "neox": "gpt_neox.layers.1.input_layernorm"}
FIRST_NORM |= dict.fromkeys(("llama", "qwen2", "qwen3", "gemma3"), "model.layers.1.input_layernorm")
MODULES = {
    "gpt2": {
        "mlp.W_in": "transformer.h.{}.mlp.c_fc",
        "mlp.W_out": "transformer.h.{}.mlp.c_proj",
        "attn.W_O": "transformer.h.{}.attn.c_proj",
    },
    "llama": {
        "mlp.W_in": "model.layers.{}.mlp.up_proj",
        "mlp.W_gate": "model.layers.{}.mlp.gate_proj",
        "mlp.W_out": "model.layers.{}.mlp.down_proj",
        "attn.W_O": "model.layers.{}.self_attn.o_proj",
    },
}
SHAPES = {
    "mlp.W_in": (D_MLP, D_MODEL),
    "mlp.W_gate": (D_MLP, D_MODEL),
    "mlp.W_out": (D_MODEL, D_MLP),
    "attn.W_O": (D_MODEL, D_MODEL),
}


def fresh(architecture: str):
    config = ModelConfig(architecture, n_layers=2, n_heads=2, d_model=D_MODEL, d_mlp=D_MLP)  # type: ignore[arg-type]
    model = create_model(config, d_vocab=11, n_ctx=9, seed=4).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():  # biases start at zero: a test would not see them
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model


CASES = [(a, layer, name) for a, names in MODULES.items() for layer in (0, 1) for name in names]


@pytest.mark.parametrize(("architecture", "layer", "name"), CASES)
def test_matrix_and_bias_reproduce_the_module(architecture: str, layer: int, name: str) -> None:
    model = fresh(architecture)
    module = model.get_submodule(MODULES[architecture][name].format(layer))
    recorded = {}
    module.register_forward_hook(lambda _, inputs, output: recorded.update(x=inputs[0], y=output))
    with torch.no_grad():
        model(input_ids=torch.arange(9)[None], use_cache=False)
    weight = weight_matrix(model, f"blocks.{layer}.{name}")
    offset = 0.0 if getattr(module, "bias", None) is None else module.bias
    assert tuple(weight.shape) == SHAPES[name]
    assert not weight.requires_grad
    for x, y in zip(recorded["x"][0], recorded["y"][0], strict=True):
        assert torch.allclose(weight @ x + offset, y, atol=1e-5)
        if architecture == "gpt2":
            assert not torch.allclose(weight @ x, y, atol=1e-2), "GPT-2 has biases"
    if SHAPES[name][0] == SHAPES[name][1]:
        assert not torch.allclose(weight.T @ x + offset, y, atol=1e-2), "the transposed matrix is another one"


@pytest.mark.parametrize("architecture", list(MODULES))
def test_transformer_lens_has_equal_matrices(architecture: str) -> None:
    model, copy = fresh(architecture), fresh(architecture)
    bridge = build_bridge_from_module(model, type(model).__name__, hf_config=model.config)
    for layer in range(n_layers(copy)):
        block = bridge.blocks[layer]
        for name in MODULES[architecture]:
            part, weight = name.split(".")
            theirs = getattr(getattr(block, part), weight)
            flat = theirs.reshape(-1, D_MODEL) if name == "attn.W_O" else theirs
            assert torch.equal(weight_matrix(copy, f"blocks.{layer}.{name}"), flat.T)


@pytest.mark.parametrize("architecture", LENS_ARCHITECTURES)
@pytest.mark.filterwarnings("ignore")  # of TransformerLens about itself
def test_queries_keys_values_equal_transformer_lens(architecture: str) -> None:
    model, ids = network(architecture), torch.arange(9)[None]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "bias" in name:
                parameter.zero_()
        read = {f"blocks.1.attn.{side}" for side in ("q.hook_out", "k.hook_out", "v.hook_out")}
        _, cache = transformer_lens_view(model).run_with_cache(ids, prepend_bos=False)
        normalised = model.get_submodule(FIRST_NORM[architecture]).forward(cache["blocks.1.hook_resid_pre"])
    assert read <= set(cache)
    for which in "qkv":
        weight = weight_matrix(model, f"blocks.1.attn.W_{which.upper()}")
        theirs = cache[f"blocks.1.attn.{which}.hook_out"].flatten(2)
        assert torch.allclose(normalised @ weight.T, theirs, atol=1e-4), which
    assert len(matrix_names(model)) == 2 * (6 if architecture in ("gpt2", "neox") else 7)


@pytest.mark.parametrize("architecture", list(MODULES))
def test_matrix_is_a_view(architecture: str) -> None:
    model = fresh(architecture)
    tokens = torch.arange(9)[None]
    before = model(input_ids=tokens).logits
    weight_matrix(model, "blocks.1.mlp.W_out").zero_()
    assert not torch.allclose(model(input_ids=tokens).logits, before, atol=1e-3)


@pytest.mark.parametrize(
    ("architecture", "name", "suggestion"),
    [
        ("gpt2", "blocks.0.mlp.W_im", "blocks.0.mlp.W_in"),
        ("gpt2", "block.1.attn.W_O", "blocks.1.attn.W_O"),
        ("llama", "blocks.1.mlp.W_gates", "blocks.1.mlp.W_gate"),
        ("gpt2", "transformer.h.0.mlp.c_fc", None),
    ],
)
def test_unknown_name_suggests_a_near_one(architecture: str, name: str, suggestion: str | None) -> None:
    model = fresh(architecture)
    hint = rf"did you mean '{suggestion}'\?" if suggestion else "expected one of blocks.0.attn.W_Q, "
    with pytest.raises(
        ValueError, match=f"matrix '{name}' does not exist in this {type(model).__name__}; {hint}"
    ):
        weight_matrix(model, name)


@pytest.mark.parametrize(
    ("architecture", "name"), [("gpt2", "blocks.0.mlp.W_gate"), ("gpt2", "blocks.2.mlp.W_in"), ("gpt2", "W")]
)
def test_suggested_names_exist(architecture: str, name: str) -> None:
    model = fresh(architecture)
    with pytest.raises(ValueError, match="does not exist") as error:
        weight_matrix(model, name)
    suggested = re.findall(r"blocks\.\d+\.[\w.]*\w", str(error.value).split(";", 1)[1])
    assert suggested
    for known in suggested:
        assert weight_matrix(model, known).ndim == 2


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_matrix_is_written_and_no_other(architecture: str) -> None:
    """Joint matrices (GPT-2), and those that lie head by head (GPT-NeoX), too."""
    model = network(architecture)
    names = matrix_names(model)
    before = {name: weight_matrix(model, name).clone() for name in names}
    for name in (name for name in names if name.startswith("blocks.1.")):
        written = torch.arange(before[name].numel(), dtype=torch.float64).view(before[name].shape)
        set_weight_matrix(model, name, written)
        assert torch.equal(weight_matrix(model, name), written.float())
        assert all(torch.equal(weight_matrix(model, each), before[each]) for each in names if each != name)
        set_weight_matrix(model, name, before[name])
    with pytest.raises(ValueError, match="matrix of shape"):
        set_weight_matrix(model, names[0], torch.zeros(2, 3))
