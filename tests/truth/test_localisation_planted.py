"""Localisation and directions find the planted parts and direction, and none where none is planted."""

from __future__ import annotations

import copy

import pytest
import torch

from makebreak.activations import capture
from makebreak.evaluation import next_token_log_probs
from makebreak.mechanism import (
    DirectionSettings,
    SafeUnsafeRequests,
    ablate_directions,
    ablate_weights,
    activation_patching_rows,
    direction_rows,
    localisation_rows,
    refusal_rank_rows,
)
from makebreak.models import weight_matrix
from makebreak.tables import as_dicts
from tests.activations.networks import LENS_ARCHITECTURES, N_CTX, network, tokens
from tests.truth.planted import planted


def fitted(seed: int, kind: str = "route"):
    """Planted networks, requests to fit on, and others of the same draw to score."""
    networks = planted(kind, seed, n=240)
    halves = [
        SafeUnsafeRequests(*(r[slice(a, b)] for r in (networks.safe, networks.unsafe)))
        for a, b in ((0, 120), (120, 240))
    ]
    return networks, *halves


@pytest.mark.parametrize("seed", range(3))
def test_ablating_planted_direction_removes_refusal(seed: int) -> None:
    networks, fit, score = fitted(seed)
    loose = DirectionSettings(max_kl=1.0, max_depth=1.0)
    rows = as_dicts(direction_rows(networks.aligned, fit, score, settings=loose, seed=0))
    best = min(
        (row for row in rows if row["kind"] == "difference" and row["bypass"] is not None),
        key=lambda r: r["bypass"],
    )
    assert best["bypass"] < -1
    for row in rows:
        if row["kind"] != "difference" and row["bypass"] is not None:
            assert row["bypass"] > 1, row
            assert not row["is_selected"]
    ranks = as_dicts(refusal_rank_rows(networks.aligned, fit, score.unsafe, seed=0))
    assert [row["n_directions"] for row in ranks] == [0, 1]
    assert (ranks[0]["refusal_rate"], ranks[1]["refusal_rate"]) == (
        pytest.approx(1.0, abs=0.02),
        pytest.approx(0.0, abs=0.02),
    )
    assert ranks[1]["random_refusal_rate"] > 0.9
    [never] = as_dicts(refusal_rank_rows(networks.base, fit, score.unsafe, seed=0))
    assert (never["n_directions"], never["refusal_rate"]) == (0, pytest.approx(0.0, abs=0.02))


def test_rejected_candidates_have_reasons() -> None:
    networks, fit, score = fitted(0)
    shallow = as_dicts(
        direction_rows(
            networks.aligned,
            fit,
            score,
            settings=DirectionSettings(max_kl=9.0, min_induce=-99.0, max_depth=0.0),
            seed=0,
        )
    )
    assert all("beyond 0 of the depth" in r["reason"] for r in shallow if r["kind"] == "difference")
    strict = as_dicts(
        direction_rows(
            networks.aligned, fit, score, settings=DirectionSettings(max_kl=-1.0, max_depth=2.0), seed=0
        )
    )
    assert all("more than -1" in r["reason"] for r in strict if r["kind"] == "difference")
    inducing = as_dicts(
        direction_rows(
            networks.aligned,
            fit,
            score,
            settings=DirectionSettings(max_kl=99.0, min_induce=99.0, max_depth=2.0),
            seed=0,
        )
    )
    assert all("less than 99" in r["reason"] for r in inducing if r["kind"] == "difference")
    assert not any(row["is_selected"] for row in [*shallow, *strict, *inducing])
    all_pass = as_dicts(
        direction_rows(
            networks.aligned,
            fit,
            score,
            settings=DirectionSettings(max_kl=99.0, min_induce=-99.0, max_depth=2.0),
            seed=0,
        )
    )
    [selected] = [row for row in all_pass if row["is_selected"]]
    assert selected["bypass"] == min(row["bypass"] for row in all_pass if row["kind"] == "difference")
    same = as_dicts(
        direction_rows(networks.aligned, SafeUnsafeRequests(score.safe, score.safe), score, seed=0)
    )
    assert {row["reason"] for row in same if row["kind"] == "difference"} == {
        "undefined: the means are equal"
    }


@pytest.mark.parametrize("architecture", [a for a in LENS_ARCHITECTURES if a != "gemma3"])
def test_weight_ablation_equals_hook_ablation(architecture: str) -> None:
    model = network(architecture)
    before = copy.deepcopy(model.state_dict())
    basis = torch.linalg.qr(torch.randn(16, 2, generator=torch.Generator().manual_seed(0))).Q
    with torch.no_grad():
        ablated_model = ablate_weights(model, basis)
        by_weights = ablated_model(input_ids=tokens()).logits
        with ablate_directions(model, basis):
            by_hooks = model(input_ids=tokens()).logits
        plain = model(input_ids=tokens()).logits
    assert torch.allclose(by_weights, by_hooks, atol=1e-4)
    assert not torch.allclose(by_weights, plain, atol=1e-2)
    everywhere = torch.ones(5, N_CTX, dtype=torch.bool)
    [batch] = capture(ablated_model, tokens(), ["blocks.1.hook_resid_post"], everywhere)
    assert torch.allclose(
        batch.activations["blocks.1.hook_resid_post"] @ basis, torch.zeros(60, 2), atol=1e-4
    )
    assert all(torch.equal(w, before[name]) for name, w in model.state_dict().items())


