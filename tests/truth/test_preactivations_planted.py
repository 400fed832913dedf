"""Decomposition, update geometry and sensitivity recover planted updates of known origin."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from makebreak.geometry import left_null_space
from makebreak.mechanism import (
    preactivation_rows,
    read_gain_rows,
    sensitivity,
    sensitivity_rows,
    update_energy_rows,
    update_rows,
)
from makebreak.models import bias_vector, weight_matrix
from makebreak.tables import as_dicts
from tests.truth.planted import Planted, planted

LAYERS = range(4)

TERMS = ("input_share", "update_share", "interaction_share", "bias_share")


def network(seed: int = 3) -> Planted:
    """A base whose every weight is random, with the requests of the planted networks."""
    networks = planted("nothing", seed, n=60)
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in networks.base.named_parameters():
            if "ln_" not in name:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=random))
    return networks


def changed(base: PreTrainedModel, name: str, update: torch.Tensor) -> PreTrainedModel:
    model = copy.deepcopy(base)
    weight_matrix(model, name).add_(update)
    return model


def test_four_terms_add_up_and_name_the_origin() -> None:
    networks = network()
    random = torch.randn(128, 64, generator=torch.Generator().manual_seed(0))
    updated = changed(networks.base, "blocks.2.mlp.W_in", 0.01 * random)
    earlier = changed(networks.base, "blocks.0.mlp.W_in", 0.05 * random)
    shifted = copy.deepcopy(networks.base)
    bias_vector(shifted, "blocks.2.mlp.W_in").add_(0.1)
    both = changed(earlier, "blocks.2.mlp.W_in", 0.05 * random)
    expected = {"update_share": updated, "input_share": earlier, "bias_share": shifted}
    for term, model in expected.items():
        row = as_dicts(preactivation_rows({"unsafe": networks.unsafe}, base=networks.base, tuned=model))[2]
        assert row[term] == pytest.approx(1.0, abs=1e-5), term
        assert sum(row[t] for t in TERMS) == pytest.approx(1.0)
    mixed = as_dicts(preactivation_rows({"unsafe": networks.unsafe}, base=networks.base, tuned=both))
    assert 0.05 < mixed[2]["update_share"] < 0.95
    for row in mixed:
        assert sum(row[t] for t in TERMS) == pytest.approx(1.0, abs=1e-9)
    still = as_dicts(preactivation_rows({"unsafe": networks.unsafe}, base=networks.base, tuned=networks.base))
    assert [(row["relative_change"], row["update_share"]) for row in still] == [(0.0, None)] * 4


def test_planted_updates_are_above_or_below_references() -> None:
    networks, other = network(), network(4).base
    name = "blocks.1.mlp.W_in"
    null = left_null_space(weight_matrix(networks.base, name)).basis.float()
    random = torch.randn(128, 64, generator=torch.Generator().manual_seed(1))
    outside = null @ (null.T @ random)
    for update, higher in ((outside, True), (random - outside, False)):
        rows = as_dicts(
            update_rows(
                base=networks.base,
                tuned=changed(networks.base, name, 0.01 * update),
                other_base=other,
                seed=0,
            )
        )
        assert {(row["matrix"], row["layer"]) for row in rows} == {("mlp.W_in", 1)}
        results = {row["against"]: row for row in rows}
        assert set(results) == {"update", "haar", "permuted", "other_seed"}
        assert results["update"]["null"] == pytest.approx(float(higher), abs=1e-4)
        for reference in ("haar", "permuted", "other_seed"):
            assert results[reference]["null"] == pytest.approx(results[reference]["chance"], abs=0.06)
            assert (results["update"]["sine"] > results[reference]["sine"]) == higher
        for reference in ("haar", "permuted"):
            assert results[reference]["n_draws"] == 5
            assert 0 < results[reference]["null_sd"] < 0.06
        assert results["update"]["null_sd"] is None
        assert results["update"]["update_norm"] == pytest.approx(float((0.01 * update).norm()), rel=1e-4)


def test_read_gain_and_output_energy_of_planted_update() -> None:
    """The update reads a direction that only unsafe requests have, and its output is one of the base's."""
    networks = planted("nothing", 5, n=60)
    name = "blocks.1.mlp.W_in"
    wte = networks.base.get_input_embeddings().weight.detach()
    n_letters = int(networks.safe.refused[0, 0])
    unsafe, safe = (
        wte[n_letters + 1 + k * n_letters : n_letters + 1 + (k + 1) * n_letters].mean(0) for k in (1, 0)
    )
    reads = torch.nn.functional.normalize(unsafe - safe, dim=0)
    along = weight_matrix(networks.base, name)[:, :1].clone()
    model = changed(networks.base, name, 0.1 * torch.outer(along[:, 0] / along.norm(), reads))
    requests = {"safe": networks.safe, "unsafe": networks.unsafe}
    gain = {
        (r["family"], r["layer"]): r["gain"]
        for r in as_dicts(read_gain_rows(requests, base=networks.base, tuned=model))
        if r["layer"] == 1
    }
    random = changed(
        networks.base, name, 0.1 * torch.randn(128, 64, generator=torch.Generator().manual_seed(2)) / 90
    )
    flat = {
        r["family"]: r["gain"]
        for r in as_dicts(read_gain_rows(requests, base=networks.base, tuned=random))
        if r["layer"] == 1
    }
    assert gain["unsafe", 1] == pytest.approx(gain["safe", 1], rel=0.1), (
        "it reads the difference, either sign"
    )
    assert flat["unsafe"] == pytest.approx(flat["safe"], rel=0.1)
    one_sided = changed(
        networks.base, name, 0.1 * torch.outer(along[:, 0] / along.norm(), unsafe / unsafe.norm())
    )
    one_sided_gain = {
        r["family"]: r["gain"]
        for r in as_dicts(read_gain_rows(requests, base=networks.base, tuned=one_sided))
        if r["layer"] == 1
    }
    assert one_sided_gain["unsafe"] > 1.3 * one_sided_gain["safe"]
    curves = as_dicts(
        update_energy_rows({"unsafe": networks.unsafe}, networks.safe, base=networks.base, tuned=one_sided)
    )
    energy = {(row["layer"], row["k"]): row["energy"] for row in curves}
    assert energy[1, 128] == pytest.approx(1.0)
    assert energy[0, 128] is None, "no update there"
    assert all(
        b >= a - 1e-9
        for a, b in zip(
            [energy[1, k] for k in range(2, 128, 2)], [energy[1, k] for k in range(4, 130, 2)], strict=True
        )
    )


