"""The verdict names the mechanism that the compiler planted, and none where refusal does not change."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from makebreak.evaluation import first_tokens, log_odds, next_token_log_probs
from makebreak.mechanism import (
    MechanismReport,
    identify_mechanism,
    mechanism_rows,
    stitch,
)
from makebreak.model_organisms import (
    MECHANISMS,
    VARIANTS,
    PlantedNetworks,
    PlantSettings,
    build_half,
    plant,
)
from makebreak.models import stitch_models

SEED = 1200
SETTINGS = PlantSettings(n_requests=200)
CONSTRUCTIONS = [(name, variant) for name, variants in VARIANTS.items() for variant in variants]
EXPECTED = {"none": "undecided"}


@cache
def networks(mechanism: str, variant: str | None = None, architecture: str | None = None) -> PlantedNetworks:
    return plant(mechanism, SEED, architecture, replace(SETTINGS, variant=variant))


def identified(planted: PlantedNetworks) -> MechanismReport:
    return identify_mechanism(
        base=planted.base, tuned=planted.tuned, unsafe=planted.unsafe, safe=planted.safe
    )


_LONG = {name: pytest.mark.slow for name in ("redundant", "mixed")}


@pytest.mark.parametrize("mechanism", [pytest.param(name, marks=_LONG.get(name, ())) for name in MECHANISMS])
def test_planted_mechanism_is_named(mechanism: str) -> None:
    """With the depth at which the change is complete, and on safe requests nothing changes."""
    planted = networks(mechanism)
    report = identified(planted)
    assert report.verdict.mechanism == EXPECTED.get(mechanism, mechanism), report.verdict
    if mechanism in ("silence", "route", "rewrite", "erase", "written directly"):
        depth, blocks = report.verdict.shares[0].depth, planted.parameters.parts[0].lower
        is_spread = len({change.block for change in blocks}) > 1
        assert 0 < depth <= (planted.depth or 0) if is_spread else depth == planted.depth
    if planted.behaviour.tuned_refuses_safe < 0.02:
        assert not [note for note in report.notes if "safe requests" in note]


@pytest.mark.slow
@pytest.mark.parametrize(("mechanism", "variant"), CONSTRUCTIONS)
def test_every_construction_is_named(mechanism: str, variant: str) -> None:
    """In one of the two architectures each, by turns."""
    architecture = ("gpt2", "llama")[CONSTRUCTIONS.index((mechanism, variant)) % 2]
    verdict = identified(networks(mechanism, variant, architecture)).verdict
    assert verdict.mechanism == EXPECTED.get(mechanism, mechanism), verdict


@pytest.mark.slow
@pytest.mark.parametrize("mechanism", ["silence", "rewrite", "erase"])
def test_verdict_needs_both_halves(mechanism: str) -> None:
    """The movement without its reader, and the reader without the movement, change no refusal."""
    planted = networks(mechanism)
    for half in ("lower", "upper"):
        tuned = build_half(planted, half)
        verdict = identify_mechanism(base=planted.base, tuned=tuned, unsafe=planted.unsafe).verdict
        assert verdict.mechanism == "undecided"
        assert verdict.reason.startswith("refusal does not change")


def test_requests_of_a_mixture_are_named_one_by_one() -> None:
    planted = networks("mixed", "two mechanisms")
    stitching = stitch(base=planted.base, tuned=planted.tuned, requests=planted.unsafe, seed=0)
    rows = mechanism_rows(stitching, base=planted.base, tuned=planted.tuned, seed=0)
    right = [row.mechanism == planted.request_mechanisms[row.request] for row in rows]
    assert np.mean(right) > 0.9


@pytest.mark.slow
def test_seeds_and_order_do_not_decide() -> None:
    planted = networks("rewrite")
    reversed_order = np.arange(len(planted.unsafe))[::-1].copy()
    for seed, requests in ((1, planted.unsafe), (0, planted.unsafe[reversed_order])):
        report = identify_mechanism(base=planted.base, tuned=planted.tuned, unsafe=requests, seed=seed)
        assert report.verdict.mechanism == "rewrite"


def test_side_effects_are_noted() -> None:
    """Refused safe requests are reported beside the verdict; here the classes are exchanged for half."""
    planted = networks("route")
    report = identify_mechanism(
        base=planted.base, tuned=planted.tuned, unsafe=planted.unsafe, safe=planted.unsafe
    )
    assert "gives this answer to 1.00 of the safe requests" in report.notes[0]


def test_stitching_equals_networks_of_both_models_weights() -> None:
    """An oracle that copies weights in place of states."""
    planted = networks("rewrite")
    requests = planted.unsafe[np.arange(20)]
    stitching = stitch(base=planted.base, tuned=planted.tuned, requests=requests, seed=0)
    target = first_tokens(requests, "refused")
    for cut in stitching.cuts:
        pairs = ((planted.tuned, planted.base), (planted.base, planted.tuned))
        for pair, values in zip(pairs, (stitching.lower[cut], stitching.upper[cut]), strict=True):
            log_p = next_token_log_probs(stitch_models(*pair, cut), requests)
            assert torch.allclose(log_odds(log_p, target), values, atol=2e-3)
