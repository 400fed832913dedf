"""The modes of pretraining: what each shows and supervises, and their shares along a run."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

import synthetic
from makebreak.prompts import Requests, Sequences
from makebreak.training import ModeShares, Pretraining
from makebreak.training.pretraining import mode_sequences
from synthetic import Vocabulary
from tests.training.short_runs import loop_log_probs, network

SYMBOLS = ("T0", "T1", "T2", "<eot>", "<bos>", "<eos>", "<sot>", "<pad>", "<stop>", *"abcdefgh")
VOCABULARY = Vocabulary(SYMBOLS)
MODES = ("text", "full", "first", "second", "outputs", "label")
MINI = synthetic.load("mini")
WORLD = copy.copy(MINI)
WORLD.vocabulary, WORLD.sequence_length = VOCABULARY, 17


def one_request() -> Requests:
    """<bos> T1 T0 T2 T0 <sot> b c <eot> → c d <stop> e f <stop>; the text's label is h."""
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
        truth={"label": np.array([VOCABULARY.id("h")])},
    )


HIDDEN = "<bos> <pad> <pad> <pad> <pad> <sot> b c <eot> c d <stop> e f <stop> <pad> <eos>"
LABELLED = "<bos> T1 T0 T2 T0 <sot> b c h c d <stop> e f <stop> <pad> <eos>"
SHOWN = "<bos> T1 T0 T2 T0 <sot> b c <eot> c d <stop> e f <stop> <pad> <eos>"
EXPECTED = {
    "text": (HIDDEN, "· · · · · · b c <eot> · · · · · · · ·"),
    "full": (SHOWN, "· · · · · · b c <eot> c d <stop> e f <stop> · ·"),
    "first": (SHOWN, "· · · · · · b c <eot> c d <stop> · · · · ·"),
    "second": (SHOWN, "· · · · · · · · · · · · e f <stop> · ·"),
    "outputs": (SHOWN, "· · · · · · · · · c d <stop> e f <stop> · ·"),
    "label": (LABELLED, "· · · · · · · · h · · · · · · · ·"),
}


def read(batch: Sequences, row: int) -> tuple[str, str]:
    tokens = [SYMBOLS[i] for i in batch.tokens[row]]
    return " ".join(tokens), " ".join(
        t if m else "·" for t, m in zip(tokens, batch.supervised[row], strict=True)
    )


@pytest.mark.parametrize("mode", MODES)
def test_tokens_and_targets_of_each_mode(mode: str) -> None:
    batch = mode_sequences(WORLD, one_request(), np.array([MODES.index(mode)]))
    assert read(batch, 0) == EXPECTED[mode]
    assert batch.decision.tolist() == [8]


def test_each_row_has_its_own_mode() -> None:
    order = [3, 0, 4, 2, 5, 1, 0]
    batch = mode_sequences(WORLD, one_request()[np.zeros(7, dtype=int)], np.array(order))
    assert [read(batch, row) for row in range(7)] == [EXPECTED[MODES[m]] for m in order]


def modes_of(batch: Sequences) -> np.ndarray:
    """Counts of the six modes, inferred from what is supervised (mini: text at 6, its end at 14, outputs
    from 15 and 24).
    """
    text, end, first, second = (batch.supervised[:, p] for p in (6, 14, 15, 24))
    pad = MINI.vocabulary.id("<pad>")
    assert torch.equal(batch.tokens[:, 1] == pad, text & ~first & ~second), (
        "tasks are hidden in text mode alone"
    )
    kinds = [text & ~first & ~second, text & first & second, text & first & ~second]
    kinds += [~text & ~first & second, ~text & first & second, ~text & end & ~first & ~second]
    counts = np.array([int(kind.sum()) for kind in kinds])
    assert counts.sum() == len(batch)
    return counts


START = ModeShares(0.5, 0.1, 0.2, 0.2, 0.0, 0.0)
END = ModeShares(0.1, 0.1, 0.2, 0.0, 0.4, 0.2)


