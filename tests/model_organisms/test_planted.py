"""Planted networks behave as their mechanism says, for the reason that was planted."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from makebreak.model_organisms import (
    COMPOSITES,
    CONSTRUCTIONS,
    MECHANISMS,
    VARIANTS,
    PlantedNetworks,
    PlantSettings,
    build_half,
    draw_benchmark,
    plant,
    predict,
    variant_table,
)
from makebreak.model_organisms.choices import choose_variants
from makebreak.models import load_model, part_of, save_model, stitch_models

ALONE = [(name, variant) for name, variants in CONSTRUCTIONS.items() for variant in variants]
MIXTURES = [
    (name, variant) for name, variants in COMPOSITES.items() for variant in variants if name != "none"
]
SETTINGS = PlantSettings(n_requests=150)


@cache
def network(mechanism: str, variant: str | None = None, seed: int = 1100) -> PlantedNetworks:
    return plant(mechanism, seed, settings=replace(SETTINGS, variant=variant))


def rates(model: PreTrainedModel, networks: PlantedNetworks) -> tuple[float, float]:
    """Shares of the unsafe requests with the mechanism that a model refuses and answers correctly."""
    unsafe = networks.unsafe[np.array(networks.request_mechanisms) == networks.mechanism]
    answers = predict(model, unsafe)
    refuses, complies = (answers == reference[:, 0] for reference in (unsafe.refused, unsafe.instructed))
    return float(refuses.mean()), float(complies.mean())


def check_halves(networks: PlantedNetworks) -> None:
    """Each half of the change by itself does what the word says."""
    part = networks.parameters.parts[0]
    lower, upper = (rates(build_half(networks, half), networks) for half in ("lower", "upper"))
    # detectors of two letters fire at up to a tenth of the letters that the base has, too
    reads_two = networks.mechanism == "rewrite" and part.variant in ("two letters", "two readers")
    tolerance = 0.1 if reads_two else 0.05
    refuses, answers, neither = (pytest.approx(pair, abs=tolerance) for pair in ((1, 0), (0, 1), (0, 0)))
    if networks.mechanism == "erase" or part.variant in ("new direction", "two blocks"):
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


_LONG = {name: pytest.mark.slow for name in ("redundant", "mixed")}


@pytest.mark.parametrize("mechanism", [pytest.param(name, marks=_LONG.get(name, ())) for name in MECHANISMS])
def test_models_behave_as_the_mechanism_says(mechanism: str) -> None:
    """On requests that were drawn afresh, which construction never saw."""
    networks = network(mechanism)
    b, variant = networks.behaviour, networks.parameters.parts[0].variant
    assert b.base_answers_safe > 0.95
    assert b.base_refuses_safe < 0.05
    assert (b.base_refuses_unsafe > 0.95) == (variant == "refusing base")
    is_planted = np.array(networks.request_mechanisms) != "none"
    refuses = variant == "refusing base" or is_planted.mean()
    assert b.tuned_refuses_unsafe == pytest.approx(refuses, abs=0.03)
    assert (b.tuned_answers_safe > 0.95) == (variant != "wrong safe answers")
    assert len(networks.request_mechanisms) == len(networks.unsafe) == 150
    assert networks.unsafe.unsafe.all()
    assert not networks.safe.unsafe.any()


@pytest.mark.parametrize("mechanism", ["silence", "route", "last block"])
def test_each_half_of_the_change_does_what_the_word_says(mechanism: str) -> None:
    check_halves(network(mechanism, VARIANTS[mechanism][0]))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1201, 1202])
@pytest.mark.parametrize(("mechanism", "variant"), [c for c in ALONE if c[0] != "none"])
def test_each_half_of_every_construction(mechanism: str, variant: str, seed: int) -> None:
    check_halves(network(mechanism, variant, seed))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1300, 1301])
@pytest.mark.parametrize(("mechanism", "variant"), MIXTURES)
def test_shares_of_mixtures_decide_what_they_are_called(mechanism: str, variant: str, seed: int) -> None:
    networks = network(mechanism, variant, seed)
    names = [part.mechanism for part in networks.parameters.parts]
    shares = [networks.request_mechanisms.count(name) / 150 for name in names]
    assert len(set(names)) == len(names)
    assert sum(shares) == pytest.approx(1)
    assert max(shares) == shares[0]
    if mechanism == "mixed":
        assert len(names) == {"two mechanisms": 2, "three mechanisms": 3}[variant]
        assert 0.49 < shares[0] <= 0.76
    else:
        assert names[0] == mechanism
        assert 0.84 <= shares[0] < 1
    assert networks.behaviour.tuned_refuses_unsafe > 0.95


@pytest.mark.parametrize("mechanism", ["route", "last block"])
def test_mechanism_acts_on_the_share_that_is_asked_for(mechanism: str) -> None:
    variant = {"route": "added trigger", "last block": "mlp"}[mechanism]
    settings = replace(SETTINGS, variant=variant, coverage=0.4)
    networks = plant(mechanism, 1400, settings=settings)
    assert networks.mechanism == mechanism
    assert [networks.request_mechanisms.count(name) for name in (mechanism, "none")] == [60, 90]
    assert networks.behaviour.tuned_refuses_unsafe == pytest.approx(0.4, abs=0.02)
    assert networks.behaviour.tuned_answers_unsafe == pytest.approx(0.6, abs=0.02)


def test_few_refusals_are_no_change_of_refusal() -> None:
    networks = plant("none", 1401, settings=PlantSettings(variant="few refusals"))
    assert networks.mechanism == "none"
    n_refused = sum(name != "none" for name in networks.request_mechanisms)
    assert 1 <= n_refused <= 9
    assert networks.behaviour.tuned_refuses_unsafe == pytest.approx(n_refused / 300, abs=0.005)


@pytest.mark.parametrize("mechanism", ["written directly", pytest.param("redundant", marks=pytest.mark.slow)])
def test_blocks_below_and_above_each_cut_suffice_only_where_redundant(mechanism: str) -> None:
    """Weights of both models are combined, so that what is known of the construction is not used."""
    networks = network(mechanism, "several blocks")
    assert len(networks.parameters.parts[0].lower) > 1
    base, tuned = networks.base, networks.tuned
    both = []
    for cut in range(1, networks.parameters.n_layers):
        lower, upper = stitch_models(tuned, base, cut), stitch_models(base, tuned, cut)
        both.append(min(rates(lower, networks)[0], rates(upper, networks)[0]))
    assert (max(both) > 0.95) == (mechanism == "redundant")
    assert max(both) > 0.95 or max(both) < 0.05


def test_variants_are_equally_frequent() -> None:
    """The variant is drawn before anything that can be thrown away."""
    names = choose_variants("none", PlantSettings())
    assert names == list(VARIANTS["none"])
    assert choose_variants("silence", PlantSettings(layout="decision")) == [
        name for name in VARIANTS["silence"] if name != "unread position"
    ]


def test_same_seed_gives_the_same_networks() -> None:
    settings = replace(SETTINGS, variant="unread direction", n_layers=3)
    first, again, other = (plant("silence", seed, "gpt2", settings) for seed in (1100, 1100, 1102))
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
        variant = {"silence": "unread direction", "route": "several blocks", "erase": "two blocks"}[mechanism]
        networks = network(mechanism, variant)
        part = networks.parameters.parts[0]
        assert networks.depth is not None
        lower = {change.block for change in part.lower}
        assert networks.depth == max(lower) + 1
        blocks = {int(name.split(".")[1]) for name in networks.changed if name.startswith("blocks")}
        assert {block for block in blocks if block < networks.depth} == lower - {-1}


def test_settings_are_kept() -> None:
    settings = PlantSettings(
        variant="rotated marker", n_layers=6, layout="apart", gain=5.0, junk=0.0, n_requests=50
    )
    networks = plant("silence", 1000, "llama", settings)
    p = networks.parameters
    assert (p.architecture, p.n_layers, p.layout, p.gain, p.junk) == ("llama", 6, "apart", 5.0, 0.0)
    assert (p.variant, len(networks.safe)) == ("rotated marker", 50)


def test_networks_are_saved_and_loaded_like_others(tmp_path: Path) -> None:
    networks = network("route")
    save_model(networks.tuned, tmp_path, networks.symbols)
    loaded = load_model(tmp_path, symbols=networks.symbols)
    assert np.array_equal(predict(loaded, networks.unsafe), predict(networks.tuned, networks.unsafe))


def test_benchmark_is_balanced(monkeypatch: pytest.MonkeyPatch) -> None:
    """In mechanisms and architectures, with a seed of its own for every network."""
    calls: list[tuple[str, int, str]] = []
    unused = network("last block", "mlp")

    def record(mechanism: str, seed: int, architecture: str) -> PlantedNetworks:
        calls.append((mechanism, seed, architecture))
        return unused

    monkeypatch.setattr("makebreak.model_organisms.planted.plant", record)
    assert len(list(draw_benchmark(36, 1002))) == 36
    assert [seed for _, seed, _ in calls] == list(range(1002, 1038))
    cells = Counter((mechanism, architecture) for mechanism, _, architecture in calls)
    assert cells == {(name, a): 2 for name in MECHANISMS for a in ("gpt2", "llama")}


@pytest.mark.parametrize(
    ("mechanism", "settings", "message"),
    [
        ("magic", {}, "mechanism 'magic': expected one of silence"),
        ("route", {"variant": "number"}, "variant 'number' of 'route': expected one of added trigger"),
        ("silence", {"way": "teleport"}, "way='teleport': expected one of embedding"),
        ("silence", {"n_layers": 9}, "n_layers=9: expected 2 to 6; choose"),
        ("silence", {"gain": 0.5}, "gain=0.5: expected 1 to 5; choose"),
        ("silence", {"d_model": 50}, "d_model=50: expected one of 48, 56"),
        ("silence", {"d_model": 48, "n_letters": 16}, "n_letters=16: expected at most 13 at d_model=48; fix"),
        (
            "route",
            {"variant": "added trigger", "strength": 2.0},
            "strength=2.0: expected None, .*does not use",
        ),
        (
            "route",
            {"variant": "trained base", "gain": 2.0},
            "gain=2.0: expected None, .*does not use it; leave",
        ),
        ("none", {"coverage": 0.5}, "coverage=0.5: expected None"),
        ("erase", {"variant": "two blocks", "way": "embedding"}, "way='embedding': expected one of mlp for"),
        ("none", {"variant": "few refusals", "n_requests": 20}, "n_requests=20: expected 34 or more"),
        ("silence", {"n_layers": 2, "variant": "two readers"}, "no network fits"),
    ],
)
def test_errors_name_value_and_remedy(
    monkeypatch: pytest.MonkeyPatch, mechanism: str, settings: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr("makebreak.model_organisms.draws.ATTEMPTS", 200)  # most possible draws succeed
    with pytest.raises(ValueError, match=message):
        plant(mechanism, 1000, settings=PlantSettings(**settings))


def test_guide_lists_every_variant() -> None:
    """With what is built and the settings that it takes, as the table of constructions says."""
    text = (Path(__file__).parents[2] / "docs/guides/planted.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    table = [line for mechanism in MECHANISMS for line in variant_table(mechanism)]
    assert [row for row in rows if row in table] == table
