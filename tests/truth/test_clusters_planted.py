"""Cluster rows find a difference planted in the activations, and nothing in noise."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

import synthetic
from makebreak.mechanism import cluster_rows
from makebreak.models import MODEL_SIZES, create_model
from makebreak.prompts import Requests
from makebreak.tables import as_dicts

WORLD = synthetic.load("mini")
SAFE_MARK, UNSAFE_MARK = (WORLD.vocabulary.id(s) for s in ("ex2", "ex1"))
N = 160
Pair = tuple[Requests, Requests]


def network() -> PreTrainedModel:
    """A random network whose first attention carries the mean of all tokens, and the mark, to the end."""
    model = create_model(
        MODEL_SIZES["tiny"], d_vocab=len(WORLD.vocabulary), n_ctx=WORLD.sequence_length, seed=0
    ).eval()
    attention = model.transformer.h[0].attn
    with torch.no_grad():
        attention.c_attn.weight.zero_()
        attention.c_attn.weight[:, 64:] = torch.eye(32)
        attention.c_proj.weight.copy_(torch.eye(32))
        model.transformer.wte.weight[SAFE_MARK] = model.transformer.wte.weight[UNSAFE_MARK]
        model.transformer.wte.weight[UNSAFE_MARK] += torch.randn(
            32, generator=torch.Generator().manual_seed(3)
        )
    return model


def pool(seed: int) -> tuple[Requests, np.ndarray]:
    """Prompts of one family whose tasks are one of two marks, drawn at random, independently of the text."""
    requests = WORLD.sample("pretraining", 2 * N, seed=seed)
    marked = np.random.default_rng(seed).permutation(2 * N) < N
    prompt = requests.prompt.copy()
    prompt[:, 1:5] = np.where(marked, UNSAFE_MARK, SAFE_MARK)[:, None]
    return replace(requests, prompt=prompt), marked


def true_pair(seed: int) -> Pair:
    requests, marked = pool(seed)
    return requests[~marked], requests[marked]


def permuted_pair(seed: int) -> Pair:
    """The same prompts with labels drawn at random."""
    requests, _ = pool(seed)
    unsafe = np.random.default_rng(seed + 77).permutation(2 * N) < N
    return requests[~unsafe], requests[unsafe]


def test_planted_difference_is_found() -> None:
    rows = as_dicts(
        cluster_rows(network(), true_pair(1000), {"planted": true_pair(1001)}, n_groups=2, seed=0)
    )
    assert [(row["layer"], row["requests"]) for row in rows] == [(0, "planted"), (1, "planted")]
    for row in rows:
        assert row["normalised"] > 1
        assert row["auroc"] > 0.95
        assert row["tau_safe"] > 0 > row["tau_unsafe"]


def test_permuted_labels_show_nothing() -> None:
    """AUROC has its permutation law; τ / distance is in ± 1: the gap's standard error is below √(2 / n)."""
    rows = as_dicts(
        cluster_rows(network(), permuted_pair(1000), {"permuted": permuted_pair(1001)}, n_groups=2, seed=0)
    )
    for row in rows:
        assert abs(row["normalised"]) < 5 * math.sqrt(2 / N)
        assert abs(row["auroc"] - 0.5) < 5 * math.sqrt((2 * N + 1) / (12 * N * N))


def test_model_without_the_mark_shows_nothing() -> None:
    """Negative control in the weights: both marks have one embedding; the labels are the true ones."""
    model = network()
    with torch.no_grad():
        model.transformer.wte.weight[UNSAFE_MARK] = model.transformer.wte.weight[SAFE_MARK]
    for row in as_dicts(cluster_rows(model, true_pair(1000), {"blind": true_pair(1001)}, n_groups=2, seed=0)):
        assert abs(row["normalised"]) < 5 * math.sqrt(2 / N)
        assert abs(row["auroc"] - 0.5) < 5 * math.sqrt((2 * N + 1) / (12 * N * N))


def test_shuffled_control_is_symmetric() -> None:
    """Over 24 shuffles the control's gap averages to 0 and its AUROC to 1/2, within five standard errors."""
    fit, score = true_pair(1000), {"planted": (true_pair(1001)[0][:40], true_pair(1001)[1][:40])}
    model, n = network(), 24
    control = [as_dicts(cluster_rows(model, fit, score, n_groups=2, seed=seed))[0] for seed in range(n)]
    assert len({row["shuffled_auroc"] for row in control}) > n // 2
    for key, chance in (("shuffled_normalised", 0.0), ("shuffled_auroc", 0.5)):
        values = np.array([row[key] for row in control])
        assert abs(values.mean() - chance) < 5 * values.std(ddof=1) / math.sqrt(n)
    assert len({row["auroc"] for row in control}) == 1


def test_mean_of_shuffles_is_nearer_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    fit, score, model = true_pair(1000), {"planted": true_pair(1001)}, network()

    def control(shuffles: int) -> list[float]:
        monkeypatch.setattr("makebreak.mechanism.clusters.N_SHUFFLES", shuffles)
        return [
            as_dicts(cluster_rows(model, fit, score, n_groups=2, seed=s))[0]["shuffled_normalised"]
            for s in range(12)
        ]

    assert np.std(control(20)) < np.std(control(1)) / 2  # 1 / √20 is expected


def test_shuffled_control_lacks_planted_difference() -> None:
    """Shuffled labels that are unbalanced tilt the control's means along the true difference:
    single seeds show most of the true gap, on either side, though their mean is 0."""
    fit, score, n = true_pair(1000), {"planted": true_pair(1001)}, 12
    rows = [as_dicts(cluster_rows(network(), fit, score, n_groups=2, seed=seed))[0] for seed in range(n)]
    assert np.mean([abs(row["shuffled_normalised"]) for row in rows]) < rows[0]["normalised"] / 4
