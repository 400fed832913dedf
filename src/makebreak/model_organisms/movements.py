"""Movements of states by changed lower blocks: one vector for a class of prompts, or one for each letter."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from makebreak.model_organisms.detectors import add_detectors
from makebreak.model_organisms.heads import add_values
from makebreak.model_organisms.network import Redraw
from makebreak.model_organisms.pair import CLASS, LETTER, NetworkPair
from makebreak.model_organisms.parameters import Change, Part
from makebreak.model_organisms.tokens import KINDS


def add_junk(pair: NetworkPair, movement: Tensor) -> Tensor:
    """A movement with what has no effect: its mean, which LayerNorm removes, or an unread direction."""
    p = pair.parameters
    if not p.junk:
        return movement
    ones = torch.ones(p.d_model) / p.d_model**0.5
    direction = ones if p.architecture == "gpt2" else pair.features["junk"]
    return movement + p.junk * movement.norm() * direction


def move(pair: NetworkPair, part: Part, name: str, movement: Tensor) -> None:
    """Adds one vector to the states of all prompts of a class, in the ways and the shares that were drawn.

    Args:
        pair: The pair.
        part: The part whose movement it is.
        name: Class of the prompts.
        movement: What is added at the decision position, or at the marker's.
    """
    movement = add_junk(pair, movement)
    for change in part.lower:
        _move_once(pair, change, name, change.share * movement, own_head=len(part.lower) > 1)


def _move_once(pair: NetworkPair, change: Change, name: str, movement: Tensor, own_head: bool) -> None:
    tuned, block = pair.tuned, change.block
    where = pair.kind(name) & pair.marker()
    if change.site == "embedding":
        tuned.embeddings[pair.tokens.kind == KINDS.index(name)] += movement
        tuned.changed.add("embed")
    elif change.site == "attention" and own_head:
        pair.add_reading_head(block, "is_marker", (name, movement), where)
    elif change.site == "attention":
        if pair.marker_head is None:
            raise Redraw("the base does not bring the marker")
        value = pair.value(tuned, block, pair.features[name], movement, where)
        add_values(tuned, block, pair.marker_head, [value])
    else:
        position = pair.marker() if change.site == "marker mlp" else pair.sample.decision
        detector = pair.detector(pair.features[name], movement, pair.kind(name) & position)
        add_detectors(tuned, block, pair.sample, [detector], pair.parameters.sharpness)


def move_by_letter(
    pair: NetworkPair,
    part: Part,
    name: str,
    movement: Callable[[int], Tensor],
) -> None:
    """Adds, to the states of all prompts of a class, a vector that depends on their letter.

    Args:
        pair: The pair.
        part: The part whose movement it is.
        name: Class of the prompts.
        movement: The vector of each letter.
    """
    tuned, tokens = pair.tuned, pair.tokens
    if part.lower[0].site == "embedding":
        for letter in range(tokens.n_letters):
            rows = (tokens.kind == KINDS.index(name)) & (tokens.letter == letter)
            tuned.embeddings[rows] += add_junk(pair, movement(letter))
        tuned.changed.add("embed")
        return
    position = pair.marker() if part.lower[0].site == "marker mlp" else pair.sample.decision
    add_by_letter(pair, name, part.lower[0].block, position, lambda i: add_junk(pair, movement(i)))


def add_by_letter(
    pair: NetworkPair, name: str, block: int, where: Tensor, movement: Callable[[int], Tensor]
) -> None:
    """Adds detectors of a class and a letter, each with its own vector, to the MLP of a block.

    Args:
        pair: The pair.
        name: Class of the prompts.
        block: The block.
        where: Positions.
        movement: The vector of each letter.
    """
    detectors = [
        pair.conjunction(
            [pair.features[name] / CLASS, pair.letters[letter] / LETTER],  # so that features count the same
            movement(letter),
            pair.kind(name) & pair.has_letter(letter) & where,
        )
        for letter in range(pair.tokens.n_letters)
    ]
    add_detectors(pair.tuned, block, pair.sample, detectors, pair.parameters.sharpness)
