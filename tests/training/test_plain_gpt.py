"""The models that training speed is compared with do the same work as ours, or that of the reference."""

from __future__ import annotations

import math
from dataclasses import asdict

import pytest
import torch
from torch import Tensor

import synthetic
from makebreak.models import MODEL_SIZES, ModelConfig, create_model
from makebreak.training import Optimisation, Pretraining, TrainingRun, mean_cross_entropy, train
from tests.oracles.plain_gpt import PlainGPT, adamw, cross_entropy, inputs_and_targets, train_step
from tests.oracles.reference_gpt import (
    MaskedAttention,
    NormReplacingBlock,
    ReferenceGPT,
    dense_masks,
    sinusoids,
)

WORLD = synthetic.load("mini")
SIZES = {name: value for name, value in asdict(MODEL_SIZES["tiny"]).items() if name != "architecture"}
VOCABULARY = {"d_vocab": len(WORLD.vocabulary), "n_ctx": WORLD.sequence_length}
NAMES = {
    "transformer.wte": "token",
    "transformer.wpe": "position",
    "transformer.h": "blocks",
    "attn.c_attn": "attention.qkv",
    "attn.c_proj": "attention.out",
    "mlp.c_fc": "mlp.0",
    "mlp.c_proj": "mlp.2",
    "transformer.ln_f": "ln_f",
    "lm_head": "head",
}


def as_plain(name: str, tensor: Tensor) -> tuple[str, Tensor]:
    """Name and orientation in PlainGPT of a tensor of GPT2LMHeadModel, which stores matrices transposed."""
    is_transposed = name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight"))
    for theirs, ours in NAMES.items():
        name = name.replace(theirs, ours)
    return name, tensor.T if is_transposed else tensor


def pair(config: ModelConfig = MODEL_SIZES["tiny"]):
    """Our model, of weights large enough that every path counts, and the plain one with the same weights."""
    ours = create_model(config, seed=0, **VOCABULARY)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    plain = PlainGPT(**VOCABULARY, **SIZES)
    plain.load_state_dict(dict(as_plain(name, p.detach()) for name, p in ours.named_parameters()))
    return ours, plain


def test_plain_gpt_has_our_loss_and_gradients() -> None:
    ours, plain = pair()
    batch = Pretraining().batch(WORLD, size=16, step=0, steps=10, seed=1000)
    inputs, targets = inputs_and_targets(batch.tokens, batch.supervised)
    losses = mean_cross_entropy(ours, batch), cross_entropy(plain(inputs), targets)
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-5)
    for loss in losses:
        loss.backward()
    expected = {name: p.grad for name, p in plain.named_parameters()}
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None
        plain_name, gradient = as_plain(name, parameter.grad)
        torch.testing.assert_close(gradient, expected.pop(plain_name), rtol=1e-4, atol=1e-5, msg=name)
    assert not expected


def test_plain_step_equals_a_step_of_our_loop(tmp_path) -> None:
    """The same optimiser, decay and clipping: the weights after three steps agree."""
    ours, plain = pair()
    optimisation = Optimisation(3, 1e-3, batch_size=8, warmup_share=0.0, final_share=1.0)
    train(ours, Pretraining(), optimisation, WORLD, tmp_path, TrainingRun(seed=1000, label="a test"))
    optimiser = adamw(plain)
    for step in range(3):
        batch = Pretraining().batch(WORLD, size=8, step=step, steps=3, seed=1000)
        inputs, targets = inputs_and_targets(batch.tokens, batch.supervised)
        train_step(plain, optimiser, (inputs,), targets)
    after = plain.state_dict()
    for name, parameter in ours.named_parameters():
        plain_name, weights = as_plain(name, parameter.detach())
        if not name.endswith(
            "c_attn.bias"
        ):  # keys' biases have no gradient: Adam would magnify rounding errors
            torch.testing.assert_close(weights, after[plain_name], rtol=1e-4, atol=2e-5, msg=name)


def identity_block() -> NormReplacingBlock:
    """One head, all matrices the identity and all biases 0, so that every number is known by hand."""
    block = NormReplacingBlock(d_model=2, n_heads=1, d_mlp=2)
    with torch.no_grad():
        for name, parameter in block.named_parameters():
            if not name.startswith("ln_1"):
                parameter.copy_(torch.eye(2) if parameter.ndim == 2 else torch.zeros(2))
    return block


def gelu(x: float) -> float:
    return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def test_block_replaces_the_stream_by_its_norm() -> None:
    """(3, 1) → LN (1, -1) → + attention, to itself alone: (2, -2) → + MLP, without a norm: (2 + gelu(2),
    …).
    """
    output = identity_block()(torch.tensor([[[3.0, 1.0]]]), dense_masks(1, 1))
    expected = torch.tensor([[[2 + gelu(2), -2 + gelu(-2)]]])
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-4)  # LayerNorm's ε is 1e-5


def test_masked_attention_by_hand() -> None:
    """LN of (3, 1) and (1, 3) is (1, -1) and (-1, 1): scores at the second ∓2 / √2, a softmax of two."""
    attention = identity_block().attention
    x = torch.tensor([[[1.0, -1.0], [-1.0, 1.0]]])
    weight = 1 / (1 + math.exp(-4 / math.sqrt(2)))
    expected = torch.tensor([[[1.0, -1.0], [1 - 2 * weight, 2 * weight - 1]]])
    assert isinstance(attention, MaskedAttention)
    torch.testing.assert_close(attention(x, dense_masks(1, 2)), expected)


def test_positions_are_sinusoids() -> None:
    table = sinusoids(3, 4)
    assert table[0].tolist() == [0, 1, 0, 1]
    expected = [math.sin(2), math.cos(2), math.sin(2 / 100), math.cos(2 / 100)]
    torch.testing.assert_close(table[2], torch.tensor(expected))


def test_reference_model_is_causal_and_of_size() -> None:
    """Jain et al. 2024: 2 692 224 parameters at 59 symbols, 2 304 of them in norms that the blocks do not
    use.
    """
    model = ReferenceGPT(d_vocab=59, n_ctx=159, n_layers=6, n_heads=6, d_model=192, d_mlp=768)
    unused = 6 * 2 * 192
    assert sum(p.numel() for p in model.parameters()) == 2_692_224 - unused
    tokens = torch.randint(59, (1, 9), generator=torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[0, 5:] = (changed[0, 5:] + 1) % 59
    one, two = (model(t, dense_masks(1, 9)) for t in (tokens, changed))
    torch.testing.assert_close(one[:, :5], two[:, :5])
    assert not torch.allclose(one[:, 5:], two[:, 5:])
