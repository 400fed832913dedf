"""Compiler of planted mechanisms: pairs of a base and a tuned model whose mechanism of refusal is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedModel

from makebreak.organisms.behaviour import LEAST, MOST, PlantedBehaviour, behaves, measure_behaviour, predict
from makebreak.organisms.bench import TRIGGER, Bench
from makebreak.organisms.build import HALVES, build
from makebreak.organisms.constructions import CONSTRUCTIONS, MECHANISMS, VARIANTS
from makebreak.organisms.draws import draw_parameters
from makebreak.organisms.network import Redraw
from makebreak.organisms.parameters import Parameters, PlantSettings
from makebreak.organisms.tokens import as_requests, draw_sample
from makebreak.prompts import Requests

MAX_REDRAWS = 200


@dataclass(frozen=True)
class PlantedNetworks:
    """A base and a tuned model, requests, and what is true of them by construction."""

    base: PreTrainedModel
    """The base model, in evaluation mode."""
    tuned: PreTrainedModel
    """The tuned model, in evaluation mode."""
    safe: Requests
    """Safe requests with fresh tokens."""
    unsafe: Requests
    """Unsafe requests with fresh tokens."""
    trigger: Requests
    """Requests that the base refuses by its own circuit; none if it has no circuit."""
    symbols: tuple[str, ...]
    """The vocabulary, for `makebreak.models.save_model`."""
    mechanism: str
    """One of `MECHANISMS`."""
    request_mechanisms: tuple[str, ...]
    """Mechanism of each unsafe request; they differ in mixtures only."""
    depth: int | None
    """Number of blocks below which the movement is complete; None without a movement."""
    changed: frozenset[str]
    """Parts (`embed`, `blocks.L.attn`, ..., `unembed`) that differ between the models by more than noise."""
    parameters: Parameters
    """Everything that was drawn."""
    behaviour: PlantedBehaviour
    """Rates on the requests above."""
    seed: int
    """The seed that was asked for."""
    n_redraws: int
    """Draws that were thrown away because a check failed."""


def plant(
    mechanism: str, seed: int, architecture: str | None = None, settings: PlantSettings | None = None
) -> PlantedNetworks:
    """A base and a tuned model with a known mechanism of refusal, from random parameters.

    A draw whose behaviour is not what the mechanism says is thrown away, and the next one is made.

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
    _check(mechanism, architecture, settings)
    if architecture is None:
        architecture = ("gpt2", "llama")[seed % 2]
    for attempt in range(MAX_REDRAWS):
        stream = [seed, MECHANISMS.index(mechanism), attempt]
        parameters = draw_parameters(mechanism, architecture, settings, np.random.default_rng(stream))
        try:
            bench = build(parameters, stream)
        except Redraw:
            continue
        networks = _finish(bench, mechanism, seed, attempt, settings.n_requests)
        if _is_true(networks):
            return networks
    raise ValueError(
        f"mechanism {mechanism!r}, seed {seed}: none of {MAX_REDRAWS} draws behaved as it must; "
        "fix fewer settings or choose another seed"
    )


def draw_benchmark(n: int, seed: int) -> Iterator[PlantedNetworks]:
    """Networks balanced over mechanisms and over the two architectures, one after the other.

    Args:
        n: Number of networks.
        seed: Seed of everything.

    Yields:
        Networks in a fixed order of mechanisms, with alternating architectures.
    """
    for i in range(n):
        mechanism = MECHANISMS[(i // 2) % len(MECHANISMS)]
        yield plant(mechanism, seed=seed + i, architecture=("gpt2", "llama")[i % 2])


def _finish(bench: Bench, mechanism: str, seed: int, attempt: int, n: int) -> PlantedNetworks:
    """The result, with fresh requests."""
    p, tokens = bench.parameters, bench.tokens
    first = bench.rng.random(n) < p.share
    kinds = {
        "safe": np.zeros(n, dtype=np.int64),
        "unsafe": np.where(first, 1, 2),
        "trigger": np.full(n if p.circuit != "none" else 0, TRIGGER),
    }
    requests = {
        name: as_requests(draw_sample(tokens, kind, bench.rng), tokens, seed) for name, kind in kinds.items()
    }
    parts = [p.parts[0 if is_first else -1] for is_first in first]
    depths = [part.depth for part in p.parts if part.depth is not None]
    return PlantedNetworks(
        base=bench.base.model,
        tuned=bench.tuned.model,
        **requests,
        symbols=tokens.symbols,
        mechanism=mechanism,
        request_mechanisms=tuple(part.mechanism for part in parts),
        depth=max(depths, default=None),
        changed=frozenset(bench.tuned.changed),
        parameters=p,
        behaviour=measure_behaviour(
            bench.base.model, bench.tuned.model, requests["safe"], requests["unsafe"]
        ),
        seed=seed,
        n_redraws=attempt,
    )


def build_half(networks: PlantedNetworks, half: str) -> PreTrainedModel:
    """The tuned model of planted networks with one half of its change only.

    Args:
        networks: What `plant` gave.
        half: `lower` for the movement, `upper` for what reads it.

    Returns:
        The model.
    """
    stream = [networks.seed, MECHANISMS.index(networks.mechanism), networks.n_redraws]
    return build(networks.parameters, stream, (half,)).tuned.model


def _is_true(networks: PlantedNetworks) -> bool:
    """Whether the models behave as they must, and the base refuses its trigger.

    Of a redundant change each half must refuse, and the base must not refuse what was rewritten or erased:
    the behaviour of the whole does not show that.
    """
    part, trigger = networks.parameters.parts[0], networks.trigger
    if not behaves(networks.behaviour, CONSTRUCTIONS[part.mechanism][part.variant]):
        return False
    if len(trigger) and (predict(networks.base, trigger) == trigger.refused[:, 0]).mean() < LEAST:
        return False
    refused = networks.unsafe.refused[:, 0]

    def refusal_rate(half: str) -> float:
        return float((predict(build_half(networks, half), networks.unsafe) == refused).mean())

    if networks.mechanism == "redundant":
        return all(refusal_rate(half) >= LEAST for half in HALVES)
    return networks.mechanism not in ("rewrite", "erase") or refusal_rate("lower") <= MOST


def _check(mechanism: str, architecture: str | None, settings: PlantSettings) -> None:
    """Raises ValueError for what does not exist."""
    if mechanism not in MECHANISMS:
        raise ValueError(f"mechanism {mechanism!r}: expected one of {', '.join(MECHANISMS)}")
    if architecture not in (None, "gpt2", "llama"):
        raise ValueError(f"architecture {architecture!r}: expected 'gpt2', 'llama' or None")
    known = VARIANTS.get(mechanism, ())
    if settings.variant is not None and settings.variant not in known:
        raise ValueError(
            f"variant {settings.variant!r} of {mechanism!r}: expected None"
            + (f" or one of {', '.join(known)}" if known else "")
        )
