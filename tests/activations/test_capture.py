"""Captured activations belong to their positions, whatever the batch size, and hooks are always removed."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from makebreak.activations import capture, site_names, stream
from tests.activations.networks import ARCHITECTURES, D_VOCAB, N_CTX, n_hooks, network, tokens

POSITION = torch.tensor([0, 11, 4, 7, 4])
WHERE = torch.arange(N_CTX) == POSITION[:, None]


def collect(
    model: PreTrainedModel, sites: list[str], ids: Tensor | None = None, size: int = 512
) -> dict[str, Tensor]:
    ids = tokens() if ids is None else ids
    parts = [batch.activations for batch in capture(model, ids, sites, WHERE, batch_size=size)]
    return {site: torch.cat([p[site] for p in parts]) for site in sites}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_later_tokens_do_not_change_activations(architecture: str) -> None:
    """Activations depend on the token at their position, and not on those after it."""
    model = network(architecture)
    names = site_names(model)
    after = torch.arange(N_CTX) > POSITION[:, None]
    plain, padded = collect(model, names), collect(model, names, tokens().masked_fill(after, 3))
    replaced = collect(model, names, torch.where(WHERE, (tokens() + 1) % D_VOCAB, tokens()))
    for name in names:
        assert torch.allclose(plain[name], padded[name], atol=1e-5), name
        assert not torch.allclose(plain[name], replaced[name], atol=1e-2), name


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_batch_size_changes_nothing(architecture: str) -> None:
    model = network(architecture)
    names = site_names(model)
    whole = collect(model, names)
    for size in (1, 2, 5):
        parts = collect(model, names, size=size)
        assert all(torch.allclose(whole[name], parts[name], atol=1e-5) for name in names)
    batches = list(capture(model, tokens(), names, WHERE, batch_size=2))
    assert [batch.rows.tolist() for batch in batches] == [[0, 1], [2, 3], [4]]
    assert torch.equal(torch.cat([batch.positions for batch in batches]), POSITION)


def test_activations_are_copies_without_gradient() -> None:
    model = network("gpt2")
    activations = collect(model, ["blocks.0.hook_resid_post"])["blocks.0.hook_resid_post"]
    assert not activations.requires_grad
    before = collect(model, ["blocks.1.hook_resid_pre"])["blocks.1.hook_resid_pre"]
    activations.zero_()
    assert torch.equal(collect(model, ["blocks.1.hook_resid_pre"])["blocks.1.hook_resid_pre"], before)


def test_hooks_are_always_removed() -> None:
    """No hook is left after use, after an iterator that is closed early, and after an exception."""
    model = network("gpt2")
    clean = n_hooks(model)
    collect(model, site_names(model))
    assert n_hooks(model) == clean
    batches = capture(model, tokens(), site_names(model), WHERE, batch_size=2)
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
    ("architecture", "site", "nearest"),
    [
        ("gpt2", "blocks.0.mlp.hook_pots", "blocks.0.mlp.hook_post"),
        ("gpt2", "blocks.1.mlp.hook_pre_linear", "blocks.1.mlp.hook_pre"),  # llama has it
        ("llama", "blocks.1.hook_resid_past", "blocks.1.hook_resid_post"),
        ("llama", "blocks.2.hook_resid_post", "blocks.[01].hook_resid_post"),
    ],
)
def test_unknown_site_suggests_the_nearest(architecture: str, site: str, nearest: str) -> None:
    with pytest.raises(
        ValueError, match=f"site '{site}' does not exist in this .*; did you mean '{nearest}'"
    ):
        collect(network(architecture), [site])


def test_no_site_is_an_error() -> None:
    with pytest.raises(ValueError, match="no site was named"):
        collect(network("gpt2"), [])


@pytest.mark.parametrize("where", [WHERE[:4], WHERE[:, :11], torch.zeros_like(WHERE)])
def test_positions_that_do_not_fit_are_an_error(where: Tensor) -> None:
    unchecked = inspect.unwrap(capture)  # type checks of tests would come first
    with pytest.raises(ValueError, match=r"where: expected at least one position of \(5, 12\)"):
        next(unchecked(network("gpt2"), tokens(), ["blocks.0.mlp.hook_in"], where))


def test_unknown_model_type_is_an_error() -> None:
    model = network("gpt2")
    model.config.model_type = "mamba"
    with pytest.raises(
        ValueError, match="model type 'mamba' has no architecture: expected one of gpt2, llama"
    ):
        site_names(model)


class TwiceCalledMlp(nn.Module):
    """MLP that calls its first linear map twice."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.c_fc, self.c_proj, self.act = inner.c_fc, inner.c_proj, inner.act

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(self.act(self.c_fc(x) + self.c_fc(-x)))


