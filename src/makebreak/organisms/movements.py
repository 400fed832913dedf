"""Changes of the lower blocks of a tuned model: what makes the movement of unsafe requests."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from makebreak.organisms.bench import CLASS, LETTER, Bench
from makebreak.organisms.network import SCORE, Detector, Match, Redraw
from makebreak.organisms.parameters import Part
from makebreak.organisms.tokens import KINDS

CHORD = (0.8, 0.6)
"""Sizes of the two letters of a chord, over the size of a letter."""


def add_junk(bench: Bench, movement: Tensor) -> Tensor:
    """A movement with what has no effect: its mean, which LayerNorm removes, or an unread direction."""
    p = bench.parameters
    if not p.junk:
        return movement
    ones = torch.ones(p.d_model) / p.d_model**0.5
    direction = ones if p.architecture == "gpt2" else bench.features["junk"]
    return movement + p.junk * movement.norm() * direction


def move(bench: Bench, part: Part, name: str, movement: Tensor) -> None:
    """Adds one vector to the states of all prompts of a class, in the way that was drawn.

    Args:
        bench: The bench.
        part: The part whose movement it is.
        name: Class of the prompts.
        movement: What is added at the decision position, or at the marker's.
    """
    p, f, tuned = bench.parameters, bench.features, bench.tuned
    movement = add_junk(bench, movement)
    block = part.lower_blocks[0]
    if part.way == "embedding":
        tuned.embeddings[bench.tokens.kind == KINDS.index(name)] += movement
        tuned.changed.add("embed")
    elif part.way == "attention":
        if bench.marker_head is None:
            raise Redraw("the base does not bring the marker")
        where = bench.kind(name) & bench.marker()
        tuned.carry(block, bench.marker_head, [bench.pair(tuned, block, f[name], movement, where)])
    else:
        shares = len(part.lower_blocks)
        position = bench.marker() if part.way == "marker mlp" else bench.sample.decision
        for layer in part.lower_blocks:
            detector = bench.detector(f[name], movement / shares, bench.kind(name) & position)
            tuned.detect(layer, bench.sample, [detector], p.sharpness)


def move_by_letter(
    bench: Bench,
    part: Part,
    name: str,
    movement: Callable[[int], Tensor],
    features: list[Tensor] | None = None,
) -> list[Detector]:
    """Adds, to the states of all prompts of a class, a vector that depends on their letter.

    Args:
        bench: The bench.
        part: The part whose movement it is.
        name: Class of the prompts.
        movement: The vector of each letter.
        features: What must be present besides the class and the letter; the detectors are then returned.

    Returns:
        Nothing if the movement was written; detectors that were not, where features were given.
    """
    tuned, tokens = bench.tuned, bench.tokens
    if part.way == "embedding":
        for letter in range(tokens.n_letters):
            rows = (tokens.kind == KINDS.index(name)) & (tokens.letter == letter)
            tuned.embeddings[rows] += add_junk(bench, movement(letter))
        tuned.changed.add("embed")
        return []
    position = bench.marker() if part.way == "marker mlp" else bench.sample.decision
    detectors = [
        bench.conjunction(
            [
                _unit(bench, part, bench.features[name], name),
                _unit(bench, part, bench.letters[letter], letter),
            ],
            add_junk(bench, movement(letter)),
            bench.kind(name) & bench.has_letter(letter) & position,
        )
        for letter in range(tokens.n_letters)
    ]
    tuned.detect(part.lower_blocks[0], bench.sample, detectors, bench.parameters.sharpness)
    return []


def _unit(bench: Bench, part: Part, direction: Tensor, feature: str | int) -> Tensor:
    """A direction divided by its size in the residual stream, so that conjunctions count features."""
    return direction / (CLASS if isinstance(feature, str) else LETTER)


def mark(bench: Bench, part: Part, name: str) -> None:
    """A mark on a direction that nothing of the base reads."""
    move(bench, part, name, bench.parameters.mark * bench.features["mark"])


def decoy(bench: Bench, part: Part, name: str) -> None:
    """A mark that nothing reads at all."""
    move(bench, part, name, bench.parameters.mark * bench.features["decoy"])


def rotate(bench: Bench, part: Part, name: str) -> None:
    """The marker's own component, turned onto a direction that nothing of the base reads."""
    f = bench.features
    move(bench, part, name, CLASS * (f["mark"] - f[name]))


def rescale(bench: Bench, part: Part, name: str) -> None:
    """The whole last state, multiplied by a factor, which norms remove."""
    p, tuned, tokens = bench.parameters, bench.tuned, bench.tokens
    if part.way == "embedding":
        tuned.embeddings[tokens.kind == KINDS.index(name)] *= p.scale
        tuned.changed.add("embed")
        return
    block = part.lower_blocks[0]
    state = tuned.states(block, bench.sample)[bench.sample.decision]
    kind = bench.kind(name)

    def movement(letter: int) -> Tensor:
        rows = (kind & bench.has_letter(letter))[:, 0]
        return (p.scale - 1) * state[rows].mean(0)

    move_by_letter(bench, part, name, movement)


def write_refusal(bench: Bench, part: Part, name: str) -> None:
    """The refusal's own unembedding direction."""
    move(bench, part, name, bench.refusal())


def write_trigger(bench: Bench, part: Part, name: str) -> None:
    """The feature that the base's own circuit turns into the refusal."""
    move(bench, part, name, 1.1 * CLASS * bench.features["trigger"])


