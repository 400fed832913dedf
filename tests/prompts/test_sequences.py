"""Token sequences of requests: tokens, masks and decision positions, position by position."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

import synthetic
from makebreak.prompts import (
    Requests,
    Sequences,
    interval_mask,
    load_world,
    sample_batch,
    sequences,
    span_mask,
)
from synthetic import Vocabulary

SYMBOLS = ("T0", "T1", "T2", "<eot>", "<bos>", "<eos>", "<sot>", "<pad>", "<stop>", *"abcdefgh")
VOCABULARY = Vocabulary(SYMBOLS)
WORLD = copy.copy(synthetic.load("mini"))
WORLD.vocabulary, WORLD.sequence_length = VOCABULARY, 20

# Two requests by hand: texts of two and of three letters, two task pairs, refusal letter a.
PROMPTS = ("<bos> T1 T0 T2 T0 <sot> b c <eot>", "<bos> T2 T2 T0 T1 <sot> d e f <eot>")
INSTRUCTED = ("c d <stop> e f <stop>", "f g h <stop> b c d <stop>")
REFUSED = ("a a <stop>", "a a a <stop>")
REFUSED_LATE = ("c d <stop> a a <stop>", "f g h <stop> a a a <stop>")


def ids(rows: tuple[str, ...], width: int) -> np.ndarray:
    return np.array([VOCABULARY.encode(r + " <pad>" * (width - len(r.split()))) for r in rows])


def requests(refused: tuple[str, ...], judged: list[list[int]]) -> Requests:
    return Requests(
        family="by hand",
        seed=0,
        prompt=ids(PROMPTS, 10),
        prompt_length=np.array([9, 10]),
        instructed=ids(INSTRUCTED, 8),
        refused=ids(refused, 8),
        judged=np.array(judged),
        unsafe=np.array([True, True]),
        spans={},
        truth={},
    )


FIRST = requests(REFUSED, [[0, 3], [0, 4]])
SECOND = requests(REFUSED_LATE, [[3, 6], [4, 8]])


def shown(batch: Sequences) -> list[str]:
    return [" ".join(SYMBOLS[i] for i in row) for row in batch.tokens.tolist()]


def targets_shown(batch: Sequences) -> list[str]:
    """The supervised tokens of each row, · where a token is not supervised."""
    return [
        " ".join(SYMBOLS[i] if m else "·" for i, m in zip(*row, strict=True))
        for row in zip(batch.tokens.tolist(), batch.supervised.tolist(), strict=True)
    ]


def dots(n: int) -> str:
    return " ".join("·" * n)


def test_sequences_of_instructed_answers() -> None:
    batch = sequences(WORLD, FIRST, "instructed")
    assert shown(batch) == [
        "<bos> T1 T0 T2 T0 <sot> b c <eot> c d <stop> e f <stop> <pad> <pad> <pad> <pad> <eos>",
        "<bos> T2 T2 T0 T1 <sot> d e f <eot> f g h <stop> b c d <stop> <pad> <eos>",
    ]
    assert targets_shown(batch) == [f"{dots(9)} c d <stop> {dots(8)}", f"{dots(10)} f g h <stop> {dots(6)}"]
    assert batch.decision.tolist() == [8, 9]
    assert [SYMBOLS[i] for i in batch.tokens[torch.arange(2), batch.decision]] == ["<eot>", "<eot>"]
    assert len(batch) == 2


def test_sequences_of_refusals() -> None:
    batch = sequences(WORLD, FIRST, "refused")
    assert shown(batch) == [
        "<bos> T1 T0 T2 T0 <sot> b c <eot> a a <stop>" + 7 * " <pad>" + " <eos>",
        "<bos> T2 T2 T0 T1 <sot> d e f <eot> a a a <stop>" + 5 * " <pad>" + " <eos>",
    ]
    assert targets_shown(batch) == [f"{dots(9)} a a <stop> {dots(8)}", f"{dots(10)} a a a <stop> {dots(6)}"]
    assert batch.decision.tolist() == [8, 9]


def test_whole_supervises_the_whole_answer() -> None:
    assert targets_shown(sequences(WORLD, FIRST, "instructed", whole=True)) == [
        f"{dots(9)} c d <stop> e f <stop> {dots(5)}",
        f"{dots(10)} f g h <stop> b c d <stop> {dots(2)}",
    ]
    refused = sequences(WORLD, FIRST, "refused", whole=True)
    assert torch.equal(refused.supervised, sequences(WORLD, FIRST, "refused").supervised)


def test_second_composition_is_judged_on_output2() -> None:
    instructed, refused = (sequences(WORLD, SECOND, answer) for answer in ("instructed", "refused"))
    assert shown(refused)[0] == (
        "<bos> T1 T0 T2 T0 <sot> b c <eot> c d <stop> a a <stop> <pad> <pad> <pad> <pad> <eos>"
    )
    assert targets_shown(instructed) == [
        f"{dots(12)} e f <stop> {dots(5)}",
        f"{dots(14)} b c d <stop> {dots(2)}",
    ]
    assert targets_shown(refused) == [
        f"{dots(12)} a a <stop> {dots(5)}",
        f"{dots(14)} a a a <stop> {dots(2)}",
    ]
    assert refused.decision.tolist() == [11, 13]
    assert [SYMBOLS[i] for i in refused.tokens[torch.arange(2), refused.decision]] == ["<stop>", "<stop>"]


def test_another_answer_is_an_error() -> None:
    with pytest.raises(ValueError, match="answer 'helpful': expected 'instructed' or 'refused'"):
        sequences(WORLD, FIRST, "helpful")


def test_interval_mask_is_half_open() -> None:
    mask = interval_mask(np.array([1, 0, 3]), np.array([3, 0, 4]), 4)
    assert mask.tolist() == [[False, True, True, False], [False] * 4, [False, False, False, True]]


@pytest.mark.parametrize("name", ["mini", "jain2024"])
def test_families_supervise_the_judged_segment(name: str) -> None:
    """Every family of the worlds, against a loop over rows in symbols."""
    world = synthetic.load(name)
    vocabulary, null = world.vocabulary, world.vocabulary.symbols[world.null_id]
    second = 0
    for family in world.families:
        sample = world.sample(family, 3, seed=1000)
        for answer, answers in (("instructed", sample.instructed), ("refused", sample.refused)):
            batch = sequences(world, sample, answer)
            for row in range(3):
                start, stop = sample.judged[row]
                prompt = vocabulary.decode(sample.prompt[row]).split()
                words = vocabulary.decode(answers[row]).split()
                tokens = [vocabulary.symbols[i] for i in batch.tokens[row]]
                padding = ["<pad>"] * (world.sequence_length - len(prompt) - len(words) - 1)
                assert tokens == [*prompt, *words, *padding, "<eos>"], family
                positions = torch.nonzero(batch.supervised[row])[:, 0].tolist()
                assert positions == list(range(len(prompt) + start, len(prompt) + stop)), family
                assert batch.decision[row] == positions[0] - 1
                assert tokens[batch.decision[row]] == ("<stop>" if "second" in family else "<eot>")
                if answer == "refused":
                    assert {tokens[i] for i in positions[:-1]} == {null}
                    assert tokens[positions[-1]] == "<stop>"
                second += "second" in family
    assert second > 0


@pytest.mark.parametrize("n", [1, 5, 32])
def test_batches_do_not_depend_on_other_steps(n: int) -> None:
    world = load_world("mini")
    for step in (0, 7, 8, 21):
        batch = sample_batch(world, "unsafe", n, step=step, seed=1000)
        assert batch.columns() == world.sample("unsafe", n, seed=1000, start=step * n).columns()
    assert (
        sample_batch(world, "safe", n, step=0, seed=1000).columns()
        != sample_batch(world, "safe", n, step=0, seed=1001).columns()
    )


def test_span_mask_or_an_error() -> None:
    world = load_world("mini")
    requests = world.sample("safe", 20, seed=1000, split="fit")
    end = span_mask(requests, "eot")
    assert end.shape == requests.prompt.shape
    assert end.nonzero()[:, 1].tolist() == (requests.prompt_length - 1).tolist()
    assert (requests.prompt[end.numpy()] == world.vocabulary.id("<eot>")).all()
    answer = span_mask(requests, "output1", world.sequence_length)
    tokens = sequences(world, requests, "instructed").tokens
    length = requests.judged[:, 1] - requests.judged[:, 0]
    assert answer.sum(dim=1).tolist() == length.tolist()
    first = np.arange(requests.instructed.shape[1]) < length[:, None]
    assert tokens[answer].tolist() == requests.instructed[first].tolist()
    with pytest.raises(
        ValueError, match=r"span 'output1' ends at \d+, beyond \d+: give the width of the sequences"
    ):
        span_mask(requests, "output1")
    with pytest.raises(ValueError, match=r"span 'eos' is not in these requests; did you mean 'eot'"):
        span_mask(requests, "eos")