def test_hook_that_never_fires_is_an_error() -> None:
    model = network("gpt2")
    mlp = model.transformer.h[1].mlp
    model.transformer.h[1].mlp.forward = lambda x: x  # c_fc is never called
    assert mlp.c_fc is model.get_submodule("transformer.h.1.mlp.c_fc")
    with pytest.raises(RuntimeError, match=r"hooks at \['blocks.1.mlp.hook_pre'\] never fired"):
        collect(model, ["blocks.0.mlp.hook_pre", "blocks.1.mlp.hook_pre"])
    assert n_hooks(model) == n_hooks(network("gpt2"))


def test_hook_that_fires_twice_is_an_error() -> None:
    model = network("gpt2")
    model.transformer.h[0].mlp = TwiceCalledMlp(model.transformer.h[0].mlp)
    with pytest.raises(RuntimeError, match=r"hook at blocks.0.mlp.hook_pre fired twice"):
        collect(model, ["blocks.0.mlp.hook_pre"])
    assert n_hooks(model) == n_hooks(network("gpt2"))
    assert collect(model, ["blocks.0.mlp.hook_post"])["blocks.0.mlp.hook_post"].shape == (5, 40)


def test_stream_and_capture_agree() -> None:
    """Consumers of `stream` receive, batch by batch, the activations and rows that `capture` collects."""
    model, where = network("gpt2"), torch.rand(5, N_CTX, generator=torch.Generator().manual_seed(2)) < 0.4
    where[3] = False  # a row without a chosen position
    sites = ["blocks.0.mlp.hook_post", "blocks.1.hook_resid_post"]
    [whole] = capture(model, tokens(), sites, where)
    received: dict[str, list[tuple[Tensor, Tensor]]] = {site: [] for site in sites}
    stream(
        model,
        tokens(),
        {s: lambda x, rows, s=s: received[s].append((x, rows)) for s in sites},
        where,
        batch_size=2,
    )
    for site in sites:
        parts = received[site]
        assert [len(x) for x, _ in parts] == [
            int(where[:2].sum()),
            int(where[2:4].sum()),
            int(where[4:].sum()),
        ]
        assert torch.allclose(torch.cat([x for x, _ in parts]), whole.activations[site], atol=1e-5)
        assert torch.equal(torch.cat([rows for _, rows in parts]), whole.rows)
    assert torch.equal(torch.stack([whole.rows, whole.positions], dim=1), where.nonzero())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_padding_changes_nothing(architecture: str) -> None:
    """Masked padding on either side changes no activation; unmasked padding on the left does."""
    model, ids = network(architecture), tokens()[:, :8]
    sites = ["blocks.0.hook_attn_out", "blocks.1.hook_resid_post"]
    pad = torch.full((5, 4), 3)
    real = torch.ones_like(ids, dtype=torch.bool)
    none = torch.zeros_like(pad, dtype=torch.bool)
    last = torch.arange(8).expand(5, 8) == 7
    [plain] = capture(model, ids, sites, last)
    for sides, where in (
        ((none, real), torch.cat([none, last], 1)),
        ((real, none), torch.cat([last, none], 1)),
    ):
        left = not sides[0].any()
        padded = torch.cat([pad, ids] if left else [ids, pad], dim=1)
        [masked] = capture(model, padded, sites, where, mask=torch.cat(sides, dim=1))
        [unmasked] = capture(model, padded, sites, where)
        for site in sites:
            assert torch.allclose(masked.activations[site], plain.activations[site], atol=1e-5), (site, left)
        same = torch.allclose(unmasked.activations[sites[1]], plain.activations[sites[1]], atol=1e-3)
        assert same != left  # padding on the left that is not masked is attended to


def test_a_padded_position_is_an_error() -> None:
    mask = torch.arange(N_CTX).expand(5, N_CTX) < 8
    with pytest.raises(ValueError, match=r"positions of real tokens only.*some are padding"):
        next(capture(network("gpt2"), tokens(), ["blocks.0.mlp.hook_in"], WHERE, mask=mask))
