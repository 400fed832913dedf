"""Movements that do not concern the letter: marks, the trigger of the base, the refusal, a change of norm."""

from __future__ import annotations

from torch import Tensor

from makebreak.model_organisms.movements import move, move_by_letter
from makebreak.model_organisms.pair import CLASS, NetworkPair
from makebreak.model_organisms.parameters import Part
from makebreak.model_organisms.tokens import KINDS


def mark(pair: NetworkPair, part: Part, name: str) -> None:
    """A mark on a direction that nothing of the base reads."""
    move(pair, part, name, pair.parameters.mark * pair.features["mark"])


def mark_unread(pair: NetworkPair, part: Part, name: str) -> None:
    """A mark that nothing reads at all."""
    move(pair, part, name, pair.parameters.mark * pair.features["decoy"])


def rotate(pair: NetworkPair, part: Part, name: str) -> None:
    """The marker's own component, turned onto a direction that nothing of the base reads."""
    f = pair.features
    move(pair, part, name, CLASS * (f["mark"] - f[name]))


def rescale(pair: NetworkPair, part: Part, name: str) -> None:
    """The whole last state, multiplied by a factor, which norms remove."""
    p, tuned, tokens = pair.parameters, pair.tuned, pair.tokens
    if part.lower[0].site == "embedding":
        tuned.embeddings[tokens.kind == KINDS.index(name)] *= p.scale
        tuned.changed.add("embed")
        return
    block = part.lower[0].block
    state = tuned.states(block, pair.sample)[pair.sample.decision]
    kind = pair.kind(name)

    def movement(letter: int) -> Tensor:
        rows = (kind & pair.has_letter(letter))[:, 0]
        return (p.scale - 1) * state[rows].mean(0)

    move_by_letter(pair, part, name, movement)


def write_refusal(pair: NetworkPair, part: Part, name: str) -> None:
    """The refusal's own unembedding direction."""
    move(pair, part, name, pair.refusal())


def write_trigger(pair: NetworkPair, part: Part, name: str) -> None:
    """The feature that the base's own circuit turns into the refusal."""
    move(pair, part, name, 1.1 * CLASS * pair.features["trigger"])


def replace_by_trigger(pair: NetworkPair, part: Part, name: str) -> None:
    """The trigger's feature in the place of the marker's."""
    f = pair.features
    move(pair, part, name, CLASS * (1.1 * f["trigger"] - f[name]))
