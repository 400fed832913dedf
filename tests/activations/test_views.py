"""TransformerLens and nnsight give the same activations under the same names and do not change the model."""

from __future__ import annotations

import pytest
import torch

from makebreak.activations import (
    activations_from_nnsight,
    activations_from_transformer_lens,
    capture,
    site_names,
    transformer_lens_view,
)
from tests.activations.networks import LENS_ARCHITECTURES, N_CTX, N_SITES, n_hooks, network, tokens


@pytest.mark.parametrize("architecture", LENS_ARCHITECTURES)
@pytest.mark.filterwarnings("ignore")  # TransformerLens warns about its own code
def test_sites_agree_with_transformer_lens_and_nnsight(architecture: str) -> None:
    """`capture`, TransformerLens and nnsight agree at every site, and only equivalent sites coincide."""
    model = network(architecture)
    names, before = site_names(model), model.state_dict()
    assert len(names) == 2 * N_SITES[architecture]
    [batch] = capture(model, tokens(), names, torch.ones(5, N_CTX, dtype=torch.bool))
    for activations_from in (activations_from_transformer_lens, activations_from_nnsight):
        theirs = activations_from(model, tokens(), names)
        for name in names:
            ours = batch.activations[name].unflatten(0, (5, N_CTX))
            assert ours.shape == theirs[name].shape == (5, N_CTX, 40 if _wide(name) else 16), name
            assert torch.allclose(ours, theirs[name], atol=2e-5, rtol=1e-4), (activations_from.__name__, name)
    flat = [batch.activations[name].flatten()[:40].tolist() for name in names]
    same = {(a, b) for a in range(len(names)) for b in range(a) if flat[a] == flat[b]}
    assert same == {(names.index("blocks.1.hook_resid_pre"), names.index("blocks.0.hook_resid_post"))}
    assert model.state_dict().keys() == before.keys()
    assert n_hooks(model) == n_hooks(network(architecture))


def _wide(name: str) -> bool:
    return name.endswith(("mlp.hook_pre", "mlp.hook_pre_linear", "mlp.hook_post"))


@pytest.mark.filterwarnings("ignore")
def test_transformer_lens_view_is_a_copy() -> None:
    """The view can be changed by hooks and shares no parameter with the model."""
    model = network("gpt2")
    view = transformer_lens_view(model)
    with torch.no_grad():
        changed = view.run_with_hooks(
            tokens(), prepend_bos=False, fwd_hooks=[("blocks.0.hook_mlp_out", lambda x, hook: x * 0)]
        )
        plain = model(input_ids=tokens()).logits
    assert not torch.allclose(changed, plain, atol=1e-2)
    assert all(a is not b for a, b in zip(view.original_model.parameters(), model.parameters(), strict=False))


@pytest.mark.parametrize("activations_from", [activations_from_transformer_lens, activations_from_nnsight])
def test_unknown_site_is_an_error_in_views(activations_from: object) -> None:
    with pytest.raises(ValueError, match=r"'blocks.0.mlp.hook_pots' does not exist.*did you mean"):
        activations_from(network("gpt2"), tokens(), ["blocks.0.mlp.hook_pots"])  # type: ignore[operator]