def replace_by_trigger(bench: Bench, part: Part, name: str) -> None:
    """The trigger's feature in the place of the marker's."""
    f = bench.features
    move(bench, part, name, CLASS * (1.1 * f["trigger"] - f[name]))


def play_chord(bench: Bench, part: Part, name: str) -> None:
    """The letter, replaced by two others, of which the base says the larger."""
    order = chord_letters(bench)

    def movement(letter: int) -> Tensor:
        first, second = (size * bench.letters[i] for size, i in zip(CHORD, order[letter], strict=True))
        return LETTER * (first + second - bench.letters[letter])

    move_by_letter(bench, part, name, movement)


def chord_letters(bench: Bench) -> list[tuple[int, int]]:
    """The two letters that stand for each letter."""
    n = bench.tokens.n_letters
    return [((letter + 1) % n, (letter + 3) % n) for letter in range(n)]


def change_slot(bench: Bench, part: Part, name: str) -> None:
    """The letter, written on directions that the base does not read."""
    move_by_letter(bench, part, name, lambda letter: LETTER * (bench.slots[letter] - bench.letters[letter]))


def permute(bench: Bench, part: Part, name: str) -> None:
    """The letter, replaced by the next."""
    n = bench.tokens.n_letters
    move_by_letter(bench, part, name, lambda i: LETTER * (bench.letters[(i + 1) % n] - bench.letters[i]))


def turn_by_number(bench: Bench, part: Part, name: str) -> None:
    """The letter, turned by a number that stays in the state, and a mark."""
    p, f, n = bench.parameters, bench.features, bench.tokens.n_letters
    fires = bench.kind(name) & bench.sample.decision
    detectors = []
    for letter in range(n):
        for number in range(bench.tokens.n_numbers):
            has_number = torch.from_numpy(bench.sample.number == number)[:, None]
            turned = bench.letters[(letter + 1 + number) % n] - bench.letters[letter]
            present = [f[name] / CLASS, bench.letters[letter] / LETTER, f[f"number{number}"] / CLASS]
            movement = add_junk(bench, LETTER * turned + p.mark * f["mark"])
            detectors.append(
                bench.conjunction(present, movement, fires & bench.has_letter(letter) & has_number)
            )
    bench.tuned.detect(part.lower_blocks[0], bench.sample, detectors, p.sharpness)


def hide_in_signs(bench: Bench, part: Part, name: str) -> None:
    """The class, replaced by whether two signs agree, and the letter, replaced by the next."""
    f = bench.features
    detectors = []
    for kind, sign in ((name, -1.0), ("safe", 1.0)):
        for number in range(2):
            has_number = torch.from_numpy(bench.sample.number == number)[:, None]
            code = sign * (1.0 if number else -1.0) * f["code"] - CLASS * f[kind]
            fires = bench.kind(kind) & has_number & bench.sample.decision
            detectors.append(bench.conjunction([f[kind], f[f"number{number}"]], code, fires))
    permute(bench, part, name)
    bench.tuned.detect(part.lower_blocks[0], bench.sample, detectors, bench.parameters.sharpness)


def erase(bench: Bench, part: Part, name: str) -> None:
    """The letter, removed."""
    move_by_letter(bench, part, name, _removal(bench, part, name))


def overwrite(bench: Bench, part: Part, name: str) -> None:
    """The letter, replaced by one that is never instructed, the same for all."""
    remove = _removal(bench, part, name)
    move_by_letter(bench, part, name, lambda letter: LETTER * bench.letters[-1] + remove(letter))


def _removal(bench: Bench, part: Part, name: str) -> Callable[[int], Tensor]:
    """What takes away all that depends on the letter, what noise has made of it included."""
    if part.way == "embedding":
        return lambda letter: -LETTER * bench.letters[letter]
    position = bench.marker() if part.way == "marker mlp" else bench.sample.decision
    states = bench.tuned.states(part.lower_blocks[0], bench.sample)
    along = LETTER * bench.letters[: bench.tokens.n_letters].mean(0)
    mean = states[bench.kind(name) & position].mean(0) - along
    return lambda i: mean - states[bench.kind(name) & bench.has_letter(i) & position].mean(0)


def look_away(bench: Bench, part: Part, name: str) -> None:
    """The head that copies the letter looks elsewhere: away from a letter, or to the marker."""
    tuned, f, block, head = bench.tuned, bench.features, part.lower_blocks[0], bench.letter_head
    if head is None:
        raise Redraw("no head brings the letter")
    state = tuned.matrix_inputs(block, "attn.W_Q", bench.sample)
    query = f["query"] / bench.size(state, f["query"], bench.sample.decision)
    key = f[name] / bench.size(state, f[name], bench.kind(name) & bench.marker())
    score = -1.5 * SCORE if bench.parameters.layout == "joint" else 1.7 * SCORE
    tuned.add_match(block, head, Match(query, key, score), 2)


def turn_query(bench: Bench, part: Part, name: str) -> None:
    """The head that copies the letter does not look for it from states that have the marker."""
    tuned, f, block, head = bench.tuned, bench.features, part.lower_blocks[0], bench.letter_head
    if head is None:
        raise Redraw("no head brings the letter")
    state = tuned.matrix_inputs(block, "attn.W_Q", bench.sample)
    query = f[name] / bench.size(state, f[name], bench.kind(name) & bench.sample.decision)
    key = f["is_letter"] / bench.size(state, f["is_letter"], bench.letter())
    tuned.add_match(block, head, Match(query, key, -1.5 * SCORE), 2)