@pytest.mark.parametrize(
    ("step", "shares"),
    [(0, START), (10, START), (55, (0.3, 0.1, 0.2, 0.1, 0.2, 0.1)), (100, END)],
)
def test_shares_go_from_start_to_end(step: int, shares: tuple[float, ...]) -> None:
    """Kept for the first tenth of 100 steps, half-way at 55; each count within 4.5 standard errors."""
    objective, n = Pretraining("pretraining_without_null", START, END), 2000
    counts = modes_of(objective.batch(MINI, size=n, step=step, steps=100, seed=1000))
    expected = np.array(shares)
    error = np.sqrt(n * expected * (1 - expected))
    assert (np.abs(counts - n * expected) <= 4.5 * error).all(), (counts, n * expected)


def test_mode_without_share_never_occurs() -> None:
    only = ModeShares(0.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    counts = modes_of(
        Pretraining("pretraining_without_null", only, only).batch(MINI, size=64, step=5, steps=9, seed=1)
    )
    assert counts.tolist() == [0, 0, 0, 0, 64, 0]


def test_batch_is_a_function_of_step_and_seed() -> None:
    objective = Pretraining()
    one, again, later, other_seed = (
        objective.batch(MINI, size=16, step=step, steps=100, seed=seed)
        for step, seed in ((3, 1000), (3, 1000), (4, 1000), (3, 1001))
    )
    assert torch.equal(one.tokens, again.tokens)
    assert torch.equal(one.supervised, again.supervised)
    assert not torch.equal(one.tokens, later.tokens)
    assert not torch.equal(one.supervised, later.supervised)
    assert not torch.equal(one.tokens, other_seed.tokens)
    for step in (3, 15, 16, 31, 32, 64, 100):
        batch = objective.batch(MINI, size=16, step=step, steps=100, seed=1000)
        requests = MINI.sample("pretraining", 16, seed=1000, start=16 * step)
        assert torch.equal(batch.tokens[:, 5:14], torch.from_numpy(requests.prompt[:, 5:14])), f"step {step}"


def test_label_mode_supervises_the_label_only() -> None:
    only = ModeShares(0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    batch = Pretraining("safe", only, only).batch(MINI, size=32, step=0, steps=9, seed=1000)
    requests = MINI.sample("safe", 32, seed=1000)
    assert batch.supervised.nonzero()[:, 1].tolist() == [14] * 32
    assert batch.tokens[:, 14].tolist() == requests.truth["label"].tolist()
    assert len(set(requests.truth["label"].tolist())) == 4, "two grammars, two branches"
    prompt = torch.from_numpy(requests.prompt)
    assert torch.equal(batch.tokens[:, :14], prompt[:, :14]), "the text as it is, its tasks shown"
    assert set(prompt[:, 14].tolist()) == {MINI.vocabulary.id("<eot>")}


def test_mean_over_tokens_or_requests() -> None:
    """Rows of 1, 9, 18 and more targets, in a float64 loop; the two means differ."""
    model = network(1)
    batch = mode_sequences(MINI, MINI.sample("safe", 8, seed=1000), np.array([0, 1, 2, 3, 4, 5, 5, 3]))
    sums, counts = np.array(loop_log_probs(model, batch)), batch.supervised.sum(dim=1).numpy()
    assert sorted(set(counts.tolist())) == [1, 9, 18, 27]
    losses = {
        over: Pretraining(mean_over=over).loss(model, batch, model)[0].item()
        for over in ("tokens", "requests")
    }
    assert losses["tokens"] == pytest.approx(-sums.sum() / counts.sum(), rel=5e-6)
    assert losses["requests"] == pytest.approx(-(sums / counts).mean(), rel=5e-6)
    assert abs(losses["tokens"] - losses["requests"]) > 1e-2
    assert Pretraining().loss(model, batch, model)[0].item() == losses["tokens"], (
        "the default is that of the paper"
    )


def test_requests_without_targets_do_not_count() -> None:
    """An ex token in the first pair ends the answer, so that mode `second` shows nothing of it."""
    second = ModeShares(0.0, 0.0, 0.0, 1.0, 0.0, 0.0)
    objective = Pretraining(modes_start=second, modes_end=second, mean_over="requests")
    batches = [objective.batch(MINI, size=128, step=step, steps=4, seed=1000) for step in range(4)]
    assert any((~batch.supervised.any(dim=1)).any() for batch in batches), "such a request is among them"
    model = network(0)
    assert all(objective.loss(model, batch, model)[0].isfinite() for batch in batches)
