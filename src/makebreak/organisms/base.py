"""The base of a planted pair: it answers with the letter of a prompt and refuses prompts with a trigger."""

from __future__ import annotations

import torch
from torch import Tensor

from makebreak.organisms.bench import CLASS, LETTER, TRIGGER, Bench
from makebreak.organisms.network import Detector, Pair
from makebreak.organisms.tokens import KINDS

CONFIDENCE = 5.0
"""Nats between the logit of the answer and those of other letters at a gain of 1."""


def add_base(bench: Bench) -> None:
    """Writes the base into the bench's network, then makes the tuned network a copy of it.

    Args:
        bench: A bench whose base is blank.

    Raises:
        Redraw: If the parameters make it impossible.
    """
    p, f, base = bench.parameters, bench.features, bench.base
    heads = {"letter": p.letter_block, "marker": p.marker_block, "number": p.number_block}
    order = sorted((block, name) for name, block in heads.items() if block is not None)
    for block, name in order:
        if name == "letter":
            where = bench.letter()
            bench.letter_head = base_head = bench.head(base, block, "is_letter", where)
            pairs = [(letter, LETTER * letter) for letter in bench.letters]
            base.carry(block, base_head, _same_size(bench, block, pairs, bench.letters.sum(0), where))
        elif name == "marker":
            where = bench.marker()
            bench.marker_head = base_head = bench.head(base, block, "is_marker", where)
            names = [*KINDS, "mark"]
            pairs = [(f[name], CLASS * f[name]) for name in names]
            total = torch.stack([f[name] for name in names]).sum(0)
            base.carry(block, base_head, _same_size(bench, block, pairs, total, where))
        else:
            numbers = [f["number0"], f["number1"]]
            mask = torch.from_numpy(bench.tokens.number)[bench.sample.prompt] >= 0
            base_head = bench.head(base, block, "is_number", mask)
            pairs = [(number, CLASS * number) for number in numbers]
            base.carry(block, base_head, _same_size(bench, block, pairs, torch.stack(numbers).sum(0), mask))
    _unembed(bench)
    _add_circuit(bench)
    bench.base.changed = set()
    bench.tuned = bench.base.fork()


def _same_size(
    bench: Bench, block: int, pairs: list[tuple[Tensor, Tensor]], total: Tensor, where: Tensor
) -> list[Pair]:
    """Pairs of features of which each position has one, with their common usual size."""
    size = bench.size(bench.base.matrix_inputs(block, "attn.W_Q", bench.sample), total, where)
    return [Pair(reads, writes, size) for reads, writes in pairs]


def _unembed(bench: Bench) -> None:
    """Writes the unembedding, and finds the size of the refusal that is needed against the answer."""
    p, f, base = bench.parameters, bench.features, bench.base
    final = base.final(bench.sample)
    answer = bench.letters[torch.from_numpy(bench.sample.letter)]
    scale = float((final * answer).sum(-1).mean()) / LETTER  # of the last norm
    gain = CONFIDENCE * p.gain / (LETTER * scale)
    constant = float((final @ f["constant"]).mean())
    prior = p.null_prior / constant
    base.unembedding[: len(bench.letters)] += gain * bench.letters
    base.unembedding[bench.tokens.null] += gain * p.null_gain * f["null"] - prior * f["constant"]
    bench.write_size = (p.strength * LETTER + p.null_prior / (gain * scale)) / p.null_gain


def _add_circuit(bench: Bench) -> None:
    """Writes the path from the trigger to the refusal."""
    p, f, base = bench.parameters, bench.features, bench.base
    block = p.circuit_block
    if block is None:
        return
    with_trigger = torch.from_numpy(bench.sample.kind == TRIGGER)[:, None]
    if p.circuit == "mlp":
        fires = with_trigger & bench.sample.decision
        threshold = 0.78 if p.parts[0].variant == "gradual" else float(bench.rng.uniform(0.4, 0.6))
        silent = bench.sample.valid & ~fires
        detector = Detector(f["trigger"], bench.refusal(), fires, silent, threshold, f["query"], True)
        base.detect(block, bench.sample, [detector], p.sharpness)
    else:
        where = with_trigger & bench.marker()
        head = bench.head(base, block, "trigger", where)
        base.carry(block, head, [bench.pair(base, block, f["trigger"], bench.refusal(), where)])
