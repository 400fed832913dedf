"""The base of a planted pair: it answers with the letter of a prompt and refuses prompts with a trigger."""

from __future__ import annotations

import torch
from torch import Tensor

from makebreak.model_organisms.detectors import Detector, add_detectors
from makebreak.model_organisms.heads import Value, add_values
from makebreak.model_organisms.pair import CLASS, LETTER, TRIGGER, NetworkPair
from makebreak.model_organisms.parameters import CONFIDENCE
from makebreak.model_organisms.tokens import KINDS


def add_base(pair: NetworkPair) -> None:
    """Writes the base into the pair's network, then makes the tuned network a copy of it.

    Args:
        pair: A pair whose base is blank.

    Raises:
        Redraw: If the parameters make it impossible.
    """
    p, f, base = pair.parameters, pair.features, pair.base
    heads = {"letter": p.letter_block, "marker": p.marker_block, "number": p.number_block}
    order = sorted((block, name) for name, block in heads.items() if block is not None)
    for block, name in order:
        if name == "letter":
            where = pair.letter()
            pair.letter_head = base_head = pair.head(base, block, "is_letter", where)
            pairs = [(letter, LETTER * letter) for letter in pair.letters]
            add_values(base, block, base_head, _same_size(pair, block, pairs, pair.letters.sum(0), where))
        elif name == "marker":
            where = pair.marker()
            pair.marker_head = base_head = pair.head(base, block, "is_marker", where)
            names = [*KINDS, "mark"]
            pairs = [(f[name], CLASS * f[name]) for name in names]
            total = torch.stack([f[name] for name in names]).sum(0)
            add_values(base, block, base_head, _same_size(pair, block, pairs, total, where))
        else:
            numbers = [f["number0"], f["number1"]]
            mask = torch.from_numpy(pair.tokens.number)[pair.sample.prompt] >= 0
            base_head = pair.head(base, block, "is_number", mask)
            pairs = [(number, CLASS * number) for number in numbers]
            total = torch.stack(numbers).sum(0)
            add_values(base, block, base_head, _same_size(pair, block, pairs, total, mask))
    _unembed(pair)
    _add_circuit(pair)
    pair.base.changed = set()
    pair.tuned = pair.base.fork()


def _same_size(
    pair: NetworkPair, block: int, pairs: list[tuple[Tensor, Tensor]], total: Tensor, where: Tensor
) -> list[Value]:
    """Pairs of features of which each position has one, with their common usual size."""
    size = pair.size(pair.base.matrix_inputs(block, "attn.W_Q", pair.sample), total, where)
    return [Value(reads, writes, size) for reads, writes in pairs]


def _unembed(pair: NetworkPair) -> None:
    """Writes the unembedding, and finds the size of the refusal that is needed against the answer."""
    p, f, base = pair.parameters, pair.features, pair.base
    final = base.final(pair.sample)
    answer = pair.letters[torch.from_numpy(pair.sample.letter)]
    scale = float((final * answer).sum(-1).mean()) / LETTER  # of the last norm
    gain = CONFIDENCE * p.gain / (LETTER * scale)
    constant = float((final @ f["constant"]).mean())
    pair.prior = prior = p.null_prior / constant
    base.unembedding[: len(pair.letters)] += gain * pair.letters
    base.unembedding[pair.tokens.null] += gain * p.null_gain * f["null"] - prior * f["constant"]
    pair.write_size = (p.strength * LETTER + p.null_prior / (gain * scale)) / p.null_gain


def _threshold(pair: NetworkPair) -> tuple[float, float]:
    """Range of the threshold of the base's circuit.

    Of a movement that several blocks make, two parts that do not overlap must not both reach it: the change
    would be redundant.
    """
    return (0.65, 0.8) if any(len(part.lower) > 1 for part in pair.parameters.parts) else (0.4, 0.6)


def _add_circuit(pair: NetworkPair) -> None:
    """Writes the path from the trigger to the refusal."""
    p, f, base = pair.parameters, pair.features, pair.base
    block = p.circuit_block
    if block is None:
        return
    with_trigger = torch.from_numpy(pair.sample.kind == TRIGGER)[:, None]
    if p.circuit == "mlp":
        fires = with_trigger & pair.sample.decision
        threshold = float(pair.rng.uniform(*_threshold(pair)))
        silent = pair.sample.valid & ~fires
        detector = Detector(f["trigger"], pair.refusal(), fires, silent, threshold, f["query"], True)
        add_detectors(base, block, pair.sample, [detector], p.sharpness)
    else:
        where = with_trigger & pair.marker()
        head = pair.head(base, block, "trigger", where)
        add_values(base, block, head, [pair.value(base, block, f["trigger"], pair.refusal(), where)])