def test_weight_ablation_refuses_output_norms() -> None:
    with pytest.raises(ValueError, match="normalises the outputs of attention and MLP: ablate by hooks"):
        ablate_weights(network("gemma3"), torch.eye(16)[:, :1])
    with pytest.raises(ValueError, match="replaces the residual stream by its norm: ablate by hooks"):
        ablate_weights(network("jain2024"), torch.eye(16)[:, :1])


def test_hook_ablation_reaches_a_stream_that_norms_overwrite() -> None:
    """The norms of Jain et al. 2024 would write a direction back that was ablated from the embeddings."""
    model, everywhere = network("jain2024"), torch.ones(5, N_CTX, dtype=torch.bool)
    basis = torch.linalg.qr(torch.randn(16, 2, generator=torch.Generator().manual_seed(0))).Q
    sites = [f"blocks.{i}.{site}" for i in (0, 1) for site in ("ln1.hook_normalized", "hook_resid_post")]
    [plain] = capture(model, tokens(), sites, everywhere)
    with ablate_directions(model, basis):
        [ablated] = capture(model, tokens(), sites, everywhere)
    for site in sites:
        assert (plain.activations[site] @ basis).abs().max() > 0.1
        assert (ablated.activations[site] @ basis).abs().max() < 1e-4


@pytest.mark.parametrize("kind", ["route", "upper only"])
def test_planted_parts_carry_the_margin(kind: str) -> None:
    networks = planted(kind, 1, n=100)
    changed = {
        name.removesuffix("W_in") + "mlp"
        for name in (f"blocks.{i}.mlp.W_in" for i in range(4))
        if (weight_matrix(networks.aligned, name) - weight_matrix(networks.base, name)).abs().max() > 0.1
    }
    [block] = {name.split(".")[1] for name in changed}
    rows = {
        row["part"]: row
        for row in as_dicts(
            localisation_rows(networks.unsafe, base=networks.base, tuned=networks.aligned, seed=0)
        )
    }
    assert sum(row["shapley"] for row in rows.values()) == pytest.approx(1.0, abs=1e-6)
    inside = {f"blocks.{block}.mlp_in", f"blocks.{block}.mlp_out"}
    for part, row in rows.items():
        assert row["shapley"] == pytest.approx(0.5 if part in inside else 0.0, abs=0.1), part
        assert row["only"] == pytest.approx(0.0, abs=0.1), "neither half of a detector does anything alone"
        assert row["without"] == pytest.approx(1.0 if part in inside else 0.0, abs=0.1), part
    patched = {
        row["part"]: row["exact"]
        for row in as_dicts(
            activation_patching_rows(networks.unsafe, base=networks.base, tuned=networks.aligned)
        )
    }
    assert patched.pop(f"blocks.{block}.mlp") == pytest.approx(1.0, abs=0.1)
    if kind == "route":  # the base's own detector of the route passes it on: the change goes through it too
        assert sorted(patched.values())[-1] == pytest.approx(1.0, abs=0.1)
    assert sum(abs(value) > 0.1 for value in patched.values()) == (kind == "route")
    still = as_dicts(localisation_rows(networks.unsafe, base=networks.base, tuned=networks.base, seed=0))
    assert all(row["shapley"] is None for row in still)


def test_attribution_is_exact_for_small_changes_only() -> None:
    networks = planted("route", 1, n=60)
    small = copy.deepcopy(networks.base)
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in small.named_parameters():
            if "attn" in name or "mlp" in name:
                parameter.add_(1e-4 * torch.randn(parameter.shape, generator=random))
    for row in as_dicts(activation_patching_rows(networks.unsafe, base=networks.base, tuned=small)):
        assert row["attribution"] == pytest.approx(row["exact"], abs=0.02), row
    rows = as_dicts(activation_patching_rows(networks.unsafe, base=networks.base, tuned=networks.aligned))
    assert len(rows) == 4 * 3
    lower = max(rows[:6], key=lambda row: row["exact"])  # of the first two blocks, where the change is
    assert lower["exact"] > 0.9
    assert lower["attribution"] < 0.1, "the first order does not see a detector that is still shut"


def test_head_patching_is_specific() -> None:
    """Only one head of the aligned network differs, so only that one can matter."""
    networks = planted("nothing", 2, n=60)
    base = copy.deepcopy(networks.base)
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in base.transformer.h[1].attn.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=random))
    aligned = copy.deepcopy(base)
    with torch.no_grad():
        aligned.transformer.h[1].attn.c_attn.weight[:, 128 + 32 :] *= 3  # values of the second of two heads
    before, after = (next_token_log_probs(m, networks.unsafe) for m in (base, aligned))
    assert not torch.allclose(before, after, atol=1e-3)
    exact = {
        row["part"]: row["exact"]
        for row in as_dicts(activation_patching_rows(networks.unsafe, base=base, tuned=aligned))
    }
    assert exact.pop("blocks.1.head.1") == pytest.approx(1.0, abs=1e-4)
    later = {
        part: value
        for part, value in exact.items()
        if part[:8] in ("blocks.0", "blocks.1") and ".mlp" not in part
    }
    assert max(map(abs, later.values())) < 1e-4
