"""Log-probabilities are those of the supervised tokens alone, whatever the batch size and the padding."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

import synthetic
from makebreak.models import MODEL_SIZES, ModelConfig, create_model
from makebreak.prompts import Sequences, sequences
from makebreak.training import mean_cross_entropy, sequence_log_probs
from makebreak.training.pretraining import mode_sequences

WORLD = synthetic.load("mini")
CONFIGS = {
    "gpt2": MODEL_SIZES["tiny"],
    "llama": ModelConfig("llama", n_layers=2, n_heads=2, d_model=32, d_mlp=128),
}


@pytest.fixture(params=list(CONFIGS))
def model(request: pytest.FixtureRequest):
    network = create_model(
        CONFIGS[request.param], d_vocab=len(WORLD.vocabulary), n_ctx=WORLD.sequence_length, seed=0
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for (
            parameter
        ) in network.parameters():  # far from uniform, so that every token has a probability of its own
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return network.eval()


@pytest.fixture(scope="module")
def batch() -> Sequences:
    """Eight requests in five modes: the rows supervise 9 to 27 tokens in different places."""
    in_modes = mode_sequences(
        WORLD, WORLD.sample("pretraining_without_null", 8, seed=1000), np.array([0, 1, 2, 3, 4, 0, 1, 3])
    )
    assert len(set(in_modes.supervised.sum(dim=1).tolist())) >= 3
    return in_modes


def rows(batch: Sequences, keep: slice) -> Sequences:
    return Sequences(batch.tokens[keep], batch.supervised[keep], batch.decision[keep])


def oracle(model, batch: Sequences) -> list[float]:
    """float64, one row and one target at a time, the model seeing nothing but the tokens before the
    target.
    """
    precise, sums = copy.deepcopy(model).double(), []
    for tokens, supervised in zip(batch.tokens.tolist(), batch.supervised.tolist(), strict=True):
        total = 0.0
        for position in range(1, len(tokens)):
            if supervised[position]:
                with torch.no_grad():
                    logits = precise(input_ids=torch.tensor([tokens[:position]]), use_cache=False).logits[
                        0, -1
                    ]
                total += (logits[tokens[position]] - logits.exp().sum().log()).item()
        sums.append(total)
    return sums


def test_log_probs_are_those_of_a_loop(model, batch: Sequences) -> None:
    expected = oracle(model, batch)
    for network in (model, copy.deepcopy(model).double()):
        sums, counts = sequence_log_probs(network, batch)
        assert sums.tolist() == pytest.approx(expected, rel=2e-6)
        assert counts.tolist() == batch.supervised.sum(dim=1).tolist()
    assert max(expected) < -9 * np.log(2), "a sum over tokens, not a mean"
    assert np.ptp(expected) > 1
    mean = mean_cross_entropy(model, batch).item()
    assert mean == pytest.approx(-sum(expected) / int(batch.supervised.sum()), rel=2e-6)


def test_one_batch_is_its_rows(model, batch: Sequences) -> None:
    sums, counts = sequence_log_probs(model, batch)
    mean_cross_entropy(model, batch).backward()
    together = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    for i in range(8):
        one, count = sequence_log_probs(model, rows(batch, slice(i, i + 1)))
        assert one.item() == pytest.approx(sums[i].item(), abs=1e-4, rel=1e-6)
        assert count.item() == counts[i].item()
        (-one.sum() / counts.sum()).backward()
    for parameter, expected in zip(model.parameters(), together, strict=True):
        assert torch.allclose(parameter.grad, expected, atol=1e-6, rtol=1e-4)
    assert any(gradient.abs().max() > 1e-2 for gradient in together)


def test_the_mean_is_over_tokens_not_over_rows(model, batch: Sequences) -> None:
    sums, counts = (part.double() for part in sequence_log_probs(model, batch))
    over_rows = -(sums / counts).mean().item()
    assert abs(mean_cross_entropy(model, batch).item() - over_rows) > 1e-3


def with_noise(batch: Sequences, where: Tensor) -> Sequences:
    generator = torch.Generator().manual_seed(2)
    noise = torch.randint(len(WORLD.vocabulary), batch.tokens.shape, generator=generator)
    return Sequences(torch.where(where, noise, batch.tokens), batch.supervised, batch.decision)


def test_tokens_after_the_targets_do_not_count(model) -> None:
    batch = sequences(WORLD, WORLD.sample("safe", 8, seed=1000), "instructed")
    sums = sequence_log_probs(model, batch)[0]
    last = batch.supervised.int().argmax(dim=1) + batch.supervised.sum(dim=1) - 1
    column = torch.arange(batch.tokens.shape[1])
    after, before = column > last[:, None], (column < 9) & (column > 5)
    assert torch.allclose(sequence_log_probs(model, with_noise(batch, after))[0], sums, atol=1e-4, rtol=0)
    assert not torch.allclose(
        sequence_log_probs(model, with_noise(batch, before))[0], sums, atol=1e-2, rtol=0
    )
    width = int(last.max()) + 1
    assert width < batch.tokens.shape[1]
    cut = Sequences(batch.tokens[:, :width], batch.supervised[:, :width], batch.decision)
    assert torch.allclose(sequence_log_probs(model, cut)[0], sums, atol=1e-4, rtol=0)


def test_nothing_supervised_is_an_error(model, batch: Sequences) -> None:
    nothing = torch.zeros_like(batch.supervised)
    for mask in (
        nothing,
        nothing.index_fill(1, torch.tensor([0]), True),
    ):  # nothing comes before the first token
        with pytest.raises(ValueError, match=f"nothing to supervise: none of {8 * 33} targets"):
            sequence_log_probs(model, batch.supervise(mask))
        with pytest.raises(ValueError, match="nothing to supervise"):
            mean_cross_entropy(model, batch.supervise(mask))
    one = nothing.clone()
    one[3, 20] = True
    sums, counts = sequence_log_probs(model, batch.supervise(one))
    assert counts.tolist() == [0, 0, 0, 1, 0, 0, 0, 0]
    assert [value != 0 for value in sums.tolist()] == [False, False, False, True, False, False, False, False]


def test_shared_prefix_is_processed_once(model, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of one is never read apart; so one by one is the oracle, of values and of gradients."""
    model.double()
    requests = WORLD.sample("safe", 6, seed=3)
    requests.prompt[:, :5] = requests.prompt[:1, :5]
    batch = sequences(WORLD, requests, "instructed", whole=True)
    reads = []
    model.base_model.register_forward_pre_hook(
        lambda _, arguments, message: reads.append(message["input_ids"].shape), with_kwargs=True
    )

    def read() -> tuple[Tensor, list[Tensor]]:
        model.zero_grad()
        values = sequence_log_probs(model, batch)[0]
        values.square().sum().backward()
        return values.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]

    plain, slopes = read()
    assert len(reads) == 1
    monkeypatch.setattr("makebreak.training.losses.MIN_SHARED_PREFIX", 4)
    shared, others = read()
    first, rest = reads[1:]
    assert first[0] == 1
    assert first[1] >= 5
    assert rest == (6, reads[0][1] - first[1])
    single = torch.cat(
        [
            sequence_log_probs(model, Sequences(*(c[i : i + 1] for c in vars(batch).values())))[0]
            for i in range(6)
        ]
    )
    assert torch.allclose(plain, shared, atol=1e-5)
    assert torch.allclose(single, shared, atol=1e-5)
    assert all(torch.allclose(a, b, atol=1e-4, rtol=1e-4) for a, b in zip(slopes, others, strict=True))
