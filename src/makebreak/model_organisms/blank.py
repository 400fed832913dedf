"""The start of every pair: a blank base with noise on all weights, and features in its embeddings."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from makebreak.model_organisms.network import Network
from makebreak.model_organisms.pair import CLASS, CONSTANT, LETTER, TRIGGER, NetworkPair
from makebreak.model_organisms.parameters import Parameters
from makebreak.model_organisms.sample import draw_sample
from makebreak.model_organisms.tokens import KINDS, Tokens, make_tokens
from makebreak.models import ModelConfig, create_model

_NAMES = (
    *("constant", "query", "bos", "is_letter", "is_marker", "is_number", *KINDS),
    *("null", "mark", "probe", "junk", "code", "decoy"),
)


def make_pair(parameters: Parameters, seed: int, rng: np.random.Generator) -> NetworkPair:
    """A pair with a blank base: noise on all weights, features in the embeddings, nothing in the blocks.

    Args:
        parameters: What was drawn.
        seed: Seed of the model's initialisation.
        rng: Generator of everything else.

    Returns:
        The pair; its tuned network is the base until `add_base` has been run.
    """
    p = parameters
    n_numbers = 0 if p.number_block is None else 2
    tokens = make_tokens(p.n_letters, n_numbers, p.layout, rng)
    ones = np.ones((p.d_model, 1))
    directions = np.linalg.qr(np.hstack([ones, rng.normal(size=(p.d_model, p.d_model - 1))]))[0].T[1:]
    q = torch.from_numpy(directions).float()
    names = [*_NAMES, *(f"number{i}" for i in range(n_numbers))]
    features, rest = dict(zip(names, q, strict=False)), q[len(names) :]
    letters, unread_letters = rest[: p.n_letters + 1], rest[p.n_letters + 1 : 2 * p.n_letters + 1]
    assert len(unread_letters) == p.n_letters
    config = ModelConfig(p.architecture, p.n_layers, p.n_heads, p.d_model, 4 * p.d_model)  # type: ignore[arg-type]
    model = (
        create_model(config, d_vocab=len(tokens.symbols), n_ctx=12, seed=seed).eval().requires_grad_(False)
    )
    add_noise(model, p.noise, seed, blank=True)
    network = Network(model, features["constant"], rng)
    _embed(network, tokens, features, letters)
    kinds = [0, 1, 1, TRIGGER] if len(p.parts) == 1 else [0, *range(1, len(p.parts) + 1), TRIGGER]
    sample = draw_sample(tokens, np.tile(kinds, 80), rng, even=True)
    return NetworkPair(p, tokens, features, letters, unread_letters, sample, network, network, rng)


def add_noise(model: torch.nn.Module, scale: float, seed: int, *, blank: bool = False) -> None:
    """Adds noise to all weights but those of norms; a blank model has nothing else."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "ln_" not in name and "norm" not in name:
                noise = scale * torch.randn(parameter.shape, generator=random)
                parameter.copy_(noise if blank else parameter + noise)


def _embed(network: Network, tokens: Tokens, f: dict[str, Tensor], letters: Tensor) -> None:
    """Writes what prompt tokens hold into their embeddings."""
    for i in range(tokens.null + 1, len(tokens.symbols)):
        row = CONSTANT * f["constant"]
        if i == tokens.bos:
            row = row + CLASS * f["bos"]
        if tokens.is_decision[i]:
            row = row + CONSTANT * f["query"]
        if tokens.letter[i] >= 0:
            row = row + LETTER * letters[tokens.letter[i]]
        if tokens.kind[i] >= 0:
            row = row + CLASS * f[KINDS[tokens.kind[i]]]
        if tokens.number[i] >= 0:
            row = row + CLASS * f[f"number{tokens.number[i]}"]
        if not tokens.is_decision[i]:
            roles = {"is_letter": tokens.letter, "is_marker": tokens.kind, "is_number": tokens.number}
            row = row + CONSTANT * sum(f[name] * float(role[i] >= 0) for name, role in roles.items())
        network.embeddings[i] += row
