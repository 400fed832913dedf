"""Random requests for tiny networks of any architecture, and random networks that answer them."""

from __future__ import annotations

import numpy as np
import torch
from transformers import PreTrainedModel

from makebreak.attacks import SoftPrompt, SoftPromptResult
from makebreak.evaluation import WorldTarget
from makebreak.models import ModelConfig, create_model
from makebreak.prompts import Requests

FILLER, BEGIN, END = 0, 1, 2
"""Tokens of every vocabulary here: the first content of slots, and the tokens around a text."""


def random_requests(lengths: list[int], *, d_vocab: int, n_target: int = 2, seed: int = 0) -> Requests:
    """Begin, a text of each length, end; the instructed answers are random, the refused ones all `FILLER`."""
    rng = np.random.default_rng(seed)
    n, text = len(lengths), np.array(lengths)
    prompt = rng.integers(3, d_vocab, (n, text.max() + 2))
    prompt[:, 0] = BEGIN
    prompt[np.arange(n), text + 1] = END
    return Requests(
        family="random",
        seed=seed,
        prompt=prompt,
        prompt_length=text + 2,
        instructed=rng.integers(3, d_vocab, (n, n_target)),
        refused=np.full((n, n_target), FILLER),
        judged=np.tile([0, n_target], (n, 1)),
        unsafe=np.ones(n, dtype=bool),
        spans={
            "text": np.stack([0 * text + 1, text + 1], axis=1),
            "eot": np.stack([text + 1, text + 2], axis=1),
        },
        truth={"grammar": np.zeros(n, dtype=np.int64)},
    )


def random_network(architecture: str, *, d_vocab: int, n_ctx: int = 40, seed: int = 0) -> PreTrainedModel:
    """A random network far from uniform."""
    size = ModelConfig(architecture, n_layers=2, n_heads=2, d_model=16, d_mlp=40)  # type: ignore[arg-type]
    model = create_model(size, d_vocab=d_vocab, n_ctx=n_ctx, seed=seed).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model


def optimise_soft_prompt(
    model: PreTrainedModel, requests: Requests, attack: SoftPrompt, *, seed: int, shared: bool = False
) -> SoftPromptResult:
    """The requests with the vectors that an attack finds."""
    vectors = attack.optimise(WorldTarget(model), requests, seed=seed, shared=shared)
    return attack.insert(model, requests, vectors)
