"""Cluster and null-share tables have one row per case, and the numbers of a manual computation."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

import synthetic
from makebreak.mechanism import cluster_rows, null_share_rows
from makebreak.models import MODEL_SIZES, ModelConfig, create_model
from makebreak.prompts import OUTCOMES, Requests
from makebreak.tables import as_dicts

WORLD = synthetic.load("mini")
LLAMA = ModelConfig("llama", n_layers=2, n_heads=2, d_model=32, d_mlp=64)


def network(seed: int, config: ModelConfig = MODEL_SIZES["tiny"]) -> PreTrainedModel:
    model = create_model(config, d_vocab=len(WORLD.vocabulary), n_ctx=WORLD.sequence_length, seed=seed).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model


def post_at_eot(model: PreTrainedModel, layer: int, requests: Requests) -> np.ndarray:
    """Inputs of the last matrix of the MLP at the end of text, one request at a time."""
    activations: list[Tensor] = []
    handle = model.transformer.h[layer].mlp.c_proj.register_forward_pre_hook(
        lambda _, args: activations.append(args[0][0, -1])
    )
    for prompt, length in zip(requests.prompt, requests.prompt_length, strict=True):
        assert WORLD.vocabulary.symbols[prompt[length - 1]] == "<eot>"
        with torch.no_grad():
            model(input_ids=torch.from_numpy(prompt[None, :length]))
    handle.remove()
    return torch.stack(activations).double().numpy()


def test_cluster_rows_equal_manual_computation() -> None:
    model = network(1)
    fit = tuple(WORLD.sample(f, 30, seed=1000, split="fit") for f in ("safe", "unsafe"))
    score = tuple(WORLD.sample(f, 20, seed=1000, split="score") for f in ("safe", "unsafe"))
    rows = as_dicts(
        cluster_rows(model, (fit[0], fit[1]), {"standard": (score[0], score[1])}, n_groups=2, seed=0)
    )
    assert len(rows) == 2
    for layer, row in enumerate(rows):
        means = []
        for requests in fit:
            a, grammar = post_at_eot(model, layer, requests), requests.truth["grammar"]
            means.append((a[grammar == 0].mean(axis=0) + a[grammar == 1].mean(axis=0)) / 2)
        tau = []
        for requests in score:
            a = post_at_eot(model, layer, requests)
            tau.append(np.linalg.norm(a - means[1], axis=1) - np.linalg.norm(a - means[0], axis=1))
        gap = tau[0].mean() - tau[1].mean()
        assert row["gap"] == pytest.approx(gap, abs=1e-4)
        assert row["normalised"] == pytest.approx(gap / np.linalg.norm(means[0] - means[1]), abs=1e-4)
        assert (row["tau_safe"], row["tau_unsafe"]) == pytest.approx((tau[0].mean(), tau[1].mean()), abs=1e-4)
        assert row["auroc"] == pytest.approx((tau[0][:, None] > tau[1]).mean(), abs=0.01)


def test_cluster_rows_by_layer_and_pair_repeat() -> None:
    model = network(2)
    pair = (WORLD.sample("safe", 24, seed=1000), WORLD.sample("unsafe", 24, seed=1000))
    matched = (WORLD.sample("context_safe", 24, seed=1000), WORLD.sample("context_unsafe", 24, seed=1000))
    tables = [
        as_dicts(cluster_rows(model, pair, {"standard": pair, "token-matched": matched}, n_groups=2, seed=s))
        for s in (0, 0, 1)
    ]
    assert sorted((r["layer"], r["requests"]) for r in tables[0]) == [
        (layer, name) for layer in (0, 1) for name in ("standard", "token-matched")
    ]
    assert tables[0] == tables[1]
    assert [r["auroc"] for r in tables[0]] == [r["auroc"] for r in tables[2]]
    assert [r["shuffled_normalised"] for r in tables[0]] != [r["shuffled_normalised"] for r in tables[2]]


def test_grammar_without_requests_is_an_error() -> None:
    safe, unsafe = (WORLD.sample(f, 20, seed=1000) for f in ("safe", "unsafe"))
    only = unsafe[unsafe.truth["grammar"] == 0]
    with pytest.raises(ValueError, match="expected none to be 0"):
        as_dicts(cluster_rows(network(1), (safe, only), {"standard": (safe, unsafe)}, n_groups=2, seed=0))


@pytest.mark.parametrize("config", [MODEL_SIZES["tiny"], LLAMA], ids=["gpt2", "llama"])
def test_null_share_rows_are_means_by_outcome(config: ModelConfig) -> None:
    model, base = network(3, config), network(4, config)
    requests = {f: WORLD.sample(f, 15, seed=1000) for f in ("safe", "unsafe")}
    outcomes = {"safe": np.ones(15, dtype=np.int64), "unsafe": np.array([0] * 9 + [1] * 4 + [3] * 2)}
    rows = as_dicts(null_share_rows(requests, outcomes, base=base, tuned=model, seed=0))
    count = Counter((r["family"], r["outcome"], r["n"]) for r in rows)
    names = [("safe", "all", 15), ("safe", "comply", 15)]
    names += [
        ("unsafe", "all", 15),
        ("unsafe", "refuse", 9),
        ("unsafe", "comply", 4),
        ("unsafe", "broken", 2),
    ]
    n_matrices = 2 if config is LLAMA else 1
    assert count == Counter(dict.fromkeys(names, 2 * n_matrices * 2 * 2))  # layers, rules, quantities
    cases: dict[tuple, list[dict]] = {}
    for row in rows:
        key = (row["layer"], row["matrix"], row["family"], row["rule"], row["quantity"])
        cases.setdefault(key, []).append(row)
    for (_, _, family, _, _), (whole, *parts) in cases.items():
        assert whole["outcome"] == "all"
        assert {r["outcome"] for r in parts} == {OUTCOMES[i] for i in outcomes[family]}
        for key in ("share", "random_share"):
            assert sum(r["n"] * r[key] for r in parts) == pytest.approx(15 * whole[key], abs=1e-9)
            assert 0 < whole[key] < 1


def test_null_share_rows_are_independent_of_families() -> None:
    model, base = network(3), network(4)
    requests = {f: WORLD.sample(f, 6, seed=1000) for f in ("safe", "unsafe")}
    outcomes = {f: np.ones(6, dtype=np.int64) for f in requests}
    all_rows = as_dicts(null_share_rows(requests, outcomes, base=base, tuned=model, seed=0))
    unsafe_rows = as_dicts(
        null_share_rows({"unsafe": requests["unsafe"]}, outcomes, base=base, tuned=model, seed=0)
    )
    assert [r for r in all_rows if r["family"] == "unsafe"] == unsafe_rows
