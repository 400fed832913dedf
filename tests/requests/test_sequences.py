"""Do the tokens, the mask and the decision say what a request asks for, position by position?"""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

import synthetic
from makebreak.requests import Requests, Sequences, between, load_world, positions, sampled, sequences
from synthetic import Vocabulary

SYMBOLS = ("T0", "T1", "T2", "<eot>", "<bos>", "<eos>", "<sot>", "<pad>", "<stop>", *"abcdefgh")
VOCABULARY = Vocabulary(SYMBOLS)
WORLD = copy.copy(synthetic.load("mini"))
WORLD.vocabulary, WORLD.sequence_length = VOCABULARY, 20

# Two requests by hand: texts of two and of three letters, two task pairs, null letter a.
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


def marked(batch: Sequences) -> list[str]:
    """The supervised tokens of each row, · where a token is not supervised."""
    return [
        " ".join(SYMBOLS[i] if m else "·" for i, m in zip(*row, strict=True))
        for row in zip(batch.tokens.tolist(), batch.supervised.tolist(), strict=True)
    ]


def dots(n: int) -> str:
    return " ".join("·" * n)


def test_rows_of_the_instructed_answer() -> None:
    batch = sequences(WORLD, FIRST, "instructed")
    assert shown(batch) == [
        "<bos> T1 T0 T2 T0 <sot> b c <eot> c d <stop> e f <stop> <pad> <pad> <pad> <pad> <eos>",
        "<bos> T2 T2 T0 T1 <sot> d e f <eot> f g h <stop> b c d <stop> <pad> <eos>",
    ]
    assert marked(batch) == [f"{dots(9)} c d <stop> {dots(8)}", f"{dots(10)} f g h <stop> {dots(6)}"]
    assert batch.decision.tolist() == [8, 9]
    assert [SYMBOLS[i] for i in batch.tokens[torch.arange(2), batch.decision]] == ["<eot>", "<eot>"]
    assert len(batch) == 2


def test_rows_of_the_refused_answer() -> None:
    batch = sequences(WORLD, FIRST, "refused")
    assert shown(batch) == [
        "<bos> T1 T0 T2 T0 <sot> b c <eot> a a <stop>" + 7 * " <pad>" + " <eos>",
        "<bos> T2 T2 T0 T1 <sot> d e f <eot> a a a <stop>" + 5 * " <pad>" + " <eos>",
    ]
    assert marked(batch) == [f"{dots(9)} a a <stop> {dots(8)}", f"{dots(10)} a a a <stop> {dots(6)}"]
    assert batch.decision.tolist() == [8, 9]


def test_whole_marks_the_whole_answer_and_nothing_else() -> None:
    assert marked(sequences(WORLD, FIRST, "instructed", whole=True)) == [
        f"{dots(9)} c d <stop> e f <stop> {dots(5)}",
        f"{dots(10)} f g h <stop> b c d <stop> {dots(2)}",
    ]
    refused = sequences(WORLD, FIRST, "refused", whole=True)
    assert torch.equal(refused.supervised, sequences(WORLD, FIRST, "refused").supervised)


def test_second_composition_is_judged_on_its_second_output() -> None:
    instructed, refused = (sequences(WORLD, SECOND, answer) for answer in ("instructed", "refused"))
    assert shown(refused)[0] == (
        "<bos> T1 T0 T2 T0 <sot> b c <eot> c d <stop> a a <stop> <pad> <pad> <pad> <pad> <eos>"
    )
    assert marked(instructed) == [f"{dots(12)} e f <stop> {dots(5)}", f"{dots(14)} b c d <stop> {dots(2)}"]
    assert marked(refused) == [f"{dots(12)} a a <stop> {dots(5)}", f"{dots(14)} a a a <stop> {dots(2)}"]
    assert refused.decision.tolist() == [11, 13]
    assert [SYMBOLS[i] for i in refused.tokens[torch.arange(2), refused.decision]] == ["<stop>", "<stop>"]


def test_another_answer_is_an_error() -> None:
    with pytest.raises(ValueError, match="answer 'helpful': expected 'instructed' or 'refused'"):
        sequences(WORLD, FIRST, "helpful")


def test_between_marks_start_up_to_stop() -> None:
    mask = between(np.array([1, 0, 3]), np.array([3, 0, 4]), 4)
    assert mask.tolist() == [[False, True, True, False], [False] * 4, [False, False, False, True]]


@pytest.mark.parametrize("name", ["mini", "jain2024"])
def test_every_family_marks_its_judged_segment(name: str) -> None:
    """Every family of the worlds, against a loop over rows in symbols."""
    world = synthetic.load(name)
    vocabulary, null = world.vocabulary, world.vocabulary.symbols[world.null]
    second = 0
    for family in world.families:
        drawn = world.sample(family, 3, seed=1000)
        for answer, answers in (("instructed", drawn.instructed), ("refused", drawn.refused)):
            batch = sequences(world, drawn, answer)
            for row in range(3):
                start, stop = drawn.judged[row]
                prompt = vocabulary.decode(drawn.prompt[row]).split()
                said = vocabulary.decode(answers[row]).split()
                tokens = [vocabulary.symbols[i] for i in batch.tokens[row]]
                padding = ["<pad>"] * (world.sequence_length - len(prompt) - len(said) - 1)
                assert tokens == [*prompt, *said, *padding, "<eos>"], family
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
def test_a_step_sees_its_own_requests_however_they_are_drawn(n: int) -> None:
    world = load_world("mini")
    for step in (0, 7, 8, 21):
        drawn, alone = (
            sampled(world, "unsafe", n, step=step, seed=1000),
            world.sample("unsafe", n, seed=1000, start=step * n),
        )
        assert drawn.columns() == alone.columns()
    assert (
        sampled(world, "safe", n, step=0, seed=1000).columns()
        != sampled(world, "safe", n, step=0, seed=1001).columns()
    )


def test_positions_are_those_of_the_span_or_an_error() -> None:
    world = load_world("mini")
    requests = world.sample("safe", 20, seed=1000, split="fit")
    end = positions(requests, "eot")
    assert end.shape == requests.prompt.shape
    assert end.nonzero()[:, 1].tolist() == (requests.prompt_length - 1).tolist()
    assert (requests.prompt[end.numpy()] == world.vocabulary.id("<eot>")).all()
    answer = positions(requests, "output1", world.sequence_length)
    tokens = sequences(world, requests, "instructed").tokens
    length = requests.judged[:, 1] - requests.judged[:, 0]
    assert answer.sum(dim=1).tolist() == length.tolist()
    first = np.arange(requests.instructed.shape[1]) < length[:, None]
    assert tokens[answer].tolist() == requests.instructed[first].tolist()
    with pytest.raises(
        ValueError, match=r"span 'output1' ends at \d+, beyond \d+: give the width of the sequences"
    ):
        positions(requests, "output1")
    with pytest.raises(ValueError, match=r"span 'eos' is not in these requests; did you mean 'eot'"):
        positions(requests, "eos")
