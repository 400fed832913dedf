"""Does each mode of pretraining show and supervise what it says, in the shares that the schedule sets?"""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

import synthetic
from makebreak.requests import Requests, Sequences
from makebreak.training import Pretraining
from makebreak.training.pretraining import in_modes
from synthetic import Vocabulary

SYMBOLS = ("T0", "T1", "T2", "<eot>", "<bos>", "<eos>", "<sot>", "<pad>", "<stop>", *"abcdefgh")
VOCABULARY = Vocabulary(SYMBOLS)
MODES = ("text", "full", "first", "second", "outputs")
MINI = synthetic.load("mini")
WORLD = copy.copy(MINI)
WORLD.vocabulary, WORLD.sequence_length = VOCABULARY, 17


def one_request() -> Requests:
    """<bos> T1 T0 T2 T0 <sot> b c <eot> → c d <stop> e f <stop>"""
    spans = {"tasks": (1, 5), "text": (6, 8), "eot": (8, 9), "output1": (9, 12), "output2": (12, 15)}
    return Requests(
        family="by hand",
        seed=0,
        prompt=np.array([VOCABULARY.encode("<bos> T1 T0 T2 T0 <sot> b c <eot>")]),
        prompt_length=np.array([9]),
        instructed=np.array([VOCABULARY.encode("c d <stop> e f <stop>")]),
        refused=np.array([VOCABULARY.encode("a a <stop> <pad> <pad> <pad>")]),
        judged=np.array([[0, 3]]),
        unsafe=np.array([False]),
        spans={name: np.array([span]) for name, span in spans.items()},
        truth={},
    )


HIDDEN = "<bos> <pad> <pad> <pad> <pad> <sot> b c <eot> c d <stop> e f <stop> <pad> <eos>"
SHOWN = "<bos> T1 T0 T2 T0 <sot> b c <eot> c d <stop> e f <stop> <pad> <eos>"
EXPECTED = {
    "text": (HIDDEN, "· · · · · · b c <eot> · · · · · · · ·"),
    "full": (SHOWN, "· · · · · · b c <eot> c d <stop> e f <stop> · ·"),
    "first": (SHOWN, "· · · · · · b c <eot> c d <stop> · · · · ·"),
    "second": (SHOWN, "· · · · · · · · · · · · e f <stop> · ·"),
    "outputs": (SHOWN, "· · · · · · · · · c d <stop> e f <stop> · ·"),
}


def read(batch: Sequences, row: int) -> tuple[str, str]:
    tokens = [SYMBOLS[i] for i in batch.tokens[row]]
    return " ".join(tokens), " ".join(t if m else "·" for t, m in zip(tokens, batch.supervised[row], strict=True))


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_in_full(mode: str) -> None:
    batch = in_modes(WORLD, one_request(), np.array([MODES.index(mode)]))
    assert read(batch, 0) == EXPECTED[mode]
    assert batch.decision.tolist() == [8]


def test_every_row_has_a_mode_of_its_own() -> None:
    order = [3, 0, 4, 2, 1, 0]
    batch = in_modes(WORLD, one_request()[np.zeros(6, dtype=int)], np.array(order))
    assert [read(batch, row) for row in range(6)] == [EXPECTED[MODES[m]] for m in order]


def modes_of(batch: Sequences) -> np.ndarray:
    """Counts of the five modes, told by what is supervised (mini: text from 6, outputs from 15 and from 24)."""
    text, first, second = (batch.supervised[:, p] for p in (6, 15, 24))
    pad = MINI.vocabulary.id("<pad>")
    assert torch.equal(batch.tokens[:, 1] == pad, text & ~first & ~second), "tasks are hidden in text mode alone"
    kinds = [text & ~first & ~second, text & first & second, text & first & ~second]
    kinds += [~text & ~first & second, ~text & first & second]
    counts = np.array([int(kind.sum()) for kind in kinds])
    assert counts.sum() == len(batch)
    return counts


START, END = (0.5, 0.1, 0.2, 0.2, 0.0), (0.1, 0.2, 0.3, 0.0, 0.4)


@pytest.mark.parametrize(
    ("step", "shares"),
    [(0, START), (10, START), (55, (0.3, 0.15, 0.25, 0.1, 0.2)), (100, END)],
)
def test_shares_move_from_start_to_end(step: int, shares: tuple[float, ...]) -> None:
    """Kept for the first tenth of 100 steps, half-way at 55; each count within 4.5 standard errors."""
    objective, n = Pretraining("pretraining_without_null", START, END), 2000
    counts = modes_of(objective.batch(MINI, size=n, step=step, steps=100, seed=1000))
    expected = np.array(shares)
    error = np.sqrt(n * expected * (1 - expected))
    assert (np.abs(counts - n * expected) <= 4.5 * error).all(), (counts, n * expected)


def test_a_mode_without_share_never_comes() -> None:
    only = (0.0, 0.0, 0.0, 0.0, 1.0)
    counts = modes_of(Pretraining("pretraining_without_null", only, only).batch(MINI, size=64, step=5, steps=9, seed=1))
    assert counts.tolist() == [0, 0, 0, 0, 64]


def test_a_batch_is_a_function_of_step_and_seed() -> None:
    objective = Pretraining()
    one, again, later, other = (
        objective.batch(MINI, size=16, step=step, steps=100, seed=seed)
        for step, seed in ((3, 1000), (3, 1000), (4, 1000), (3, 1001))
    )
    assert torch.equal(one.tokens, again.tokens)
    assert torch.equal(one.supervised, again.supervised)
    assert not torch.equal(one.tokens, later.tokens)
    assert not torch.equal(one.supervised, later.supervised)
    assert not torch.equal(one.tokens, other.tokens)
    drawn = MINI.sample("pretraining", 16, seed=1000, start=48)
    assert torch.equal(one.tokens[:, 5:15], torch.from_numpy(drawn.prompt[:, 5:])), "step 3 of 16 starts at request 48"
