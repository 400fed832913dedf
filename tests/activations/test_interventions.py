"""Does an intervention change what it says, where it says, and nothing else?"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations import (
    add,
    capture,
    intervene,
    on_units,
    project_out,
    read_with_transformer_lens,
    scale,
    set_to,
    site_names,
    transformer_lens_view,
)
from tests.activations.networks import ARCHITECTURES, N_CTX, n_hooks, network, tokens

WHERE = torch.arange(N_CTX) == torch.tensor([3, 11, 4, 7, 4])[:, None]
SITE = "blocks.0.hook_resid_post"


def logits(model: PreTrainedModel, ids: Tensor | None = None) -> Tensor:
    with torch.no_grad():
        return model(input_ids=tokens() if ids is None else ids).logits


def seen(model: PreTrainedModel, site: str, where: Tensor = WHERE) -> Tensor:
    [found] = capture(model, tokens(), [site], where)
    return found.at[site]


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_set_to_what_was_there_changes_nothing_and_to_another_runs_gives_that_run(architecture: str) -> None:
    model = network(architecture)
    other = (tokens() + 1) % 20
    everywhere = torch.ones(5, N_CTX, dtype=torch.bool)
    for site in ("blocks.0.hook_resid_post", "blocks.1.hook_resid_pre"):
        own, [others] = seen(model, site, everywhere), capture(model, other, [site], everywhere)
        with intervene(model, site, set_to(own), everywhere):
            assert torch.allclose(logits(model), logits(network(architecture)), atol=1e-4)
        with intervene(model, site, set_to(others.at[site]), everywhere):
            patched = logits(model)
        assert torch.allclose(patched, logits(model, other), atol=1e-4)
        assert not torch.allclose(patched, logits(model), atol=1e-2)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_site_can_be_changed_and_only_at_the_positions_chosen(architecture: str) -> None:
    model = network(architecture)
    for site in site_names(model):
        before, width = seen(model, site), seen(model, site).shape[1]
        vector = random(width)
        with intervene(model, site, add(vector), WHERE):
            assert torch.allclose(seen(model, site), before + vector, atol=1e-5), site
            changed = logits(model)
        first = WHERE.int().argmax(dim=1)
        plain = logits(model)
        earlier = torch.arange(N_CTX) < first[:, None]
        assert torch.allclose(changed[earlier], plain[earlier], atol=1e-5), site
        assert not torch.allclose(changed[WHERE], plain[WHERE], atol=1e-3), site
    assert n_hooks(model) == n_hooks(network(architecture))


def test_each_change_is_the_arithmetic_it_says() -> None:
    model, before, vector = network("gpt2"), seen(network("gpt2"), SITE), random(16)
    basis = torch.linalg.qr(random(16, 3)).Q
    expected: list[tuple[Callable[[Tensor], Tensor], Tensor]] = [
        (set_to(vector), vector.expand(5, 16)),
        (set_to(random(5, 16)), random(5, 16)),
        (add(random(5, 16)), before + random(5, 16)),
        (scale(0.0), torch.zeros(5, 16)),
        (scale(-2.0), -2 * before),
        (project_out(basis), before - before @ basis @ basis.T),
        (on_units(slice(8, 16), scale(0.0)), torch.cat([before[:, :8], torch.zeros(5, 8)], dim=1)),
    ]
    for change, after in expected:
        with intervene(model, SITE, change, WHERE):
            assert torch.allclose(seen(model, SITE), after, atol=1e-5)
    assert torch.allclose(seen(model, SITE), before, atol=1e-6)


def test_interventions_nest_and_the_later_one_sees_what_the_earlier_left() -> None:
    model, before, vector = network("llama"), seen(network("llama"), SITE), random(16)
    with intervene(model, SITE, add(vector), WHERE), intervene(model, SITE, scale(2.0), WHERE):
        assert torch.allclose(seen(model, SITE), 2 * (before + vector), atol=1e-5)
    with intervene(model, SITE, scale(2.0), WHERE), intervene(model, SITE, add(vector), WHERE):
        assert torch.allclose(seen(model, SITE), 2 * before + vector, atol=1e-5)
    assert n_hooks(model) == n_hooks(network("llama"))


@pytest.mark.filterwarnings("ignore")  # of TransformerLens about itself
def test_an_intervention_is_transformer_lens_own() -> None:
    model, vector = network("gpt2"), random(16)
    with intervene(model, SITE, add(vector)):
        ours = logits(model)
    hook = lambda x, hook: x + vector  # noqa: E731
    with torch.no_grad():
        theirs = transformer_lens_view(model).run_with_hooks(
            tokens(), prepend_bos=False, fwd_hooks=[(SITE, hook)]
        )
    assert torch.allclose(ours, theirs, atol=1e-4)
    untouched = read_with_transformer_lens(model, tokens(), [SITE])[SITE]
    assert torch.allclose(untouched[WHERE], seen(model, SITE), atol=1e-5)


def test_gradients_pass_through_it() -> None:
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


def test_it_is_gone_after_an_exception() -> None:
    model = network("gpt2")
    with pytest.raises(KeyError), intervene(model, SITE, scale(0.0)):
        raise KeyError
    assert n_hooks(model) == n_hooks(network("gpt2"))


def test_what_does_not_fit_is_an_error() -> None:
    model = network("gpt2")
    with (
        pytest.raises(ValueError, match=r"'blocks.0.hook_resid_past' does not exist.*did you mean"),
        intervene(model, "blocks.0.hook_resid_past", scale(0.0)),
    ):
        raise AssertionError
    with (
        pytest.raises(RuntimeError, match="never took place: no forward passed there"),
        intervene(model, SITE, scale(0.0)),
    ):
        pass
    for where, rows in ((WHERE[:4], slice(0, 5)), (WHERE, slice(0, 4)), (WHERE[:, :11], slice(0, 5))):
        with (
            pytest.raises(ValueError, match=r"a forward of \d rows and 12 positions; expected"),
            intervene(model, SITE, scale(0.0), where),
        ):
            logits(model, tokens()[rows])
    with (
        pytest.raises(ValueError, match=r"the change returned \(5, 15\), expected \(5, 16\)"),
        intervene(model, SITE, lambda x: x[:, 1:], WHERE),
    ):
        logits(model)
    with (
        pytest.raises(ValueError, match=r"set_to: \(4, 16\) values for \(5, 16\)"),
        intervene(model, SITE, set_to(random(4, 16)), WHERE),
    ):
        logits(model)
    with (
        pytest.raises(ValueError, match=r"add: \(15,\) to \(5, 16\)"),
        intervene(model, SITE, add(random(15)), WHERE),
    ):
        logits(model)
    with pytest.raises(ValueError, match="expected orthonormal columns"):
        project_out(random(16, 3))
    assert n_hooks(model) == n_hooks(network("gpt2"))
