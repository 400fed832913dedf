"""Is a captured activation the one that TransformerLens and nnsight see, and does capturing leave no trace?"""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module
from transformers import PreTrainedModel

from makebreak.activations import capture, site_names
from makebreak.models import ModelConfig, create

SIZES = {"n_layers": 2, "n_heads": 2, "d_model": 16, "d_mlp": 40}
D_VOCAB, N_CTX = 20, 12
POSITION = torch.tensor([0, 11, 4, 7, 4])
ARCHITECTURES = ["gpt2", "llama"]


def network(architecture: str) -> PreTrainedModel:
    """The same tiny model at each call, in a copy of its own (wrapping one changes it)."""
    made = create(ModelConfig(architecture, **SIZES), d_vocab=D_VOCAB, n_ctx=N_CTX, seed=0).eval()  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return made


def tokens() -> Tensor:
    return torch.randint(0, D_VOCAB, (5, N_CTX), generator=torch.Generator().manual_seed(1))


def collect(model: PreTrainedModel, sites: list[str], ids: Tensor | None = None, size: int = 512) -> dict[str, Tensor]:
    ids = tokens() if ids is None else ids
    parts = [found for _, found in capture(model, ids, sites, POSITION, batch_size=size)]
    return {site: torch.cat([p[site] for p in parts]) for site in sites}


def looked_into(architecture: str) -> Any:
    """The model for nnsight, which is imported late: beartype fails to load after it."""
    from nnsight import NNsight

    return NNsight(network(architecture))


def n_hooks(model: PreTrainedModel) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.filterwarnings("ignore")  # of TransformerLens about itself
def test_every_site_is_transformer_lens_own(architecture: str) -> None:
    model = network(architecture)
    names = site_names(model)
    found = collect(model, names)
    copy = network(architecture)
    bridge = build_bridge_from_module(copy, type(copy).__name__, hf_config=copy.config)
    with torch.no_grad():
        _, cache = bridge.run_with_cache(tokens(), prepend_bos=False)
    assert len(names) == 2 * {"gpt2": 7, "llama": 8}[architecture]
    for name in names:
        expected = cache[name][torch.arange(5), POSITION]
        assert found[name].shape == (
            5,
            40 if name.endswith(("pre", "pre_linear", "hook_post")) and "mlp" in name else 16,
        )
        assert torch.allclose(found[name], expected, atol=1e-5, rtol=1e-5), name
    flat = [found[name].flatten()[:40].tolist() for name in names]
    same = {(a, b) for a in range(len(names)) for b in range(a) if flat[a] == flat[b]}
    assert same == {(names.index("blocks.1.hook_resid_pre"), names.index("blocks.0.hook_resid_post"))}


def test_gpt2_sites_are_nnsights() -> None:
    found = collect(network("gpt2"), ["blocks.0.mlp.hook_in", "blocks.1.mlp.hook_post", "blocks.1.hook_resid_post"])
    model = looked_into("gpt2")
    with torch.no_grad(), model.trace(tokens()):
        read = model.transformer.h[0].mlp.input.save()
        post = model.transformer.h[1].mlp.c_proj.input.save()
        resid = model.transformer.h[1].output.save()
    for ours, theirs in zip(found.values(), (read, post, resid), strict=True):
        assert torch.allclose(ours, theirs[torch.arange(5), POSITION], atol=1e-5)


