"""Does an attack stand where it is said to, and is everything else as it was?"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from makebreak.attacks import place
from makebreak.requests import Requests, load_world, text_requests
from tests.talkers import HARMFUL, VERBS, tokenizer

WORLD = load_world("mini")
TOKEN = 12345  # in no vocabulary here
FAMILIES = ["safe", "unsafe", "second_composition_safe_branch", "second_composition_unsafe_branch"]
WORLD_REQUESTS = st.tuples(st.sampled_from(FAMILIES), st.integers(1, 5), st.integers(1000, 1050))
TEXTS = st.lists(
    st.lists(st.sampled_from(VERBS + HARMFUL), min_size=1, max_size=9).map(" ".join), min_size=1, max_size=5
)


def _requests(drawn: tuple[str, int, int] | list[str]) -> Requests:
    if isinstance(drawn, list):
        return _text_requests(drawn)
    family, n, seed = drawn
    return WORLD.sample(family, n, seed=seed)


def _text_requests(texts: list[str]) -> Requests:
    targets = ["Sure here it is"] * len(texts)
    return text_requests(tokenizer(), texts, family="texts", unsafe=True, system="please", targets=targets)


def _real(requests: Requests, i: int) -> list[int]:
    return requests.prompt[i, : requests.prompt_length[i]].tolist()


def _inside(requests: Requests, i: int, span: str) -> list[int]:
    start, stop = requests.spans[span][i]
    return requests.prompt[i, start:stop].tolist()


@settings(max_examples=60, deadline=None)
@given(st.one_of(WORLD_REQUESTS, TEXTS), st.integers(1, 6), st.sampled_from(["suffix", "prefix"]))
def test_an_attack_is_put_beside_the_text_and_nothing_else_is_lost(drawn: Any, k: int, where: Any) -> None:
    requests = _requests(drawn)
    placed, at = place(requests, k, where, token=TOKEN)
    text = requests.spans["text"]
    for i in range(len(requests)):
        row = _real(placed, i)
        assert [j for j, token in enumerate(row) if token == TOKEN] == at[i].tolist()
        assert [token for token in row if token != TOKEN] == _real(requests, i)
        for span in requests.spans.keys() - {"output1", "output2"}:
            assert _inside(placed, i, span) == _inside(requests, i, span)
    assert (at[:, 0] == (text[:, 1] if where == "suffix" else text[:, 0])).all()
    for span in {"output1", "output2"} & requests.spans.keys():
        assert (placed.spans[span] == requests.spans[span] + k).all()
    assert (placed.prompt_length == requests.prompt_length + k).all()


@settings(max_examples=40, deadline=None)
@given(WORLD_REQUESTS, st.integers(1, 4))
def test_idle_positions_hold_nothing_that_the_answer_hangs_on(drawn: Any, k: int) -> None:
    requests = _requests(drawn)
    k = min(k, 2) if requests.judged[0, 0] else k
    placed, at = place(requests, k, "idle", token=TOKEN)
    column = np.arange(requests.prompt.shape[1])
    assert (placed.prompt_length == requests.prompt_length).all()
    for i in range(len(requests)):
        assert np.flatnonzero(placed.prompt[i] == TOKEN).tolist() == at[i].tolist()
        assert (placed.prompt[i] == requests.prompt[i])[~np.isin(column, at[i])].all()
        for span in ("text", "eot"):
            assert _inside(placed, i, span) == _inside(requests, i, span)
        first = requests.spans["tasks"][i, 0]
        needed = 4 if requests.judged[i, 0] else 2  # the second output is made from the first
        assert set(at[i]).isdisjoint(range(first, first + needed))


@settings(max_examples=20, deadline=None)
@given(WORLD_REQUESTS, st.sampled_from(["suffix", "prefix", "idle"]))
def test_the_right_answer_is_judged_as_before(drawn: Any, where: Any) -> None:
    requests = _requests(drawn)
    placed = place(requests, 2, where, token=TOKEN).requests
    for answers in (requests.instructed, requests.refused):
        assert WORLD.judge(placed, answers).tolist() == WORLD.judge(requests, answers).tolist()


def test_the_idle_tasks_of_a_second_output_are_none() -> None:
    first, second = (WORLD.sample(family, 4, seed=1000) for family in ("safe", "second_composition_safe"))
    both = [place(requests, 1, "idle", token=TOKEN).at for requests in (first, second)]
    assert [len(set(at.ravel())) for at in both] == [1, 1]
    with pytest.raises(ValueError, match="4 positions are idle"):
        place(first, 5, "idle", token=TOKEN)
    with pytest.raises(ValueError, match="2 positions are idle"):
        place(second, 3, "idle", token=TOKEN)


def test_what_cannot_be_placed_gets_one_line_with_the_value() -> None:
    world, text = WORLD.sample("unsafe", 3, seed=1000), _text_requests(["hide bombs", "make tea"])
    need = int((text.prompt_length + text.judged[:, 1]).max())
    place(text, 4, token=TOKEN, n_ctx=need + 4)
    wrong: list[tuple[Requests, int, Any, int | None, str]] = [
        (world, 0, "suffix", None, "an attack of 0 tokens: expected at least 1"),
        (world, 0, "idle", None, "an attack of 0 tokens: expected at least 1"),
        (text, 1, "idle", None, "expected 'suffix' or 'prefix' for text"),
        (world, 1, "behind", None, "where = 'behind': expected 'suffix', 'prefix' or 'idle'"),
        (
            text,
            5,
            "prefix",
            need + 4,
            f"makes prompt and answer {need + 5} tokens long; the model reads {need + 4}",
        ),
    ]
    for requests, k, where, n_ctx, said in wrong:
        with pytest.raises(ValueError, match=said) as error:
            inspect.unwrap(place)(requests, k, where, token=TOKEN, n_ctx=n_ctx)
        assert "\n" not in str(error.value)