def test_sensitivity_of_a_linear_network_is_its_slope() -> None:
    """With averaging attention and a head only, the gradient of the greatest logit is known exactly."""
    networks = network()
    model = copy.deepcopy(networks.base)
    for name, parameter in model.named_parameters():
        if "lm_head" not in name and "wte" not in name:
            torch.nn.init.zeros_(parameter)
    for block in model.transformer.h:
        block.ln_1 = torch.nn.Identity()
    model.transformer.ln_f = torch.nn.Identity()
    slope = 0.7
    with torch.no_grad():  # attention of equal weights: value = slope × input, written back as it is
        first = model.transformer.h[0].attn
        first.c_attn.weight[:, 128:192] = slope * torch.eye(64)
        first.c_proj.weight.copy_(torch.eye(64))
    result = sensitivity(model, networks.unsafe)
    length = torch.from_numpy(networks.unsafe.prompt_length)
    logits = model(input_ids=torch.from_numpy(networks.unsafe.prompt)).logits[torch.arange(60), length - 1]
    head = model.lm_head.weight[logits.argmax(1)].norm(dim=1)
    expected = slope / length * head * (length - 1).sqrt()
    assert torch.allclose(result.max_logit, expected.detach(), rtol=1e-4)
    doubled = copy.deepcopy(model)
    with torch.no_grad():
        doubled.lm_head.weight.mul_(2)
    assert torch.allclose(sensitivity(doubled, networks.unsafe).max_logit, 2 * result.max_logit, rtol=1e-4)
    [row, _] = as_dicts(sensitivity_rows({"unsafe": networks.unsafe}, base=model, tuned=doubled))
    assert (row["family"], row["output"], row["ratio_median"]) == (
        "unsafe",
        "max_logit",
        pytest.approx(2.0, rel=1e-4),
    )
    finite = _finite_difference(networks.base, networks)
    assert sensitivity(networks.base, networks.unsafe).max_logit[0] == pytest.approx(finite, rel=0.02)


def _finite_difference(model: PreTrainedModel, networks: Planted) -> float:
    """Norm of the gradient of the first request's greatest logit, coordinate by coordinate."""
    tokens, last = torch.from_numpy(networks.unsafe.prompt[:1]), int(networks.unsafe.prompt_length[0]) - 1
    with torch.no_grad():
        embeddings = model.get_input_embeddings()(tokens)
        which = int(model(inputs_embeds=embeddings).logits[0, last].argmax())
        step, squares = 1e-2, 0.0
        for position in range(last):
            offsets = step * torch.eye(64)
            batch = embeddings.repeat(128, 1, 1)
            batch[:64, position] += offsets
            batch[64:, position] -= offsets
            out = model(inputs_embeds=batch).logits[:, last, which]
            squares += float(((out[:64] - out[64:]) / (2 * step)).square().sum())
    return float(np.sqrt(squares))


def test_attention_that_writes_nothing_leaves_its_score_out() -> None:
    networks = planted("route", 0, n=20)
    silent, aligned = copy.deepcopy(networks.base), copy.deepcopy(networks.aligned)
    for model in (silent, aligned):
        for block in model.transformer.h:
            block.attn.c_proj.weight.data.zero_()
            block.attn.c_proj.bias.data.zero_()
    rows = read_gain_rows({"unsafe": networks.unsafe}, base=silent, tuned=aligned)
    assert {row.attention_score for row in rows} == {None}
    assert all(row.gain >= 0 for row in rows)
    others = read_gain_rows({"unsafe": networks.unsafe}, base=networks.base, tuned=networks.aligned)
    assert others[0].attention_score is not None
