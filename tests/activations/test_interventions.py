"""Interventions make the stated change at the chosen positions, and no other change."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations import (
    activations_from_transformer_lens,
    add,
    capture,
    intervene,
    on_units,
    patch,
    project,
    scale,
    site_names,
    transformer_lens_view,
)
from tests.activations.networks import ARCHITECTURES, N_CTX, n_hooks, network, tokens

WHERE = torch.arange(N_CTX) == torch.tensor([3, 11, 4, 7, 4])[:, None]
SITE = "blocks.0.hook_resid_post"


def logits(model: PreTrainedModel, ids: Tensor | None = None) -> Tensor:
    with torch.no_grad():
        return model(input_ids=tokens() if ids is None else ids).logits


def captured(model: PreTrainedModel, site: str, where: Tensor = WHERE) -> Tensor:
    [batch] = capture(model, tokens(), [site], where)
    return batch.activations[site]


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_patching_all_positions_gives_the_source_run(architecture: str) -> None:
    """Patching a run's own activations changes nothing; patching another run's gives that run's logits."""
    model = network(architecture)
    other_tokens = (tokens() + 1) % 20
    everywhere = torch.ones(5, N_CTX, dtype=torch.bool)
    for site in ("blocks.0.hook_resid_post", "blocks.1.hook_resid_pre"):
        original = captured(model, site, everywhere)
        [other_batch] = capture(model, other_tokens, [site], everywhere)
        with intervene(model, site, patch(original), everywhere):
            assert torch.allclose(logits(model), logits(network(architecture)), atol=1e-4)
        with intervene(model, site, patch(other_batch.activations[site]), everywhere):
            patched = logits(model)
        assert torch.allclose(patched, logits(model, other_tokens), atol=1e-4)
        assert not torch.allclose(patched, logits(model), atol=1e-2)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_interventions_act_at_chosen_positions_only(architecture: str) -> None:
    """At every site, activations and later logits change; logits before the first chosen position do not."""
    model = network(architecture)
    for site in site_names(model):
        before, width = captured(model, site), captured(model, site).shape[1]
        vector = random(width)
        with intervene(model, site, add(vector), WHERE):
            assert torch.allclose(captured(model, site), before + vector, atol=1e-5), site
            changed = logits(model)
        first = WHERE.int().argmax(dim=1)
        plain = logits(model)
        earlier = torch.arange(N_CTX) < first[:, None]
        assert torch.allclose(changed[earlier], plain[earlier], atol=1e-5), site
        assert not torch.allclose(changed[WHERE], plain[WHERE], atol=1e-3), site
    assert n_hooks(model) == n_hooks(network(architecture))


def test_interventions_are_their_formulas() -> None:
    """Each intervention equals its formula in torch, and is gone after its context."""
    model, before, vector = network("gpt2"), captured(network("gpt2"), SITE), random(16)
    basis = torch.linalg.qr(random(16, 3)).Q
    expected: list[tuple[Callable[[Tensor], Tensor], Tensor]] = [
        (patch(vector), vector.expand(5, 16)),
        (patch(random(5, 16)), random(5, 16)),
        (add(random(5, 16)), before + random(5, 16)),
        (scale(0.0), torch.zeros(5, 16)),
        (scale(-2.0), -2 * before),
        (project(basis), before - before @ basis @ basis.T),
        (on_units(slice(8, 16), scale(0.0)), torch.cat([before[:, :8], torch.zeros(5, 8)], dim=1)),
    ]
    for intervention, after in expected:
        with intervene(model, SITE, intervention, WHERE):
            assert torch.allclose(captured(model, SITE), after, atol=1e-5)
    assert torch.allclose(captured(model, SITE), before, atol=1e-6)


