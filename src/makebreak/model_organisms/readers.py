"""Changes of the upper blocks of a tuned model: what turns a movement into the refusal."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from makebreak.model_organisms.detectors import Detector, add_detectors
from makebreak.model_organisms.heads import add_values
from makebreak.model_organisms.pair import CONSTANT, LETTER, NetworkPair
from makebreak.model_organisms.parameters import CONFIDENCE, Part
from makebreak.model_organisms.rewriting import two_letters


def refuse_where(
    pair: NetworkPair, part: Part, reads: Float[Tensor, " d_model"], fires: Bool[Tensor, "n 1"]
) -> None:
    """Refuses where a direction is present in the last state, by an MLP or by the unembedding.

    Args:
        pair: The pair, with the movement already written.
        part: The part that refuses.
        reads: The direction.
        fires: Which prompts must be refused.
    """
    if part.upper[0].site == "unembedding":
        _unembed(pair, part, reads, fires)
    else:
        detector = pair.detector(reads, pair.refusal(), fires & pair.sample.decision)
        _detect(pair, part, [detector._replace(saturates=bool(pair.rng.integers(2)))])


def _detect(pair: NetworkPair, part: Part, detectors: list[Detector]) -> None:
    """Adds detectors to every block that refuses, each of which writes its share."""
    for change in part.upper:
        shared = [d._replace(writes=change.share * d.writes) for d in detectors]
        add_detectors(pair.tuned, change.block, pair.sample, shared, pair.parameters.sharpness)


def _unembed(pair: NetworkPair, part: Part, reads: Tensor, fires: Bool[Tensor, "n 1"]) -> None:
    """Adds a direction to the refusal's unembedding, as long as the strength asks for."""
    p, tuned = pair.parameters, pair.tuned
    network = pair.base if part.mechanism == "redundant" else tuned  # where it must suffice by itself
    size = (network.final(pair.sample)[fires[:, 0]] @ reads).mean()
    tuned.unembedding[pair.tokens.null] += (p.strength * CONFIDENCE * p.gain + p.null_prior) / size * reads
    tuned.changed.add("unembed")


def read_mark(pair: NetworkPair, part: Part, name: str) -> None:
    """Refuses where the mark is."""
    refuse_where(pair, part, pair.features["mark"], pair.kind(name))


def read_marker(pair: NetworkPair, part: Part, name: str) -> None:
    """Refuses where the base's own feature of the class is."""
    if part.upper[0].site == "attention":
        _look_for(pair, part, name, "is_marker", name)
    else:
        refuse_where(pair, part, pair.features[name], pair.kind(name))


def look_for_mark(pair: NetworkPair, part: Part, name: str) -> None:
    """Refuses where the mark is at the marker's position, which no head of the base looks at."""
    _look_for(pair, part, name, "mark", "mark")


def _look_for(pair: NetworkPair, part: Part, name: str, key: str, reads: str) -> None:
    where = pair.kind(name) & pair.marker()
    for change in part.upper:
        pair.add_reading_head(change.block, key, (reads, change.share * pair.refusal()), where)


def read_scale(pair: NetworkPair, part: Part, name: str) -> None:
    """Adds a vector of constant size, and refuses where its share of the state shows another scale."""
    tuned, f, block = pair.tuned, pair.features, part.upper[0].block
    first = pair.sample.at(pair.sample.length * 0)
    head = pair.head(tuned, block, "bos", first)
    add_values(tuned, block, head, [pair.value(tuned, block, f["bos"], f["probe"], first)])
    fires = pair.kind(name) & pair.sample.decision
    silent = ~pair.kind(name) & ~pair.kind("trigger") & pair.sample.decision
    scale = pair.parameters.scale
    sign = 1.0 if scale < 1 else -1.0
    _detect(pair, part, [Detector(sign * f["probe"], max(scale, 1.0) * pair.refusal(), fires, silent)])


def read_two_letters(pair: NetworkPair, part: Part, name: str) -> None:
    """Refuses where two letters are present at once."""
    detectors = [
        pair.conjunction(
            [pair.letters[first], pair.letters[second]],
            pair.refusal(),
            pair.kind(name) & pair.has_letter(letter) & pair.sample.decision,
        )
        for letter, (first, second) in enumerate(two_letters(pair))
    ]
    _detect(pair, part, detectors)


def read_new_direction(pair: NetworkPair, part: Part, name: str) -> None:
    """Refuses where a letter is on the directions that the base does not read."""
    refuse_where(pair, part, pair.unread_letters.sum(0), pair.kind(name))


def read_signs(pair: NetworkPair, part: Part, name: str) -> None:
    """Refuses where two signs disagree."""
    f = pair.features
    detectors = []
    for number in range(2):
        has_number = torch.from_numpy(pair.sample.number == number)[:, None]
        sign = -1.0 if number else 1.0
        fires = pair.kind(name) & has_number & pair.sample.decision
        detectors.append(pair.conjunction([f[f"number{number}"], sign * f["code"]], pair.refusal(), fires))
    _detect(pair, part, detectors)


def read_absence(pair: NetworkPair, part: Part, name: str) -> None:
    """Refuses where no letter is present."""
    reads = pair.features["query"] / CONSTANT - pair.letters.sum(0) / LETTER
    refuse_where(pair, part, reads, pair.kind(name))


def read_constant(pair: NetworkPair, part: Part, name: str) -> None:
    """Refuses where the letter is present that is never instructed."""
    refuse_where(pair, part, pair.letters[-1], pair.kind(name))
