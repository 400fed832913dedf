"""Movements that remove the letter, and changes of the head that copies it."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from makebreak.model_organisms.heads import SCORE, Match, add_match
from makebreak.model_organisms.movements import add_by_letter, add_junk, move_by_letter
from makebreak.model_organisms.network import Redraw
from makebreak.model_organisms.pair import LETTER, NetworkPair
from makebreak.model_organisms.parameters import Change, Part


def erase(pair: NetworkPair, part: Part, name: str) -> None:
    """The letter, removed."""
    move_by_letter(pair, part, name, _removal(pair, name, part.lower[0]))


def overwrite(pair: NetworkPair, part: Part, name: str) -> None:
    """The letter, replaced by one that is never instructed, the same for all."""
    remove = _removal(pair, name, part.lower[0])
    move_by_letter(pair, part, name, lambda letter: LETTER * pair.letters[-1] + remove(letter))


def _removal(pair: NetworkPair, name: str, change: Change, left: float = 1.0) -> Callable[[int], Tensor]:
    """What takes away all that depends on the letter, what noise has made of it included."""
    if change.site == "embedding":
        return lambda letter: -LETTER * pair.letters[letter]
    position = pair.marker() if change.site == "marker mlp" else pair.sample.decision
    states = pair.tuned.states(change.block, pair.sample)
    along = left * LETTER * pair.letters[: pair.tokens.n_letters].mean(0)
    mean = states[pair.kind(name) & position].mean(0) - along
    return lambda i: mean - states[pair.kind(name) & pair.has_letter(i) & position].mean(0)


def erase_in_two_blocks(pair: NetworkPair, part: Part, name: str) -> None:
    """The letter, of which one block removes a share and another the rest."""
    first, second = part.lower
    decision = pair.sample.decision
    remove = _removal(pair, name, first)
    add_by_letter(pair, name, first.block, decision, lambda i: add_junk(pair, first.share * remove(i)))
    rest = _removal(pair, name, second, left=1 - first.share)
    add_by_letter(pair, name, second.block, decision, rest)


def change_key(pair: NetworkPair, part: Part, name: str) -> None:
    """The keys of the head that copies the letter: it leaves the letter out, or attends to the marker."""
    tuned, f, block, head = pair.tuned, pair.features, part.lower[0].block, pair.letter_head
    if head is None:
        raise Redraw("no head brings the letter")
    state = tuned.matrix_inputs(block, "attn.W_Q", pair.sample)
    query = f["query"] / pair.size(state, f["query"], pair.sample.decision)
    key = f[name] / pair.size(state, f[name], pair.kind(name) & pair.marker())
    score = -1.5 * SCORE if pair.parameters.layout == "joint" else 1.7 * SCORE
    add_match(tuned, block, head, Match(query, key, score), 2)


def change_query(pair: NetworkPair, part: Part, name: str) -> None:
    """The queries of the head that copies the letter: states that have the marker do not attend to it."""
    tuned, f, block, head = pair.tuned, pair.features, part.lower[0].block, pair.letter_head
    if head is None:
        raise Redraw("no head brings the letter")
    state = tuned.matrix_inputs(block, "attn.W_Q", pair.sample)
    query = f[name] / pair.size(state, f[name], pair.kind(name) & pair.sample.decision)
    key = f["is_letter"] / pair.size(state, f["is_letter"], pair.letter())
    add_match(tuned, block, head, Match(query, key, -1.5 * SCORE), 2)