def test_nested_interventions_apply_in_order() -> None:
    """At one site the inner intervention receives what the outer one returned."""
    model, before, vector = network("llama"), captured(network("llama"), SITE), random(16)
    with intervene(model, SITE, add(vector), WHERE), intervene(model, SITE, scale(2.0), WHERE):
        assert torch.allclose(captured(model, SITE), 2 * (before + vector), atol=1e-5)
    with intervene(model, SITE, scale(2.0), WHERE), intervene(model, SITE, add(vector), WHERE):
        assert torch.allclose(captured(model, SITE), 2 * before + vector, atol=1e-5)
    assert n_hooks(model) == n_hooks(network("llama"))


@pytest.mark.filterwarnings("ignore")  # TransformerLens warns about its own code
def test_steering_agrees_with_transformer_lens() -> None:
    """Adding a vector gives the logits of TransformerLens with a forward hook that adds it."""
    model, vector = network("gpt2"), random(16)
    with intervene(model, SITE, add(vector)):
        ours = logits(model)
    hook = lambda x, hook: x + vector  # noqa: E731
    with torch.no_grad():
        theirs = transformer_lens_view(model).run_with_hooks(
            tokens(), prepend_bos=False, fwd_hooks=[(SITE, hook)]
        )
    assert torch.allclose(ours, theirs, atol=1e-4)
    untouched = activations_from_transformer_lens(model, tokens(), [SITE])[SITE]
    assert torch.allclose(untouched[WHERE], captured(model, SITE), atol=1e-5)


def test_gradients_pass_through_interventions() -> None:
    """The gradient with respect to a steering vector agrees with central differences."""
    model = network("gpt2")
    vector = random(16).requires_grad_()
    with intervene(model, SITE, add(vector), WHERE):
        model(input_ids=tokens()).logits[WHERE].logsumexp(dim=1).sum().backward()
    assert vector.grad is not None
    step, values = 1e-2, []
    for sign in (1, -1):
        with intervene(
            model, SITE, add((vector + sign * step * vector.grad / vector.grad.norm()).detach()), WHERE
        ):
            values.append(float(logits(model)[WHERE].logsumexp(dim=1).sum()))
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(float(vector.grad.norm()), rel=0.01)


def test_hook_is_removed_after_an_exception() -> None:
    model = network("gpt2")
    with pytest.raises(KeyError), intervene(model, SITE, scale(0.0)):
        raise KeyError
    assert n_hooks(model) == n_hooks(network("gpt2"))


def test_misfitting_interventions_are_errors() -> None:
    """Unknown sites, unreached sites, and wrong rows, positions, shapes or bases are errors."""
    model = network("gpt2")
    with (
        pytest.raises(ValueError, match=r"'blocks.0.hook_resid_past' does not exist.*did you mean"),
        intervene(model, "blocks.0.hook_resid_past", scale(0.0)),
    ):
        raise AssertionError
    with (
        pytest.raises(RuntimeError, match="was never applied: no forward pass reached the site"),
        intervene(model, SITE, scale(0.0)),
    ):
        pass
    for where, rows in ((WHERE[:4], slice(0, 5)), (WHERE, slice(0, 4)), (WHERE[:, :11], slice(0, 5))):
        with (
            pytest.raises(ValueError, match=r"a forward pass of \d rows and 12 positions; expected"),
            intervene(model, SITE, scale(0.0), where),
        ):
            logits(model, tokens()[rows])
    with (
        pytest.raises(ValueError, match=r"the intervention returned \(5, 15\), expected \(5, 16\)"),
        intervene(model, SITE, lambda x: x[:, 1:], WHERE),
    ):
        logits(model)
    with (
        pytest.raises(ValueError, match=r"patch: \(4, 16\) values for \(5, 16\)"),
        intervene(model, SITE, patch(random(4, 16)), WHERE),
    ):
        logits(model)
    with (
        pytest.raises(ValueError, match=r"add: \(15,\) to \(5, 16\)"),
        intervene(model, SITE, add(random(15)), WHERE),
    ):
        logits(model)
    with pytest.raises(ValueError, match="expected orthonormal columns"):
        project(random(16, 3))
    assert n_hooks(model) == n_hooks(network("gpt2"))
