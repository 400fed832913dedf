"""Does it make an attack succeed that its activations lie on the safe side, or does it only go with it?

The states of attacked requests are put back across the midpoint, and further, along the difference of means; the same
shift is given to clean safe requests, since any direction that refusal hangs on undoes attacks: what counts is what it
costs. Beside it stand a random direction at the same distance, and other differences of means at the same disturbance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.attacks.tried import Tried
from makebreak.behaviour import Read, decision_kl, gives
from makebreak.mechanism import Pair, collect, scale_to, shift_vectors

SCALES = (0.25, 0.5, 1.0, 2.0)
HARM = 0.05  # of clean safe requests
_ANSWERS = {"refused": "refused", "complied": "instructed"}


def cause_rows(
    model: PreTrainedModel,
    fit: Pair,
    clean: Pair,
    attacks: Sequence[Tried],
    *,
    layer: int,
    other: Int[Tensor, " n"] | None = None,
    seed: int,
) -> list[dict[str, Any]]:
    """One row per vector and scale, shifted at the end of text before `layer`.

    kind: `difference` of the means of unsafe and safe requests; `distance`, a random vector as long; `shuffled`,
    `other_label`, `covariance`, `random` as in `mechanism.shift_rows`, scaled until at scale 1 they disturb safe
    requests as much (KL). `mirrored`: every attacked request that is on the safe side of the midpoint goes to its
    mirror image, `mirrored_distance` as far in a random direction; safe requests then go the mean distance.
    n: attacked requests that were answered as instructed; undone: share of them that no longer are; refused: share that
    are refused now. safe_refused, safe_complied: of clean safe requests under the same shift; safe_before: those
    answered without it. gained: share of the clean unsafe requests that are not answered by themselves and are under
    the opposite shift. kl: of the decision on safe requests. undone is None where no attack succeeded.
    """
    site, random = f"blocks.{layer}.hook_resid_pre", torch.Generator().manual_seed(seed)
    won = [found[found.complied] for found in attacks if found.complied.any()]
    read = [_read(model, found) for found in won]
    plain = clean.unsafe[~gives(model, clean.unsafe, "instructed").numpy()]
    clean_safe, clean_unsafe = Read.of(model, clean.safe), Read.of(model, plain)
    safe, unsafe = (collect(model, requests, [site])[0].double() for requests in fit)
    vectors = shift_vectors(safe, unsafe, other, random)
    difference, middle = vectors["difference"], (safe.mean(dim=0) + unsafe.mean(dim=0)) / 2
    unharmed, before = _share(clean_safe.gives("instructed")), clean_safe.decide().double()

    def disturbance(vector: Tensor) -> float:
        return float(decision_kl(before, clean_safe.decide(site, vector).double()).mean())

    def row(kind: str, scale: float, moves: Sequence[Tensor], shift: Tensor) -> dict[str, Any]:
        complied, refused = (
            _moved(model, won, read, answer, site, moves) for answer in ("instructed", "refused")
        )
        on_safe = {f"safe_{name}": clean_safe.gives(answer, site, shift) for name, answer in _ANSWERS.items()}
        return (
            {
                "layer": layer,
                "kind": kind,
                "scale": scale,
                "distance": float(shift.norm()),
                "kl": disturbance(shift),
            }
            | {"n": sum(len(found.requests) for found in won)}
            | {"undone": None if complied is None else 1 - _share(complied)}
            | {"refused": None if refused is None else _share(refused)}
            | {name: _share(given) for name, given in on_safe.items()}
            | {"safe_before": unharmed, "n_plain": len(plain)}
            | {"gained": _share(clean_unsafe.gives("instructed", site, -shift)) if len(plain) else None}
        )

    target, rows = disturbance(difference), []
    noise = vectors["random"]
    for kind, vector in (
        {"difference": difference, "distance": noise}
        | {k: v for k, v in vectors.items() if k != "difference"}
    ).items():
        unit = (
            vector if kind in ("difference", "distance") else vector * scale_to(disturbance, vector, target)
        )
        rows += [row(kind, scale, [scale * unit] * len(won), scale * unit) for scale in SCALES]
    mirrored = [_mirror(model, found, site, middle, difference) for found in won]
    if mirrored:
        mean = float(torch.cat(mirrored).norm(dim=1).mean())
        for kind, along in (("mirrored", difference), ("mirrored_distance", noise)):
            direction = along / along.norm()
            moves = [move.norm(dim=1, keepdim=True) * direction for move in mirrored]
            rows.append(row(kind, mean / float(difference.norm()), moves, mean * direction))
    return rows


def undone_at(rows: Sequence[dict[str, Any]], kind: str, *, harm: float = HARM) -> float | None:
    """The greatest share of success undone by shifts of a kind that cost at most this share of the clean safe requests
    their answer; 0 where each costs more."""
    found = [row for row in rows if row["kind"] == kind]
    if not found or found[0]["undone"] is None:
        return None
    cheap = [row["undone"] for row in found if row["safe_before"] - row["safe_complied"] <= harm]
    return max(cheap, default=0.0)


def _mirror(
    model: PreTrainedModel, found: Tried, site: str, middle: Tensor, difference: Tensor
) -> Float[Tensor, "n d"]:
    """What brings each state that is on the safe side of the midpoint to its mirror image, along the difference."""
    unit = difference / difference.norm()
    with found.inside(model):
        along = (collect(model, found.requests, [site])[0].double() - middle) @ unit
    return (-2 * along.clamp(max=0))[:, None] * unit


def _read(model: PreTrainedModel, found: Tried) -> Read:
    with found.inside(model):
        return Read.of(model, found.requests)


def _moved(
    model: PreTrainedModel,
    attacks: Sequence[Tried],
    read: Sequence[Read],
    answer: str,
    site: str,
    moves: Sequence[Tensor],
) -> Bool[Tensor, " n"] | None:
    """Which requests of all attacks are given this answer once each is moved."""
    hits = []
    for found, requests, move in zip(attacks, read, moves, strict=True):
        with found.inside(model):
            hits.append(requests.gives(answer, site, move))
    return torch.cat(hits) if hits else None


def _share(which: Tensor) -> float:
    return float(which.double().mean())
