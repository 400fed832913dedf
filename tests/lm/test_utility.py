"""Loss on plain text: equal to that of transformers, in batches as alone, with intervals over texts."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from makebreak.errors import InvalidInput
from makebreak.evaluation import text_losses
from makebreak.lm import text_loss_rows, utility_rows
from makebreak.models import LanguageModel, ModelConfig, create_model
from makebreak.prompts import encode_prompts, plain_texts
from makebreak.report.utility_text import describe_utility
from makebreak.stats import ratio_interval
from makebreak.store import Store
from makebreak.tables import as_dicts
from tests.fixtures.tiny_lm import byte_level_tokenizer, trained_lm

TEXTS = ["Sure here it is", "make tea now please", "a tea of bread and boats that we paint " * 3]


def random_lm(n_ctx: int = 512) -> LanguageModel:
    tokens = byte_level_tokenizer()
    size = ModelConfig("llama", n_layers=2, n_heads=2, d_model=32, d_mlp=64)
    return LanguageModel("random", create_model(size, d_vocab=len(tokens), n_ctx=n_ctx, seed=0), tokens)


@pytest.mark.parametrize("make", [random_lm, lambda: trained_lm(refuses=True)])
def test_loss_is_that_of_transformers(make) -> None:
    lm = make()
    rows = text_losses(lm, TEXTS)
    for row, text in zip(rows, TEXTS, strict=True):
        [prompt] = encode_prompts(lm.tokenizer, [text], add_special_tokens=True)
        ids = torch.tensor([prompt.ids])
        with torch.no_grad():
            loss = lm.model(input_ids=ids, labels=ids).loss.item()
        assert row.nll == pytest.approx(loss, abs=1e-5)
        assert row.tokens == ids.shape[1] - 1
        [alone] = text_losses(lm, [text])
        assert alone.nll == pytest.approx(row.nll, abs=1e-5)


def test_a_random_model_knows_nothing() -> None:
    """Its loss on our texts is about ln V."""
    lm = random_lm()
    [row] = utility_rows({"nothing": as_dicts(text_losses(lm, plain_texts()))})
    assert row.n == len(plain_texts()) == 40
    assert row.nll == pytest.approx(math.log(len(lm.tokenizer)), abs=0.2)
    assert row.low < row.nll < row.high
    assert row.increase is None


def test_long_texts_are_cut_to_the_context() -> None:
    assert max(row.tokens for row in text_losses(random_lm(n_ctx=16), plain_texts())) == 15
    with pytest.raises(InvalidInput, match="fewer than 2 tokens"):
        text_losses(random_lm(), ["a"])


def test_losses_are_cached(tmp_path: Path) -> None:
    lm, store = random_lm(), Store(tmp_path)
    rows = text_loss_rows(lm, store)
    assert text_loss_rows(lm, Store(tmp_path, read_only=True)) == rows


def test_coverage_of_the_interval_over_texts() -> None:
    """Of a ratio, whose sizes vary with the losses."""
    rng, hits, n_trials = np.random.default_rng(0), 0, 1000
    for _ in range(n_trials):
        sizes = rng.integers(60, 140, 40).astype(float)
        losses = 3 + 0.005 * (sizes - 100) + rng.normal(0, 0.4, 40)
        _, low, high = ratio_interval(losses * sizes, sizes)
        truth = 3 + 0.005 * (np.arange(60, 140) - 99.5) @ np.arange(60, 140) / np.arange(60, 140).sum()
        hits += low <= truth <= high
    assert 0.93 <= hits / n_trials <= 0.97


def test_increase_is_over_the_same_texts() -> None:
    """A shift of every text by the same amount has an interval of width 0, however the texts differ."""
    before = [{"text": i, "tokens": 10 + i, "nll": 2.0 + i} for i in range(5)]
    after = [row | {"nll": row["nll"] + 0.5} for row in before]
    rows = utility_rows({"before": before, "after": after})
    assert rows[1].increase == pytest.approx(0.5)
    assert rows[1].increase_low == pytest.approx(0.5)
    assert rows[0].increase is None
    other_tokens = [row | {"tokens": 7} for row in after]
    assert utility_rows({"before": before, "after": other_tokens})[1].increase is None
    assert "after" in describe_utility(as_dicts(rows))
    assert "(+0.50 [+0.50, +0.50])" in describe_utility(as_dicts(rows))
