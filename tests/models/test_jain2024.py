"""The network of Jain et al. 2024 against a literal re-statement of the reference's equations."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations import PrefixCache, capture, forward, intervene, project, scale, site_names
from makebreak.architectures import (
    architecture_of,
    check_architecture,
    registered_architectures,
    registry,
)
from makebreak.architectures.forward_check import forward_problems
from makebreak.mechanism import ablate_directions, ablate_weights
from makebreak.models import MODEL_SIZES, create_model, load_model, save_model, stitch_models
from makebreak.training import SSFT, Member, Optimisation, TrainingRun, train, train_stack
from synthetic import load
from tests.architectures.matrix import LENGTHS, N_SHARED, prompts

WORLD = load("mini")
CONFIG = replace(MODEL_SIZES["jain2024"], n_layers=3, n_heads=2, d_model=16, d_mlp=64)
D_VOCAB, N_CTX = 64, 40


def network(seed: int = 0, config=CONFIG, d_vocab: int = D_VOCAB, n_ctx: int = N_CTX) -> PreTrainedModel:
    """A network whose parameters, biases and gains among them, all matter."""
    model = create_model(config, d_vocab=d_vocab, n_ctx=n_ctx, seed=seed).eval()
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=random) * 0.2)
    return model


def reference_logits(state: dict[str, Tensor], tokens: list[int], *, n_layers: int, n_heads: int) -> Tensor:
    """§3 of the reference, one sequence at a time, head by head, from the parameters alone."""

    def norm(x: Tensor, name: str) -> Tensor:
        mean = x.mean(dim=1, keepdim=True)
        variance = ((x - mean) ** 2).mean(dim=1, keepdim=True)
        return (x - mean) / torch.sqrt(variance + 1e-5) * state[f"{name}.weight"] + state[f"{name}.bias"]

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ state[f"{name}.weight"] + state[f"{name}.bias"]

    embeddings = state["transformer.wte.weight"]
    d_model = embeddings.shape[1]
    rows = []
    for position, token in enumerate(tokens):
        row = embeddings[token].clone()
        for i in range(d_model // 2):
            angle = position / 10_000 ** (2 * i / d_model)
            row[2 * i] += math.sin(angle)
            row[2 * i + 1] += math.cos(angle)
        rows.append(row)
    x, size = torch.stack(rows), d_model // n_heads
    for layer in range(n_layers):
        block = f"transformer.h.{layer}"
        x = norm(x, f"{block}.ln_1")
        query, key, value = linear(x, f"{block}.attn.c_attn").split(d_model, dim=1)
        outputs = []
        for head in range(n_heads):
            q, k, v = (part[:, head * size : (head + 1) * size] for part in (query, key, value))
            scores = q @ k.T / math.sqrt(size)
            scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -math.inf)
            outputs.append(scores.softmax(dim=1) @ v)
        x = x + linear(torch.cat(outputs, dim=1), f"{block}.attn.c_proj")
        u = linear(x, f"{block}.mlp.c_fc")
        gelu = 0.5 * u * (1 + torch.tanh(math.sqrt(2 / math.pi) * (u + 0.044715 * u**3)))
        x = x + linear(gelu, f"{block}.mlp.c_proj")
    return norm(x, "transformer.ln_f") @ state["lm_head.weight"].T


@pytest.mark.parametrize("size", ["small", "jain2024"])
def test_logits_are_those_of_the_equations(size: str) -> None:
    config = CONFIG if size == "small" else MODEL_SIZES["jain2024"]
    model = network(1, config)
    tokens = torch.randint(D_VOCAB, (17,), generator=torch.Generator().manual_seed(2)).tolist()
    state = {name: value.double() for name, value in model.state_dict().items()}
    expected = reference_logits(state, tokens, n_layers=config.n_layers, n_heads=config.n_heads)
    with torch.no_grad():
        logits = model.double()(input_ids=torch.tensor([tokens])).logits[0]
    assert (logits - expected).abs().max() <= 1e-6
    other = create_model(replace(config, architecture="gpt2"), d_vocab=D_VOCAB, n_ctx=N_CTX, seed=0).eval()
    other.load_state_dict(model.float().state_dict(), strict=False)
    with torch.no_grad():
        assert (other(input_ids=torch.tensor([tokens])).logits[0] - expected).abs().max() > 0.01


def test_the_size_is_that_of_the_reference() -> None:
    """2,692,224 parameters at a vocabulary of 59, of which their unused second norms are 6 · 2 · 192."""
    model = create_model(MODEL_SIZES["jain2024"], d_vocab=59, n_ctx=159, seed=0)
    assert model.num_parameters() == 2_692_224 - 6 * 2 * 192
    weights = model.state_dict()
    assert weights["transformer.h.0.attn.c_attn.weight"].std().item() == pytest.approx(0.02, rel=0.02)
    residual = weights["transformer.h.5.mlp.c_proj.weight"].std().item()
    assert residual == pytest.approx(0.02 / math.sqrt(12), rel=0.02)
    assert not any(bias.any() for name, bias in weights.items() if name.endswith("bias"))


def test_all_parameters_get_gradients() -> None:
    model = network().train()
    model(input_ids=torch.arange(20)[None], labels=torch.arange(20)[None]).loss.backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


def test_a_saved_model_is_the_same(tmp_path: Path) -> None:
    symbols = WORLD.vocabulary.symbols
    model = network(d_vocab=len(symbols))
    save_model(model, tmp_path, symbols)
    loaded = load_model(tmp_path, symbols=symbols)
    assert type(loaded) is type(model)
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())
    tokens = torch.arange(12)[None]
    with torch.no_grad():
        assert torch.equal(model(input_ids=tokens).logits, loaded(input_ids=tokens).logits)


def test_batches_masks_caches_and_generation_change_nothing() -> None:
    model, rows, width = network(), [row % D_VOCAB for row in prompts(0)], max(LENGTHS)
    left = torch.stack([torch.nn.functional.pad(row, (width - len(row), 0)) for row in rows])
    right = torch.stack([torch.nn.functional.pad(row, (0, width - len(row))) for row in rows])
    mask = torch.stack([torch.arange(width) >= width - len(row) for row in rows])
    with torch.no_grad():
        expected = [model(input_ids=row[None]).logits[0] for row in rows]
        padded, after = forward(model, left, mask).logits, None
        cache = PrefixCache.shared(model, right, torch.arange(width) < N_SHARED)
        after = forward(model, right[:, N_SHARED:], cache=cache).logits
        for i, row in enumerate(rows):
            torch.testing.assert_close(padded[i, width - len(row) :], expected[i], atol=1e-4, rtol=1e-4)
            part = expected[i][N_SHARED:]
            torch.testing.assert_close(after[i, : len(part)], part, atol=1e-4, rtol=1e-4)
        generator: Any = model
        greedy = [generator.generate(rows[0][None], max_new_tokens=8, use_cache=c) for c in (True, False)]
    assert torch.equal(*greedy)


def test_sites_add_up_and_stitching_takes_both_halves() -> None:
    model, other, tokens = network(), network(5), torch.arange(24).reshape(2, 12)
    assert list(forward_problems(model, architecture_of(model))) == []
    where = torch.ones_like(tokens, dtype=torch.bool)
    with intervene(model, "blocks.1.hook_mlp_out", scale(0.0)):
        [batch] = capture(model, tokens, site_names(model), where)
    sites = batch.activations
    total = sites["blocks.1.ln1.hook_normalized"] + sites["blocks.1.hook_attn_out"]
    torch.testing.assert_close(sites["blocks.1.hook_resid_post"], total)
    assert (sites["blocks.1.hook_resid_pre"] - sites["blocks.1.ln1.hook_normalized"]).abs().max() > 0.1
    stitched = stitch_models(lower=model, upper=other, layer=1)
    with torch.no_grad():
        halves = [m(input_ids=tokens).logits for m in (stitched, model, other)]
    assert min((halves[0] - halves[1]).abs().max(), (halves[0] - halves[2]).abs().max()) > 0.01


def test_a_description_by_which_the_stream_only_adds_up_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    right = registered_architectures()["jain2024"]
    check_architecture(network(1))
    wrong = dict(registered_architectures()) | {"jain2024": replace(right, overwrites_stream=False)}
    monkeypatch.setattr(registry, "_registered", wrong)
    with pytest.raises(ValueError, match=r"hook_resid_post is not the sum of blocks\.0\.hook_resid_pre"):
        check_architecture(network())


def test_ablated_directions_are_absent_everywhere() -> None:
    """The norm that replaces the stream would bring a direction back; weights cannot ablate it."""
    model, tokens = network(), torch.arange(24).reshape(2, 12)
    basis = torch.linalg.qr(torch.randn(16, 1, generator=torch.Generator().manual_seed(3))).Q
    ends = ("mlp.hook_in", "hook_resid_post")
    streams = [f"blocks.{layer}.{site}" for layer in range(3) for site in ends]
    where = torch.ones_like(tokens, dtype=torch.bool)
    with ablate_directions(model, basis):
        [batch] = capture(model, tokens, streams, where)
    assert all((batch.activations[site] @ basis).abs().max() < 1e-4 for site in streams)
    with intervene(model, "blocks.0.hook_resid_pre", project(basis)):
        [batch] = capture(model, tokens, streams, where)
    assert (batch.activations[streams[0]] @ basis).abs().max() > 0.01
    with pytest.raises(ValueError, match="replaces the residual stream by its norm: ablate by hooks"):
        ablate_weights(model, basis)


def test_stacks_train_as_single_runs(tmp_path: Path) -> None:
    optimisation, symbols = Optimisation(4, 1e-2, batch_size=4), WORLD.vocabulary.symbols

    def start(seed: int) -> PreTrainedModel:
        return network(seed, d_vocab=len(symbols), n_ctx=WORLD.sequence_length)

    singles, members = [], []
    for seed in (0, 1):
        run = TrainingRun(seed=seed, label="a test", device=torch.device("cpu"))
        (tmp_path / f"{seed}").mkdir()
        singles.append(train(start(seed), SSFT(), optimisation, WORLD, tmp_path / f"{seed}", run))
        members.append(Member(SSFT(), optimisation, run))
    (tmp_path / "stack").mkdir()
    stack = train_stack([start(seed) for seed in (0, 1)], members, WORLD, tmp_path / "stack")
    for seed, (single, model) in enumerate(zip(singles, stack.models, strict=True)):
        end, other, before = (weights_with_gradient(each) for each in (single, model, start(seed)))
        assert (end - other).norm() < 1e-4 * (end - before).norm()


def weights_with_gradient(model: PreTrainedModel) -> Tensor:
    """All parameters but biases of keys, which softmax ignores, so that only rounding moves them."""
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    for name, value in weights.items():
        if name.endswith("c_attn.bias"):
            value.view(3, -1)[1] = 0
    return torch.cat([value.flatten() for value in weights.values()])
