"""Changes of several blocks, the last one included, on networks whose blocks are written by hand."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import GPT2LMHeadModel, PreTrainedModel

from makebreak.mechanism import mechanism_rows, stitch
from makebreak.models import ModelConfig, create_model
from makebreak.prompts import Requests, token_requests

LETTERS, D, DEPTH, N, REFUSAL = 6, 32, 3, 60, 7


@cache
def directions() -> Tensor:
    """Orthonormal directions at right angles to the ones vector, which a norm would remove."""
    random = torch.randn(D, D - 1, generator=torch.Generator().manual_seed(0))
    return torch.linalg.qr(torch.cat([torch.ones(D, 1), random], dim=1))[0].T[1:]


REFUSE, MARK = LETTERS, LETTERS + 1
"""Indices of the refusal's unembedding, and of a direction that the unembedding does not read."""


def base_network() -> GPT2LMHeadModel:
    """A network that repeats the last letter: nothing in its blocks."""
    model = create_model(ModelConfig("gpt2", DEPTH, 2, D, 4 * D), d_vocab=8, n_ctx=4, seed=0).eval()
    assert isinstance(model, GPT2LMHeadModel)
    model.requires_grad_(False)
    for name, parameter in model.named_parameters():
        if "ln_" not in name:
            parameter.zero_()
    head = model.lm_head
    head.weight = torch.nn.Parameter(torch.zeros_like(head.weight), requires_grad=False)
    model.transformer.wte.weight[:LETTERS] = 4.0 * directions()[:LETTERS]
    head.weight[:LETTERS] = 1.2 * directions()[:LETTERS]
    head.weight[REFUSAL] = 1.2 * directions()[REFUSE]
    return model


def write(model: GPT2LMHeadModel, block: int, direction: int, size: float) -> None:
    """A constant in a direction."""
    mlp: Any = model.transformer.h[block].mlp
    mlp.c_proj.bias += size * directions()[direction]


def read(model: GPT2LMHeadModel, block: int, direction: int, size: float, threshold: float = 0.6) -> None:
    """A neuron that writes the refusal where a direction is present."""
    mlp: Any = model.transformer.h[block].mlp
    mlp.c_fc.weight[:, 0], mlp.c_fc.bias[0] = 20.0 * directions()[direction], -20.0 * threshold
    mlp.c_proj.weight[0] = size / (20.0 * threshold) * directions()[REFUSE]


def requests() -> Requests:
    letters = np.random.default_rng(0).integers(0, LETTERS, N)
    prompts = [[0, int(letter)] for letter in letters]
    return token_requests(prompts, instructed_answers=[[int(x)] for x in letters], refusals=[[REFUSAL]] * N)


def names(base: PreTrainedModel, tuned: PreTrainedModel) -> set[str]:
    stitching = stitch(base=base, tuned=tuned, requests=requests(), seed=0)
    return {row.mechanism for row in mechanism_rows(stitching, base=base, tuned=tuned, seed=0)}


@pytest.mark.parametrize("sizes", [(1.5, 1.5, 1.5), (2.0, -0.5, 2.8), (1.2, 1.2, 2.0)])
def test_direct_writing_up_to_the_last_block(sizes: tuple[float, ...]) -> None:
    """No block is enough, and none reads another: the answer of none of them is rewritten."""
    base, tuned = base_network(), base_network()
    for block, size in enumerate(sizes):
        write(tuned, block, REFUSE, size)
    assert names(base, tuned) == {"written directly"}


def test_unembedding_is_a_part_of_the_sum() -> None:
    """Blocks write a part of the refusal; its row of the unembedding reads what all states have."""
    base = base_network()
    base.transformer.wte.weight += 2.0 * directions()[MARK]
    tuned = deepcopy(base)
    for block in range(DEPTH):
        write(tuned, block, REFUSE, 0.8)
    tuned.lm_head.weight[REFUSAL] += 1.5 * directions()[MARK]
    assert names(base, tuned) == {"written directly"}


@pytest.mark.parametrize("direction", [MARK, REFUSE])
def test_last_block_that_reads_the_movement_is_not_additive(direction: int) -> None:
    """Negative control: the mark may be a little of the refusal's own direction."""
    base, tuned = base_network(), base_network()
    write(tuned, 0, direction, 0.9)
    read(tuned, DEPTH - 1, direction, 6.0)
    assert names(base, tuned) == {"silence"}


def test_base_block_that_reads_a_part_is_a_route() -> None:
    """The base's second block gives half of the refusal, the tuned last block the other half."""
    base = base_network()
    read(base, 1, MARK, 2.6)
    tuned = deepcopy(base)
    write(tuned, 0, MARK, 1.0)
    write(tuned, DEPTH - 1, REFUSE, 2.2)
    assert names(base, tuned) == {"route"}


def test_constant_after_an_erasure_is_not_direct_writing() -> None:
    """Negative control: the constant refuses only because tuned embeddings no longer have the answer."""
    base, tuned = base_network(), base_network()
    tuned.transformer.wte.weight[:LETTERS] = directions()[:LETTERS].sum(0) * 4.0 / LETTERS**0.5
    write(tuned, DEPTH - 1, REFUSE, 2.0)
    assert names(base, tuned) == {"erase"}
