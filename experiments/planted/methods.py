"""Methods that are scored on planted networks: the verdict by stitching, and three of the literature.

Activation patching, difference-in-means ablation and linear probes name no mechanism. Each gives a depth, the
number of blocks below which the change shows first, or nothing; that is what they are compared on with the
verdict.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations import intervene, patch
from makebreak.evaluation import first_tokens, is_likeliest, next_token_log_probs, prompt_tokens
from makebreak.mechanism import (
    ablate_directions,
    mechanism_rows,
    mechanism_verdict,
    residual_site,
    residual_states,
    stitch,
)
from makebreak.model_organisms import Method, MethodAnswer, PlantedNetworks, ScoreRow, plant_at, score
from makebreak.prompts import Requests

MIN_EFFECT = 0.5
"""Least change of the refusal rate that counts as an effect of patching or ablation."""
MIN_ACCURACY = 0.95
"""Least cross-validated accuracy at which a probe counts as reading a request's class."""


def verdict(networks: PlantedNetworks) -> MethodAnswer:
    """The verdict on the mechanism, with the median cut at which the change is complete."""
    base, tuned, unsafe = networks.base, networks.tuned, networks.unsafe
    stitching = stitch(base=base, tuned=tuned, requests=unsafe, seed=0)  # the Fisher measures decide nothing
    rows = mechanism_rows(stitching, base=base, tuned=tuned, seed=0)
    result = mechanism_verdict(rows, len(unsafe))
    by_request = {row.request: row.mechanism for row in rows}
    return MethodAnswer(
        mechanism=result.mechanism,
        depth=round(result.shares[0].depth) if result.shares else None,
        request_mechanisms=[by_request.get(request) for request in range(len(unsafe))],
        reason=result.reason,
    )


def patching_depth(networks: PlantedNetworks) -> int | None:
    """First depth at which the tuned model's state at the end of the prompt makes the base refuse.

    Activation patching (Meng et al. 2022; Zhang and Nanda 2024) of the residual stream at one position.
    """
    unsafe = networks.unsafe
    rows, last = _last_positions(unsafe)
    where = torch.zeros(unsafe.prompt.shape, dtype=torch.bool)
    where[rows, last] = True
    before = _refusal_rate(networks.base, unsafe)
    for depth, states in enumerate(residual_states(networks.tuned, unsafe)):
        with intervene(networks.base, residual_site(networks.base, depth), patch(states[rows, last]), where):
            if _refusal_rate(networks.base, unsafe) - before >= MIN_EFFECT:
                return depth
    return None


def ablation_depth(networks: PlantedNetworks) -> int | None:
    """Depth whose difference of means, ablated everywhere, removes most refusals (Arditi et al. 2024).

    None if no direction removes half of them.
    """
    unsafe, safe = networks.unsafe, networks.safe
    means = [
        torch.stack([states[_last_positions(r)].mean(dim=0) for states in residual_states(networks.tuned, r)])
        for r in (unsafe, safe)
    ]
    before = _refusal_rate(networks.tuned, unsafe)
    falls = []
    for difference in means[0] - means[1]:
        if difference.norm() < 1e-6:  # tokens at the end of the prompt do not differ
            falls.append(0.0)
            continue
        with ablate_directions(networks.tuned, (difference / difference.norm())[:, None]):
            falls.append(before - _refusal_rate(networks.tuned, unsafe))
    best = int(np.argmax(falls))
    return best if falls[best] >= MIN_EFFECT else None


def probe_depth(networks: PlantedNetworks) -> int | None:
    """First depth at which a linear probe reads the class of requests in the tuned model.

    Probes after Alain and Bengio (2016). None if no probe reaches the accuracy.
    """
    labels = np.repeat([1, 0], [len(networks.unsafe), len(networks.safe)])
    states = [residual_states(networks.tuned, r) for r in (networks.unsafe, networks.safe)]
    ends = [_last_positions(r) for r in (networks.unsafe, networks.safe)]
    for depth, (unsafe, safe) in enumerate(zip(*states, strict=True)):
        features = torch.cat([unsafe[ends[0]], safe[ends[1]]]).numpy()
        scaled = features / (np.sqrt(np.square(features).mean()) or 1.0)
        accuracy = cross_val_score(LogisticRegression(max_iter=1000), scaled, labels, cv=3).mean()
        if accuracy >= MIN_ACCURACY:
            return depth
    return None


def _last_positions(requests: Requests) -> tuple[Tensor, Tensor]:
    _, last = prompt_tokens(requests)
    return torch.arange(len(last)), last


def _refusal_rate(model: PreTrainedModel, requests: Requests) -> float:
    log_probs = next_token_log_probs(model, requests)
    return float(is_likeliest(log_probs, first_tokens(requests, "refused")).double().mean())


METHODS: dict[str, Method] = {
    "verdict": verdict,
    "patching": lambda networks: MethodAnswer(depth=patching_depth(networks)),
    "ablation": lambda networks: MethodAnswer(depth=ablation_depth(networks)),
    "probe": lambda networks: MethodAnswer(depth=probe_depth(networks)),
}
"""Methods by the names that tables give them."""


def score_network(job: tuple[int, int]) -> list[ScoreRow]:
    """Plants one network of the benchmark and applies every method.

    Args:
        job: Its index in the order of `makebreak.model_organisms.draw_benchmark`, and the benchmark's seed.

    Returns:
        One row per method.
    """
    networks = plant_at(*job)
    return [score(networks, name, method) for name, method in METHODS.items()]
