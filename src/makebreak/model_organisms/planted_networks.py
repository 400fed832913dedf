"""What the compiler hands out: two models, requests, and the truth about them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from transformers import PreTrainedModel

from makebreak.model_organisms.behaviour import (
    LEAST,
    MOST,
    PlantedBehaviour,
    behaves,
    measure_outcomes,
    predict,
    summarise_behaviour,
)
from makebreak.model_organisms.build import HALVES, build
from makebreak.model_organisms.composites import MECHANISMS, count_requests, is_clear
from makebreak.model_organisms.network import Redraw
from makebreak.model_organisms.pair import TRIGGER, NetworkPair
from makebreak.model_organisms.parameters import Parameters
from makebreak.model_organisms.sample import as_requests, draw_sample
from makebreak.model_organisms.variants import CONSTRUCTIONS
from makebreak.prompts import Requests


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
    """Mechanism of each unsafe request; `none` where the tuned model answers as the base does."""
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


def draw_requests(pair: NetworkPair, mechanism: str, seed: int, n: int) -> dict[str, Requests]:
    """Fresh requests, safe, unsafe and with the base's trigger.

    Args:
        pair: The complete pair.
        mechanism: What was planted.
        seed: Seed that is recorded.
        n: Number of each.

    Returns:
        Requests by name: `safe`, `unsafe`, `trigger`.

    Raises:
        Redraw: If the shares of the parts are too near to the border.
    """
    p, rng = pair.parameters, pair.rng
    counts = count_requests(p.shares, n)
    if len(counts) > 1 and not is_clear(counts, mechanism, p.variant):
        raise Redraw("the shares of the parts are too near to the border")
    kinds = {
        "safe": np.zeros(n, dtype=np.int64),
        "unsafe": rng.permutation(np.repeat(np.arange(1, len(counts) + 1), counts)),
        "trigger": np.full(n if p.circuit != "none" else 0, TRIGGER),
    }
    return {
        name: as_requests(draw_sample(pair.tokens, kind, rng), pair.tokens, seed)
        for name, kind in kinds.items()
    }


def finish(pair: NetworkPair, mechanism: str, stream: list[int], n: int) -> PlantedNetworks | None:
    """The networks with fresh requests, or None if they do not behave as they must.

    Of a redundant change each half must refuse, and the base must not refuse what was rewritten or erased:
    the behaviour of the whole does not show that.

    Args:
        pair: The complete pair.
        mechanism: What was planted.
        stream: Seed, number of the mechanism and of the draw.
        n: Number of safe, and of unsafe requests.

    Returns:
        The networks; None if a check failed.
    """
    p, base, tuned = pair.parameters, pair.base.model, pair.tuned.model
    requests = draw_requests(pair, mechanism, stream[0], n)
    safe, unsafe = (measure_outcomes(base, tuned, requests[name]) for name in ("safe", "unsafe"))
    part = requests["unsafe"].truth["part"]
    constructions = [CONSTRUCTIONS[member.mechanism][member.variant] for member in p.parts]
    if not behaves(safe, unsafe, part, constructions):
        return None
    trigger = requests["trigger"]
    if len(trigger) and (predict(base, trigger) == trigger.refused[:, 0]).mean() < LEAST:
        return None
    depths = [member.depth for member in p.parts if member.depth is not None]
    networks = PlantedNetworks(
        base=base,
        tuned=tuned,
        **requests,
        symbols=pair.tokens.symbols,
        mechanism=mechanism,
        request_mechanisms=tuple(p.parts[i].mechanism for i in part),
        depth=max(depths, default=None),
        changed=frozenset(pair.tuned.changed),
        parameters=p,
        behaviour=summarise_behaviour(safe, unsafe),
        seed=stream[0],
        n_redraws=stream[2],
    )
    return networks if _halves_are_right(networks, part) else None


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


def _halves_are_right(networks: PlantedNetworks, part: np.ndarray) -> bool:
    def refusal_rate(half: str, rows: Bool[np.ndarray, " n"]) -> float:
        refuses = predict(build_half(networks, half), networks.unsafe) == networks.unsafe.refused[:, 0]
        return float(refuses[rows].mean())

    for i, member in enumerate(networks.parameters.parts):
        rows = part == i
        if member.mechanism == "redundant" and any(refusal_rate(half, rows) < LEAST for half in HALVES):
            return False
        if member.mechanism in ("rewrite", "erase") and refusal_rate("lower", rows) > MOST:
            return False
    return True
