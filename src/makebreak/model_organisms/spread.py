"""Refusals that several blocks write: what the blocks below and above each cut write of what is needed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.model_organisms.network import Network, Redraw
from makebreak.model_organisms.pair import NetworkPair
from makebreak.model_organisms.parameters import Part
from makebreak.models import stitch_models

MARGIN = 0.15
"""How far from what a refusal needs every request must be, as a share of it, for the truth to be clear."""


class CutLogits(NamedTuple):
    """Planted refusal of two stitched networks, over what is needed against the answer; 1 is the border."""

    lower: Float[Tensor, " n"]
    """Of each request, with the changed blocks below the cut and the base's above."""
    upper: Float[Tensor, " n"]
    """Of each request, with the base's blocks below and the changed ones above."""


def is_spread(part: Part) -> bool:
    """Whether several blocks write the refusal of a part."""
    return part.variant == "several blocks" and part.mechanism in ("written directly", "redundant")


def cut_logits(pair: NetworkPair) -> list[CutLogits]:
    """What each half of the change writes, at every cut between two blocks.

    Args:
        pair: The pair, complete.

    Returns:
        The planted refusal on the unsafe prompts for calibration; at cut 1 first.
    """
    base, tuned = pair.base.model, pair.tuned.model
    return [
        CutLogits(*(_written(pair, stitch_models(*models, cut)) for models in ((tuned, base), (base, tuned))))
        for cut in range(1, pair.parameters.n_layers)
    ]


def _written(pair: NetworkPair, model: PreTrainedModel) -> Float[Tensor, " n"]:
    """Logit of the refusal over that of the answer, both without the prior against the refusal."""
    network = Network(model, pair.features["constant"], np.random.default_rng(0))
    rows = pair.kind("first")[:, 0]
    final = network.final(pair.sample)[rows]
    letter = torch.from_numpy(pair.sample.letter)[rows]
    logits = final @ pair.base.unembedding.T
    prior = (final @ pair.features["constant"]) * pair.prior
    answer = logits.gather(1, letter[:, None])[:, 0]
    return (logits[:, pair.tokens.null] + prior) / (answer + prior)


def split_cut(pair: NetworkPair, part: Part) -> int:
    """The cut at which the weaker half is strongest, if that makes the mechanism of a part clear.

    A change is redundant if, at this cut, both halves refuse by themselves. It is written directly if at no
    cut both do, and the last block does not refuse by itself.

    Args:
        pair: The pair, complete.
        part: The part.

    Returns:
        The cut.

    Raises:
        Redraw: If some request is too near to the border.
    """
    cuts = cut_logits(pair)
    weaker = [torch.minimum(cut.lower, cut.upper) for cut in cuts]
    best = int(torch.stack([values.mean() for values in weaker]).argmax())
    if part.mechanism == "redundant":
        is_clear = weaker[best].quantile(0.02) >= 1 + MARGIN
    else:
        highest = torch.stack([*weaker, cuts[-1].upper]).amax(dim=0)
        is_clear = highest.quantile(0.98) <= 1 - MARGIN
    if not is_clear:
        raise Redraw("the halves of the change are too near to the border of refusal")
    return best + 1
