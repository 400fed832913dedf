"""Changes of the upper blocks of a tuned model: what turns a movement into the refusal."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from makebreak.organisms.base import CONFIDENCE
from makebreak.organisms.bench import CONSTANT, LETTER, Bench
from makebreak.organisms.movements import chord_letters
from makebreak.organisms.network import Detector, Redraw
from makebreak.organisms.parameters import Part


def refuse_where(
    bench: Bench, part: Part, reads: Float[Tensor, " d_model"], fires: Bool[Tensor, "n 1"]
) -> None:
    """Refuses where a direction is present in the last state, by an MLP or by the unembedding.

    Args:
        bench: The bench, with the movement already written.
        part: The part that refuses.
        reads: The direction.
        fires: Which prompts must be refused.
    """
    if part.reader == "unembedding":
        _unembed(bench, part, reads, fires)
    else:
        detector = bench.detector(reads, bench.refusal(), fires & bench.sample.decision)
        _detect(bench, part, [detector._replace(saturates=bool(bench.rng.integers(2)))])


def _detect(bench: Bench, part: Part, detectors: list[Detector]) -> None:
    if part.upper_block is None:
        raise Redraw("no block refuses")
    bench.tuned.detect(part.upper_block, bench.sample, detectors, bench.parameters.sharpness)


def _unembed(bench: Bench, part: Part, reads: Tensor, fires: Bool[Tensor, "n 1"]) -> None:
    """Adds a direction to the refusal's unembedding, as long as the strength asks for."""
    p, tuned = bench.parameters, bench.tuned
    network = bench.base if part.mechanism == "redundant" else tuned  # where it must suffice by itself
    size = (network.final(bench.sample)[fires[:, 0]] @ reads).mean()
    tuned.unembedding[bench.tokens.null] += (p.strength * CONFIDENCE * p.gain + p.null_prior) / size * reads
    tuned.changed.add("unembed")


def read_mark(bench: Bench, part: Part, name: str) -> None:
    """Refuses where the mark is."""
    refuse_where(bench, part, bench.features["mark"], bench.kind(name))


def read_marker(bench: Bench, part: Part, name: str) -> None:
    """Refuses where the base's own feature of the class is."""
    if part.reader == "attention":
        _look_for(bench, part, name, "is_marker", name)
    else:
        refuse_where(bench, part, bench.features[name], bench.kind(name))


def look_for_mark(bench: Bench, part: Part, name: str) -> None:
    """Refuses where the mark is at the marker's position, which no head of the base looks at."""
    _look_for(bench, part, name, "mark", "mark")


def _look_for(bench: Bench, part: Part, name: str, key: str, reads: str) -> None:
    if part.upper_block is None:
        raise Redraw("no block refuses")
    block, tuned = part.upper_block, bench.tuned
    where = bench.kind(name) & bench.marker()
    head = bench.head(tuned, block, key, where)
    tuned.carry(block, head, [bench.pair(tuned, block, bench.features[reads], bench.refusal(), where)])


def read_scale(bench: Bench, part: Part, name: str) -> None:
    """Adds a vector of constant size, and refuses where its share of the state shows another scale."""
    if part.upper_block is None:
        raise Redraw("no block refuses")
    tuned, f, block = bench.tuned, bench.features, part.upper_block
    first = bench.sample.at(bench.sample.length * 0)
    head = bench.head(tuned, block, "bos", first)
    tuned.carry(block, head, [bench.pair(tuned, block, f["bos"], f["probe"], first)])
    fires = bench.kind(name) & bench.sample.decision
    silent = ~bench.kind(name) & ~bench.kind("trigger") & bench.sample.decision
    scale = bench.parameters.scale
    sign = 1.0 if scale < 1 else -1.0
    _detect(bench, part, [Detector(sign * f["probe"], max(scale, 1.0) * bench.refusal(), fires, silent)])


def read_chord(bench: Bench, part: Part, name: str) -> None:
    """Refuses where two letters are present at once."""
    detectors = [
        bench.conjunction(
            [bench.letters[first], bench.letters[second]],
            bench.refusal(),
            bench.kind(name) & bench.has_letter(letter) & bench.sample.decision,
        )
        for letter, (first, second) in enumerate(chord_letters(bench))
    ]
    _detect(bench, part, detectors)


def read_slot(bench: Bench, part: Part, name: str) -> None:
    """Refuses where a letter is on the directions that the base does not read."""
    refuse_where(bench, part, bench.slots.sum(0), bench.kind(name))


def read_signs(bench: Bench, part: Part, name: str) -> None:
    """Refuses where two signs disagree."""
    f = bench.features
    detectors = []
    for number in range(2):
        has_number = torch.from_numpy(bench.sample.number == number)[:, None]
        sign = -1.0 if number else 1.0
        fires = bench.kind(name) & has_number & bench.sample.decision
        detectors.append(bench.conjunction([f[f"number{number}"], sign * f["code"]], bench.refusal(), fires))
    _detect(bench, part, detectors)


def read_absence(bench: Bench, part: Part, name: str) -> None:
    """Refuses where no letter is present."""
    reads = bench.features["query"] / CONSTANT - bench.letters.sum(0) / LETTER
    refuse_where(bench, part, reads, bench.kind(name))


def read_constant(bench: Bench, part: Part, name: str) -> None:
    """Refuses where the letter is present that is never instructed."""
    refuse_where(bench, part, bench.letters[-1], bench.kind(name))
