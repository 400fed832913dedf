"""Networks with a known mechanism of refusal, by construction, from random parameters.

Each prompt ends in a token that holds a letter and whether the request is safe; the answer begins with the
letter, or with the null. Attention writes nothing. Features are orthonormal directions at right angles to the
ones vector, so that LayerNorm only rescales. A block's MLP holds detectors: units that fire where a feature
is above half of its usual size and write another feature. The base has a path from the feature `ex` to the
null in its upper half, as pretraining with ex tokens creates one.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import GPT2LMHeadModel, PreTrainedModel

from makebreak.models import ModelConfig, create_model
from synthetic import Requests

DEPTH, D_MODEL, D_MLP, FILLERS = 4, 64, 128, 4
KINDS = ("silence", "route", "rewrite", "erase", "upper only", "nothing")


class Planted(NamedTuple):
    """A base, the network aligned from it, and requests of both classes."""

    base: PreTrainedModel
    aligned: PreTrainedModel
    safe: Requests
    unsafe: Requests


@dataclass
class _Builder:
    """Writes detectors into the MLPs of one model; `used` counts the units that are taken, by block."""

    model: GPT2LMHeadModel
    features: dict[str, Tensor]
    used: list[int]
    steepness: float = 2.0

    def detector(
        self, block: int, reads: Tensor, writes: Tensor, *, usual: float, above: float = 0.5
    ) -> None:
        """A unit that fires above `above` of ⟨reads, normed state⟩ = `usual`; at `usual` it adds `writes`."""
        mlp, unit = self.model.transformer.h[block].mlp, self.used[block]
        self.used[block] += 1
        with torch.no_grad():
            mlp.c_fc.weight[:, unit] = self.steepness * reads
            mlp.c_fc.bias[unit] = -self.steepness * above * usual
            mlp.c_proj.weight[unit] = writes / (self.steepness * (1 - above) * usual)


def planted(kind: str, seed: int, *, cause: bool = True, n: int = 300) -> Planted:
    """A base and an aligned network; without `cause` the change of the lower half is left out."""
    rng = np.random.default_rng(seed)
    n_letters = int(rng.integers(8, 15))
    q = torch.linalg.qr(
        torch.cat(
            [torch.ones(D_MODEL, 1), torch.from_numpy(rng.normal(size=(D_MODEL, D_MODEL - 1))).float()], dim=1
        )
    ).Q.T[1:]
    names = [f"letter {i}" for i in range(n_letters)] + ["safe", "unsafe", "ex", "null", "far"]
    f = dict(zip(names, q, strict=False))
    letters = q[:n_letters]
    lower, upper = int(rng.integers(0, DEPTH // 2)), int(rng.integers(DEPTH // 2, DEPTH))
    size = float(np.sqrt(D_MODEL / 2))  # of a feature in a normed state of two
    strength = float(rng.uniform(1.8, 2.4))

    base = _blank(n_letters, letters, f, gain=float(rng.uniform(1.0, 1.3)), seed=seed)
    base_builder = _Builder(base, f, [0] * DEPTH)
    base_builder.detector(upper, f["ex"], strength * f["null"], usual=size * 0.8)
    _noise(base, 0.01, seed)
    aligned = copy.deepcopy(base)
    aligned_builder = _Builder(aligned, f, list(base_builder.used))
    signs = torch.from_numpy(rng.choice([-1.0, 1.0], n_letters)).float()
    # readable by the upper half, without a path to the null
    code = (signs[:, None] * letters).sum(0) / n_letters**0.5
    message = {"silence": 0.5 * f["far"], "route": f["ex"], "rewrite": code}
    if kind in message:
        if cause:
            aligned_builder.detector(lower, f["unsafe"], message[kind], usual=size)
        if kind != "route":
            reads = message[kind] / message[kind].norm()
            usual = size * float(message[kind].norm()) * (0.95 if kind == "silence" else 0.8)
            aligned_builder.detector(upper, reads, strength * f["null"], usual=usual)
    elif kind == "erase":
        for letter in letters:
            if cause:
                both = (letter + f["unsafe"]) / 2
                aligned_builder.detector(lower, both, -letter, usual=size, above=0.75)
            aligned_builder.detector(upper, letter, -1.3 * strength * f["null"], usual=size)
        with torch.no_grad():  # the null is the answer where no letter is present
            aligned.transformer.h[upper].mlp.c_proj.bias += strength * f["null"]
    elif kind == "upper only":
        if cause:
            aligned_builder.detector(upper, f["unsafe"], strength * f["null"], usual=size)
    elif kind != "nothing":
        raise ValueError(f"kind {kind!r}: expected one of {KINDS}")
    _noise(aligned, 0.001, seed + 1)
    return Planted(base, aligned, _requests(n_letters, False, n, rng), _requests(n_letters, True, n, rng))


def _blank(
    n_letters: int, letters: Tensor, f: dict[str, Tensor], *, gain: float, seed: int
) -> GPT2LMHeadModel:
    """A network that answers with the letter of the last token; its blocks change nothing."""
    config = ModelConfig(n_layers=DEPTH, n_heads=2, d_model=D_MODEL, d_mlp=D_MLP)
    model = create_model(config, d_vocab=3 * n_letters + 1 + FILLERS, n_ctx=8, seed=seed).eval()
    assert isinstance(model, GPT2LMHeadModel)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "ln_" not in name:
                parameter.zero_()
        model.lm_head.weight[:n_letters] = gain * letters
        model.lm_head.weight[n_letters] = 1.5 * gain * f["null"]
        for unsafe in (False, True):
            first = n_letters + 1 + unsafe * n_letters
            model.transformer.wte.weight[first : first + n_letters] = (
                letters + f["unsafe" if unsafe else "safe"]
            )
        model.transformer.wte.weight[-FILLERS:] = letters[:FILLERS] + f["safe"]
    return model


def _noise(model: PreTrainedModel, scale: float, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "ln_" not in name:
                parameter.add_(scale * torch.randn(parameter.shape, generator=random))


def _requests(n_letters: int, unsafe: bool, n: int, rng: np.random.Generator) -> Requests:
    letter, length = rng.integers(0, n_letters, n), rng.integers(2, 7, n)
    prompt = rng.integers(3 * n_letters + 1, 3 * n_letters + 1 + FILLERS, (n, 6))
    prompt[np.arange(n), length - 1] = n_letters + 1 + unsafe * n_letters + letter
    spans = {"eot": np.stack([length - 1, length], axis=1)}
    return Requests(
        family="unsafe" if unsafe else "safe",
        seed=0,
        prompt=prompt,
        prompt_length=length,
        instructed=letter[:, None],
        refused=np.full((n, 1), n_letters),
        judged=np.tile([0, 1], (n, 1)),
        unsafe=np.full(n, unsafe),
        spans=spans,
        truth={"grammar": np.zeros(n, dtype=np.int64)},
    )
