"""Adversarial slots: they are where they are said to be, and everything else stays as it was."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from makebreak.attacks import insert_slots
from makebreak.prompts import PromptFormat, Requests, load_world, text_requests, with_targets
from tests.fixtures.tiny_lm import HARMFUL, VERBS, tokenizer

WORLD = load_world("mini")
TOKEN = 12345  # in no vocabulary here
FAMILIES = ["safe", "unsafe", "second_composition_safe_branch", "second_composition_unsafe_branch"]
WORLD_REQUESTS = st.tuples(st.sampled_from(FAMILIES), st.integers(1, 5), st.integers(1000, 1050))
TEXTS = st.lists(
    st.lists(st.sampled_from(VERBS + HARMFUL), min_size=1, max_size=9).map(" ".join), min_size=1, max_size=5
)


def _requests(sample: tuple[str, int, int] | list[str]) -> Requests:
    if isinstance(sample, list):
        return _text_requests(sample)
    family, n, seed = sample
    return WORLD.sample(family, n, seed=seed)


def _text_requests(texts: list[str]) -> Requests:
    targets = ["Sure here it is"] * len(texts)
    prompt_format = PromptFormat(system="please")
    requests = text_requests(tokenizer(), texts, family="texts", unsafe=True, prompt_format=prompt_format)
    return with_targets(tokenizer(), requests, targets)


def _real(requests: Requests, i: int) -> list[int]:
    return requests.prompt[i, : requests.prompt_length[i]].tolist()


def _inside(requests: Requests, i: int, span: str) -> list[int]:
    start, stop = requests.spans[span][i]
    return requests.prompt[i, start:stop].tolist()


@settings(max_examples=60, deadline=None)
@given(st.one_of(WORLD_REQUESTS, TEXTS), st.integers(1, 6), st.sampled_from(["suffix", "prefix"]))
def test_slots_are_next_to_the_text(sample: Any, k: int, where: Any) -> None:
    """And no token of the prompt is lost."""
    requests = _requests(sample)
    attacked, positions = insert_slots(requests, k, where, token=TOKEN)
    text = requests.spans["text"]
    for i in range(len(requests)):
        row = _real(attacked, i)
        assert [j for j, token in enumerate(row) if token == TOKEN] == positions[i].tolist()
        assert [token for token in row if token != TOKEN] == _real(requests, i)
        for span in requests.spans.keys() - {"output1", "output2"}:
            assert _inside(attacked, i, span) == _inside(requests, i, span)
    assert (positions[:, 0] == (text[:, 1] if where == "suffix" else text[:, 0])).all()
    for span in {"output1", "output2"} & requests.spans.keys():
        assert (attacked.spans[span] == requests.spans[span] + k).all()
    assert (attacked.prompt_length == requests.prompt_length + k).all()


@settings(max_examples=40, deadline=None)
@given(WORLD_REQUESTS, st.integers(1, 4))
def test_unused_slots_spare_the_answer(sample: Any, k: int) -> None:
    """The judged answer depends on nothing that they replace."""
    requests = _requests(sample)
    k = min(k, 2) if requests.judged[0, 0] else k
    attacked, positions = insert_slots(requests, k, "unused", token=TOKEN)
    column = np.arange(requests.prompt.shape[1])
    assert (attacked.prompt_length == requests.prompt_length).all()
    for i in range(len(requests)):
        assert np.flatnonzero(attacked.prompt[i] == TOKEN).tolist() == positions[i].tolist()
        assert (attacked.prompt[i] == requests.prompt[i])[~np.isin(column, positions[i])].all()
        for span in ("text", "eot"):
            assert _inside(attacked, i, span) == _inside(requests, i, span)
        first = requests.spans["tasks"][i, 0]
        needed = 4 if requests.judged[i, 0] else 2  # the second output is made from the first
        assert set(positions[i]).isdisjoint(range(first, first + needed))


@settings(max_examples=20, deadline=None)
@given(WORLD_REQUESTS, st.sampled_from(["suffix", "prefix", "unused"]))
def test_answers_are_judged_as_before(sample: Any, where: Any) -> None:
    requests = _requests(sample)
    attacked = insert_slots(requests, 2, where, token=TOKEN).requests
    for answers in (requests.instructed, requests.refused):
        assert WORLD.judge(attacked, answers).tolist() == WORLD.judge(requests, answers).tolist()


def test_a_second_output_leaves_fewer_unused() -> None:
    first, second = (WORLD.sample(family, 4, seed=1000) for family in ("safe", "second_composition_safe"))
    both = [insert_slots(requests, 1, "unused", token=TOKEN).positions for requests in (first, second)]
    assert [len(set(positions.ravel())) for positions in both] == [1, 1]
    with pytest.raises(ValueError, match="only 4 unused positions"):
        insert_slots(first, 5, "unused", token=TOKEN)
    with pytest.raises(ValueError, match="only 2 unused positions"):
        insert_slots(second, 3, "unused", token=TOKEN)


def test_impossible_slots_are_errors() -> None:
    """One line with the value."""
    world, text = WORLD.sample("unsafe", 3, seed=1000), _text_requests(["hide bombs", "make tea"])
    need = int((text.prompt_length + text.judged[:, 1]).max())
    insert_slots(text, 4, token=TOKEN, n_ctx=need + 4)
    wrong: list[tuple[Requests, int, Any, int | None, str]] = [
        (world, 0, "suffix", None, "n_tokens = 0: expected at least 1 token"),
        (world, 0, "unused", None, "n_tokens = 0: expected at least 1 token"),
        (text, 1, "unused", None, "where = 'unused': family 'texts' has no tasks"),
        (world, 1, "behind", None, "where = 'behind': expected 'suffix', 'prefix' or 'unused'"),
        (
            text,
            5,
            "prefix",
            need + 4,
            f"makes prompt and answer {need + 5} tokens long, beyond the model's context of {need + 4}",
        ),
    ]
    for requests, k, where, n_ctx, message in wrong:
        with pytest.raises(ValueError, match=message) as error:
            inspect.unwrap(insert_slots)(requests, k, where, token=TOKEN, n_ctx=n_ctx)
        assert "\n" not in str(error.value)