def test_llama_sites_are_nnsights() -> None:
    found = collect(network("llama"), ["blocks.0.mlp.hook_pre", "blocks.0.mlp.hook_post", "blocks.1.hook_mlp_out"])
    model = looked_into("llama")
    with torch.no_grad(), model.trace(tokens()):
        gate = model.model.layers[0].mlp.gate_proj.output.save()
        post = model.model.layers[0].mlp.down_proj.input.save()
        out = model.model.layers[1].mlp.output.save()
    for ours, theirs in zip(found.values(), (gate, post, out), strict=True):
        assert torch.allclose(ours, theirs[torch.arange(5), POSITION], atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_stands_behind_the_position_changes_nothing(architecture: str) -> None:
    model = network(architecture)
    names = site_names(model)
    behind = torch.arange(N_CTX) > POSITION[:, None]
    plain, padded = collect(model, names), collect(model, names, tokens().masked_fill(behind, 3))
    at = torch.arange(N_CTX) == POSITION[:, None]
    other = collect(model, names, torch.where(at, (tokens() + 1) % D_VOCAB, tokens()))
    for name in names:
        assert torch.allclose(plain[name], padded[name], atol=1e-5), name
        assert not torch.allclose(plain[name], other[name], atol=1e-2), name


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_batch_size_changes_nothing(architecture: str) -> None:
    model = network(architecture)
    names = site_names(model)
    whole = collect(model, names)
    for size in (1, 2, 5):
        parts = collect(model, names, size=size)
        assert all(torch.allclose(whole[name], parts[name], atol=1e-5) for name in names)
    rows = [r for r, _ in capture(model, tokens(), names, POSITION, batch_size=2)]
    assert rows == [slice(0, 2), slice(2, 4), slice(4, 5)]


def test_what_is_captured_is_a_copy_without_gradient() -> None:
    model = network("gpt2")
    found = collect(model, ["blocks.0.hook_resid_post"])["blocks.0.hook_resid_post"]
    assert not found.requires_grad
    before = collect(model, ["blocks.1.hook_resid_pre"])["blocks.1.hook_resid_pre"]
    found.zero_()
    assert torch.equal(collect(model, ["blocks.1.hook_resid_pre"])["blocks.1.hook_resid_pre"], before)


def test_hooks_are_gone_after_use_after_stopping_early_and_after_an_exception() -> None:
    model = network("gpt2")
    clean = n_hooks(model)
    collect(model, site_names(model))
    assert n_hooks(model) == clean
    batches = capture(model, tokens(), site_names(model), POSITION, batch_size=2)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert n_hooks(model) == clean

    class Broken(Exception): ...

    def fail(*_: object) -> None:
        assert n_hooks(model) > clean + 1
        raise Broken

    handle = model.transformer.h[1].register_forward_hook(fail)
    with pytest.raises(Broken):
        collect(model, site_names(model))
    handle.remove()
    assert n_hooks(model) == clean
    with pytest.raises(ValueError, match="does not exist"):
        collect(model, ["blocks.0.hook_resid_pre", "blocks.9.hook_resid_pre"])
    assert n_hooks(model) == clean


@pytest.mark.parametrize(
    ("architecture", "site", "near"),
    [
        ("gpt2", "blocks.0.mlp.hook_pots", "blocks.0.mlp.hook_post"),
        ("gpt2", "blocks.1.mlp.hook_pre_linear", "blocks.1.mlp.hook_pre"),  # llama has it
        ("llama", "blocks.1.hook_resid_past", "blocks.1.hook_resid_post"),
        ("llama", "blocks.2.hook_resid_post", "blocks.[01].hook_resid_post"),
    ],
)
def test_an_unknown_site_names_a_near_one(architecture: str, site: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"site '{site}' does not exist in this .*; did you mean '{near}'"):
        collect(network(architecture), [site])


def test_no_site_is_an_error() -> None:
    with pytest.raises(ValueError, match="no site was named"):
        collect(network("gpt2"), [])


@pytest.mark.parametrize("position", [[0, 1, 2, 3], [0, 1, 2, 3, 12], [-1, 1, 2, 3, 4]])
def test_positions_that_do_not_fit_are_an_error(position: list[int]) -> None:
    unchecked = inspect.unwrap(capture)  # type checks of tests would come first
    with pytest.raises(ValueError, match=r"position: expected 5 positions within 0 … 11"):
        next(unchecked(network("gpt2"), tokens(), ["blocks.0.mlp.hook_in"], torch.tensor(position)))


def test_a_model_type_without_a_table_is_an_error() -> None:
    model = network("gpt2")
    model.config.model_type = "mamba"
    with pytest.raises(ValueError, match="model type 'mamba' has no table of sites: expected one of gpt2, llama"):
        site_names(model)


class Twice(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.c_fc, self.c_proj, self.act = inner.c_fc, inner.c_proj, inner.act

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(self.act(self.c_fc(x) + self.c_fc(-x)))


def test_a_module_that_never_fires_is_an_error() -> None:
    model = network("gpt2")
    mlp = model.transformer.h[1].mlp
    model.transformer.h[1].mlp.forward = lambda x: x  # the block's own modules are passed by
    assert mlp.c_fc is model.get_submodule("transformer.h.1.mlp.c_fc")
    with pytest.raises(RuntimeError, match=r"hooks at \['blocks.1.mlp.hook_pre'\] never fired"):
        collect(model, ["blocks.0.mlp.hook_pre", "blocks.1.mlp.hook_pre"])
    assert n_hooks(model) == n_hooks(network("gpt2"))


def test_a_module_that_fires_twice_is_an_error() -> None:
    model = network("gpt2")
    model.transformer.h[0].mlp = Twice(model.transformer.h[0].mlp)
    with pytest.raises(RuntimeError, match=r"hook at blocks.0.mlp.hook_pre fired twice"):
        collect(model, ["blocks.0.mlp.hook_pre"])
    assert n_hooks(model) == n_hooks(network("gpt2"))
    assert collect(model, ["blocks.0.mlp.hook_post"])["blocks.0.mlp.hook_post"].shape == (5, 40)
