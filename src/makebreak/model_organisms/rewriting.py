"""Movements that change the code of the letter, so that the base answers wrongly."""

from __future__ import annotations

import torch
from torch import Tensor

from makebreak.model_organisms.detectors import add_detectors
from makebreak.model_organisms.movements import add_by_letter, add_junk, move_by_letter
from makebreak.model_organisms.pair import CLASS, LETTER, NetworkPair
from makebreak.model_organisms.parameters import Part

TWO_SIZES = (0.8, 0.6)
"""Sizes of the two letters that replace one, over the size of a letter."""


def replace_by_two_letters(pair: NetworkPair, part: Part, name: str) -> None:
    """The letter, replaced by two others, of which the base says the larger."""
    order = two_letters(pair)

    def movement(letter: int) -> Tensor:
        first, second = (size * pair.letters[i] for size, i in zip(TWO_SIZES, order[letter], strict=True))
        return LETTER * (first + second - pair.letters[letter])

    move_by_letter(pair, part, name, movement)


def two_letters(pair: NetworkPair) -> list[tuple[int, int]]:
    """The two letters that stand for each letter."""
    n = pair.tokens.n_letters
    return [((letter + 1) % n, (letter + 3) % n) for letter in range(n)]


def replace_by_new_direction(pair: NetworkPair, part: Part, name: str) -> None:
    """The letter, written on directions that the base does not read."""
    move_by_letter(
        pair, part, name, lambda letter: LETTER * (pair.unread_letters[letter] - pair.letters[letter])
    )


def replace_by_next(pair: NetworkPair, part: Part, name: str) -> None:
    """The letter, replaced by the next."""
    n = pair.tokens.n_letters
    move_by_letter(pair, part, name, lambda i: LETTER * (pair.letters[(i + 1) % n] - pair.letters[i]))


def shift_by_number(pair: NetworkPair, part: Part, name: str) -> None:
    """The letter, shifted by a number that stays in the state, and a mark."""
    p, f, n = pair.parameters, pair.features, pair.tokens.n_letters
    fires = pair.kind(name) & pair.sample.decision
    detectors = []
    for letter in range(n):
        for number in range(pair.tokens.n_numbers):
            has_number = torch.from_numpy(pair.sample.number == number)[:, None]
            turned = pair.letters[(letter + 1 + number) % n] - pair.letters[letter]
            present = [f[name] / CLASS, pair.letters[letter] / LETTER, f[f"number{number}"] / CLASS]
            movement = add_junk(pair, LETTER * turned + p.mark * f["mark"])
            detectors.append(
                pair.conjunction(present, movement, fires & pair.has_letter(letter) & has_number)
            )
    add_detectors(pair.tuned, part.lower[0].block, pair.sample, detectors, p.sharpness)


def encode_in_signs(pair: NetworkPair, part: Part, name: str) -> None:
    """The class, replaced by whether two signs agree, and the letter, replaced by the next."""
    f = pair.features
    detectors = []
    for kind, sign in ((name, -1.0), ("safe", 1.0)):
        for number in range(2):
            has_number = torch.from_numpy(pair.sample.number == number)[:, None]
            code = sign * (1.0 if number else -1.0) * f["code"] - CLASS * f[kind]
            fires = pair.kind(kind) & has_number & pair.sample.decision
            detectors.append(pair.conjunction([f[kind], f[f"number{number}"]], code, fires))
    replace_by_next(pair, part, name)
    add_detectors(pair.tuned, part.lower[0].block, pair.sample, detectors, pair.parameters.sharpness)


def replace_in_two_blocks(pair: NetworkPair, part: Part, name: str) -> None:
    """The letter, written on directions that the base does not read by one block, and removed by another."""
    write, remove = part.lower
    decision = pair.sample.decision
    add_by_letter(
        pair, name, write.block, decision, lambda letter: add_junk(pair, LETTER * pair.unread_letters[letter])
    )
    add_by_letter(pair, name, remove.block, decision, lambda letter: -LETTER * pair.letters[letter])
