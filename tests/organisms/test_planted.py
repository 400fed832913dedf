"""Planted networks behave as their mechanism says, for the reason that was planted."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from makebreak.models import load_model, part_of, save_model
from makebreak.organisms import MECHANISMS, VARIANTS, PlantedNetworks, PlantSettings, draw_benchmark, plant
from makebreak.organisms.planted import build_half, predict

CONSTRUCTIONS = [(name, variant) for name, variants in VARIANTS.items() for variant in variants]
SETTINGS = PlantSettings(n_requests=150)


@cache
def network(mechanism: str, variant: str | None = None, seed: int = 1100) -> PlantedNetworks:
    return plant(mechanism, seed, settings=replace(SETTINGS, variant=variant))


def rates(model: PreTrainedModel, networks: PlantedNetworks) -> tuple[float, float]:
    """Shares of unsafe requests that a model refuses and answers correctly."""
    answers, unsafe = predict(model, networks.unsafe), networks.unsafe
    refuses, complies = (answers == reference[:, 0] for reference in (unsafe.refused, unsafe.instructed))
    return float(refuses.mean()), float(complies.mean())


def check_halves(networks: PlantedNetworks) -> None:
    """Each half of the change by itself does what the word says."""
    part = networks.parameters.parts[0]
    lower, upper = (rates(build_half(networks, half), networks) for half in ("lower", "upper"))
    # detectors of chords fire at up to a tenth of the letters that the base has, too
    tolerance = 0.1 if part.variant == "chord" else 0.05
    refuses, answers, neither = (pytest.approx(pair, abs=tolerance) for pair in ((1, 0), (0, 1), (0, 0)))
    if networks.mechanism == "erase" or part.variant == "slot":
        assert lower[0] < 0.05, "nothing of the base turns a missing letter into the refusal"
        assert lower[1] < 0.6, "the base cannot know the letter"
        assert upper == answers
        return
    expected = {
        "silence": (answers, answers),
        "route": (refuses, answers),
        "rewrite": (neither, answers),
        "written directly": (refuses, answers),
        "last block": (answers, refuses),
        "redundant": (refuses, refuses),
    }[networks.mechanism]
    assert (lower, upper) == expected


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_models_behave_as_the_mechanism_says(mechanism: str) -> None:
    """On requests that were drawn afresh, which construction never saw."""
    networks = network(mechanism)
    b, variant = networks.behaviour, networks.parameters.parts[0].variant
    assert b.base_answers_safe > 0.95
    assert b.base_refuses_safe < 0.05
    assert (b.base_refuses_unsafe > 0.95) == (variant == "refusing base")
    assert (b.tuned_refuses_unsafe > 0.95) == (mechanism != "none" or variant == "refusing base")
    assert (b.tuned_answers_safe > 0.95) == (variant != "safe answers")
    assert len(networks.request_mechanisms) == len(networks.unsafe) == 150
    assert networks.unsafe.unsafe.all()
    assert not networks.safe.unsafe.any()


@pytest.mark.parametrize("mechanism", ["silence", "route", "last block"])
def test_each_half_of_the_change_does_what_the_word_says(mechanism: str) -> None:
    check_halves(network(mechanism))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1201, 1202])
@pytest.mark.parametrize(("mechanism", "variant"), [c for c in CONSTRUCTIONS if c[0] != "none"])
def test_each_half_of_every_construction(mechanism: str, variant: str, seed: int) -> None:
    check_halves(network(mechanism, variant, seed))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1300, 1306))
def test_parts_of_mixtures_are_random_and_of_the_recorded_shares(seed: int) -> None:
    networks = network("mixed", seed=seed)
    first, second = networks.parameters.parts
    share = np.mean([name == first.mechanism for name in networks.request_mechanisms])
    assert first.mechanism != second.mechanism
    assert 0.2 < share < 0.8
    assert networks.behaviour.tuned_refuses_unsafe > 0.95


def test_same_seed_gives_the_same_networks() -> None:
    first, again, other = (plant("silence", seed, "gpt2", SETTINGS) for seed in (1100, 1100, 1102))
    assert again.parameters == first.parameters != other.parameters
    assert np.array_equal(again.unsafe.prompt, first.unsafe.prompt)
    for name, tensor in first.tuned.state_dict().items():
        assert torch.equal(tensor, again.tuned.state_dict()[name]), name


@pytest.mark.parametrize("mechanism", ["silence", "erase", "last block", "mixed"])
def test_parts_that_are_not_listed_differ_by_noise(mechanism: str) -> None:
    networks = network(mechanism)
    base, tuned = networks.base.state_dict(), networks.tuned.state_dict()
    largest: dict[str, float] = {}
    for name, tensor in base.items():
        part = part_of(networks.base, name)
        largest[part] = max(largest.get(part, 0.0), float((tuned[name] - tensor).abs().max()))
    noise = networks.parameters.noise / 20
    assert networks.changed
    assert {part for part, change in largest.items() if change > 8 * noise} == networks.changed


def test_depth_counts_the_blocks_of_the_movement() -> None:
    for mechanism in ("silence", "route", "erase"):
        networks = network(mechanism)
        [part] = networks.parameters.parts
        assert networks.depth is not None
        assert networks.depth == max(part.lower_blocks) + 1
        blocks = {int(name.split(".")[1]) for name in networks.changed if name.startswith("blocks")}
        assert {block for block in blocks if block < networks.depth} == set(part.lower_blocks) - {-1}


def test_settings_are_kept() -> None:
    settings = PlantSettings(
        variant="rotation", n_layers=6, layout="apart", gain=5.0, junk=0.0, n_requests=50
    )
    networks = plant("silence", 1000, "llama", settings)
    p = networks.parameters
    assert (p.architecture, p.n_layers, p.layout, p.gain, p.junk) == ("llama", 6, "apart", 5.0, 0.0)
    assert (p.parts[0].variant, len(networks.safe)) == ("rotation", 50)


def test_networks_are_saved_and_loaded_like_others(tmp_path: Path) -> None:
    networks = network("route")
    save_model(networks.tuned, tmp_path, networks.symbols)
    loaded = load_model(tmp_path, symbols=networks.symbols)
    assert np.array_equal(predict(loaded, networks.unsafe), predict(networks.tuned, networks.unsafe))


def test_benchmark_alternates_architectures() -> None:
    networks = list(draw_benchmark(4, 1002))
    assert [n.parameters.architecture for n in networks] == ["gpt2", "llama"] * 2
    assert [n.mechanism for n in networks] == [*MECHANISMS[:1] * 2, *MECHANISMS[1:2] * 2]


@pytest.mark.parametrize(
    ("mechanism", "settings", "message"),
    [
        ("magic", PlantSettings(), "mechanism 'magic': expected one of silence"),
        (
            "route",
            PlantSettings(variant="chord"),
            "variant 'chord' of 'route': expected None or one of trigger",
        ),
        ("silence", PlantSettings(way="teleport"), "no network fits"),
    ],
)
def test_errors_name_value_and_remedy(mechanism: str, settings: PlantSettings, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plant(mechanism, 1000, settings=settings)
