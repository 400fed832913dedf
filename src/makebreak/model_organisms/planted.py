"""Compiler of planted mechanisms: pairs of a base and a tuned model whose mechanism of refusal is known."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from makebreak.model_organisms.build import build
from makebreak.model_organisms.choices import choose_variants
from makebreak.model_organisms.composites import MECHANISMS, Composition, compose
from makebreak.model_organisms.draws import draw_parameters
from makebreak.model_organisms.network import Redraw
from makebreak.model_organisms.planted_networks import PlantedNetworks, finish
from makebreak.model_organisms.settings import PlantSettings

MAX_REDRAWS = 200
_MAX_COMPOSITIONS = 12
"""Choices of constructions for one variant, after which it is taken to be impossible."""


def plant(
    mechanism: str, seed: int, architecture: str | None = None, settings: PlantSettings | None = None
) -> PlantedNetworks:
    """A base and a tuned model with a known mechanism of refusal, from random parameters.

    The variant is drawn first, each with the same probability. A draw of the rest whose behaviour is not what
    the mechanism says is thrown away, and the next one is made.

    Args:
        mechanism: One of `MECHANISMS`.
        seed: Seed of everything.
        architecture: `gpt2`, `llama`, or None for the one that alternates with the seed.
        settings: What is not drawn.

    Returns:
        The networks, with requests and the truth about them.

    Raises:
        ValueError: If the mechanism or the variant is unknown, or the settings allow no network.
    """
    settings = settings or PlantSettings()
    variants = choose_variants(mechanism, settings)
    if architecture not in (None, "gpt2", "llama"):
        raise ValueError(f"architecture {architecture!r}: expected 'gpt2', 'llama' or None; choose one")
    architecture = architecture or ("gpt2", "llama")[seed % 2]
    stream = [seed, MECHANISMS.index(mechanism)]
    rng = np.random.default_rng(stream)
    choice = _choose(mechanism, [str(v) for v in rng.permutation(variants)], architecture, settings, rng)
    for attempt in range(MAX_REDRAWS):
        attempt_stream = [*stream, attempt]
        parameters = draw_parameters(*choice, architecture, settings, np.random.default_rng(attempt_stream))
        if parameters is None:
            continue
        try:
            pair = build(parameters, attempt_stream)
            networks = finish(pair, mechanism, attempt_stream, settings.n_requests)
        except Redraw:
            continue
        if networks:
            return networks
    raise ValueError(
        f"mechanism {mechanism!r}, seed {seed}: none of {MAX_REDRAWS} draws of variant {choice[0]!r} behaved "
        "as it must; fix fewer settings or choose another seed"
    )


def _choose(
    mechanism: str, variants: list[str], architecture: str, settings: PlantSettings, rng: np.random.Generator
) -> tuple[str, Composition]:
    """The first variant, and constructions for it, of which some parameters are possible."""
    for variant in variants:
        for _ in range(_MAX_COMPOSITIONS):
            composition = compose(mechanism, variant, settings, rng)
            if draw_parameters(variant, composition, architecture, settings, rng):
                return variant, composition
            if len(composition.names) == 1 or composition.names[1] == ("none", "noise"):
                break
    raise ValueError(
        f"mechanism {mechanism!r}: no network fits {settings}; expected what its constructions allow, "
        "see docs/guides/planted.md"
    )


def draw_benchmark(n: int, seed: int) -> Iterator[PlantedNetworks]:
    """Networks balanced over mechanisms and over the two architectures, one after the other.

    Args:
        n: Number of networks.
        seed: Seed of everything.

    Yields:
        Networks in a fixed order of mechanisms, with alternating architectures.
    """
    for index in range(n):
        yield plant_at(index, seed)


def plant_at(index: int, seed: int) -> PlantedNetworks:
    """One network of `draw_benchmark`, so that several processes can share the work.

    Args:
        index: Its place in the order.
        seed: Seed of the benchmark.

    Returns:
        The network.
    """
    mechanism = MECHANISMS[(index // 2) % len(MECHANISMS)]
    return plant(mechanism, seed=seed + index, architecture=("gpt2", "llama")[index % 2])
