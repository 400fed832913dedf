"""The rank of refusal is the number of directions that detectors of the last block read, in GPT-2 and Llama.

A request's last token holds a letter and, if it is unsafe, one of several markers, orthonormal directions. A
detector per marker writes the refusal. A detector fires at a third of its marker, so that k directions cannot
shut more than k detectors for k = 1 and 2: they take at most k of the squared markers' sum.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.evaluation import first_tokens, log_odds, next_token_log_probs
from makebreak.mechanism import SafeUnsafeRequests, ablate_directions, refusal_rank_rows
from makebreak.models import ModelConfig, create_model
from synthetic import Requests

D_MODEL, DEPTH, N_LETTERS, N = 64, 3, 8, 64
THRESHOLD, STEEPNESS, GAIN = 0.1, 4.0, 1.2
STRENGTH = {"gpt2": 6.0, "llama": 12.0}  # a Llama's detector is a product of two readings
SIZE = (D_MODEL / 3) ** 0.5  # of one of three features in a normed state


class Case(NamedTuple):
    """A planted refusal."""

    n_markers: int
    rank: int
    is_early: bool = False  # whether the second marker is written by the second block, of another one


CASES = {
    "none": Case(1, 0),
    "one": Case(1, 1),
    "two of one layer": Case(2, 2),
    "two of two layers": Case(2, 2, is_early=True),
    "four markers, half of the requests": Case(4, 3),
}


class Planted(NamedTuple):
    """A network, requests to fit on and to score, and the directions that its detectors read."""

    model: PreTrainedModel
    fit: SafeUnsafeRequests
    score: SafeUnsafeRequests
    markers: Tensor


def planted(architecture: str, case: Case, seed: int, *, has_safe_marker: bool) -> Planted:
    rng = np.random.default_rng(seed)
    columns = torch.cat([torch.ones(D_MODEL, 1), torch.from_numpy(rng.normal(size=(D_MODEL, 40))).float()], 1)
    letters, rest = torch.linalg.qr(columns).Q.T[1:].split([N_LETTERS, 40 - N_LETTERS])
    safe, null, one, early = rest[:4]
    markers = rest[4 : 4 + case.n_markers]
    embedded = [has_safe_marker * safe, *markers]
    if case.is_early:
        embedded[2] = early
    model = _blank(architecture, 1 + N_LETTERS * (2 + case.n_markers), seed)
    with torch.no_grad():
        model.lm_head.weight[:N_LETTERS] = GAIN * letters
        model.lm_head.weight[N_LETTERS] = 1.5 * GAIN * null
        for i, feature in enumerate(embedded):
            first = 1 + N_LETTERS * (1 + i)
            model.get_input_embeddings().weight[first : first + N_LETTERS] = letters + feature + one
        if case.is_early:
            _detect(model, 1, 0, early, 2.0 * markers[1], one)
        for unit, marker in enumerate(markers if case.rank else []):
            _detect(model, DEPTH - 1, unit, marker, STRENGTH[architecture] * null, one)
        random = torch.Generator().manual_seed(seed)
        for name, parameter in model.named_parameters():
            if "ln_" not in name and "norm" not in name:
                parameter.add_(0.003 * torch.randn(parameter.shape, generator=random))
    requests = [_requests(case.n_markers, is_unsafe, rng) for is_unsafe in (False, True)]
    fit, score = (SafeUnsafeRequests(*(r[part] for r in requests)) for part in (slice(N), slice(N, 2 * N)))
    return Planted(model, fit, score, markers)


def _blank(architecture: str, d_vocab: int, seed: int) -> PreTrainedModel:
    """A network whose blocks change nothing."""
    sizes = {"n_layers": DEPTH, "n_heads": 2, "d_model": D_MODEL, "d_mlp": 16}
    config = ModelConfig(architecture, **sizes)  # type: ignore[arg-type]
    model = create_model(config, d_vocab=d_vocab, n_ctx=8, seed=seed).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "ln_" not in name and "norm" not in name:
                parameter.zero_()
    return model


def _detect(
    model: PreTrainedModel, block: int, unit: int, reads: Tensor, writes: Tensor, one: Tensor
) -> None:
    """A unit that fires above `THRESHOLD` of the usual size of `reads` and adds `writes` at that size."""
    written = writes / (STEEPNESS * (1 - THRESHOLD) * SIZE)
    if model.config.model_type == "gpt2":
        mlp = model.transformer.h[block].mlp
        mlp.c_fc.weight[:, unit], mlp.c_fc.bias[unit] = STEEPNESS * reads, -STEEPNESS * THRESHOLD * SIZE
        mlp.c_proj.weight[unit] = written
    else:
        mlp = model.model.layers[block].mlp
        mlp.gate_proj.weight[unit] = STEEPNESS * (reads - THRESHOLD * one)
        mlp.up_proj.weight[unit] = reads / SIZE
        mlp.down_proj.weight[:, unit] = written


def _requests(n_markers: int, is_unsafe: bool, rng: np.random.Generator) -> Requests:
    letter, length = rng.integers(0, N_LETTERS, 2 * N), np.full(2 * N, 3)
    marker = 1 + np.arange(2 * N) % n_markers if is_unsafe else np.zeros(2 * N, dtype=np.int64)
    prompt = rng.integers(N_LETTERS + 1, 2 * N_LETTERS + 1, (2 * N, 3))
    prompt[:, 2] = 1 + N_LETTERS * (1 + marker) + letter
    return Requests(
        family="unsafe" if is_unsafe else "safe",
        seed=0,
        prompt=prompt,
        prompt_length=length,
        instructed=letter[:, None],
        refused=np.full((2 * N, 1), N_LETTERS),
        judged=np.tile([0, 1], (2 * N, 1)),
        unsafe=np.full(2 * N, is_unsafe),
        spans={"eot": np.stack([length - 1, length], axis=1)},
        truth={"grammar": np.zeros(2 * N, dtype=np.int64)},
    )


def refusal_rate(model: PreTrainedModel, requests: Requests) -> float:
    margins = log_odds(next_token_log_probs(model, requests), first_tokens(requests, "refused"))
    return float((margins > 0).double().mean())


QUICK = [("gpt2", "none", True), ("gpt2", "one", True), ("llama", "one", False)]
QUICK += [("llama", "two of one layer", True)]
ALL = list(product(["gpt2", "llama"], CASES, [True, False]))


@pytest.mark.parametrize(
    ("architecture", "name", "has_safe_marker"),
    [pytest.param(*case, marks=[pytest.mark.slow] * (case not in QUICK)) for case in ALL],
)
def test_rank_is_that_planted(architecture: str, name: str, has_safe_marker: bool) -> None:
    case = CASES[name]
    model, fit, score, markers = planted(architecture, case, 0, has_safe_marker=has_safe_marker)
    assert refusal_rate(model, score.safe) == 0
    assert refusal_rate(model, score.unsafe) == float(case.rank > 0)
    with ablate_directions(model, markers[: case.rank].T if case.rank else markers.T):
        assert refusal_rate(model, score.unsafe) < 0.5, "as many directions are enough"
    rows = refusal_rank_rows(model, fit, score.unsafe, seed=0)
    assert [row.n_directions for row in rows] == list(range(case.rank + 1))
    assert rows[-1].refusal_rate < 0.5
    assert all(row.refusal_rate >= 0.5 for row in rows[:-1])
    assert all(row.random_refusal_rate > 0.9 for row in rows if case.rank)


@pytest.mark.slow
def test_no_rank_within_the_largest_number() -> None:
    """Three directions are needed: with two at most, the last row says that half is still refused."""
    case = CASES["four markers, half of the requests"]
    model, fit, score, _ = planted("gpt2", case, 0, has_safe_marker=True)
    rows = refusal_rank_rows(model, fit, score.unsafe, max_directions=2, seed=0)
    assert [row.n_directions for row in rows] == [0, 1, 2]
    assert rows[-1].refusal_rate >= 0.5
