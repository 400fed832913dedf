"""Inference of planted templates, and requests rewritten in them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from makebreak.defences import infer_template, rewrite_in_template
from makebreak.prompts import load_world
from synthetic.formats.templates import TEMPLATES

WORLD = load_world("formats_templates")
SLOTS = st.lists(st.lists(st.integers(0, 9), min_size=0, max_size=6), min_size=3, max_size=20)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(20, 29), max_size=4), st.lists(st.integers(30, 39), max_size=4), SLOTS)
def test_planted_templates_are_inferred(before: list[int], after: list[int], slots: list[list[int]]) -> None:
    """Slots have any length, and begin and end with different tokens; the first two ensure this."""
    slots = [[90, *slots[0], 91], [92, *slots[1], 93], *slots[2:]]
    inferred = infer_template(
        [[*before, *slot, *after] for slot in slots], [[7, slot[0] if slot else 5] for slot in slots]
    )
    assert inferred.prefix == tuple(before)
    assert inferred.suffix == tuple(after)
    assert inferred.slot_lengths == tuple(map(len, slots))
    assert bool(inferred) == bool(before or after)
    assert inferred.answer_prefix == (7,)


def test_constant_answers_keep_their_last_token() -> None:
    inferred = infer_template([[1, 2], [1, 3]], [[5, 6], [5, 6]])
    assert inferred.answer_prefix == (5,)
    assert infer_template([[1, 2], [1, 3]], [[5, 6], [7, 6]]).answer_prefix == ()
    with pytest.raises(ValueError, match="1 examples of a user: expected two at least"):
        infer_template([[1, 2]], [[5]])


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("form", ["mcq", "gen", "label"])
def test_user_templates_are_inferred(form: str, template: str) -> None:
    user = WORLD.sample(f"{form}_safe_new" + f"@{template}" * (template != "plain"), 20, seed=1)
    texts = [WORLD.sample(f"{name}_unsafe", 30, seed=2) for name in ("gen", "label")]
    rewritten, decode = rewrite_in_template(texts, user), WORLD.vocabulary.decode
    expected, slot = TEMPLATES[template], 7 if form == "gen" else 9
    for row in range(30):
        shown = decode(rewritten.prompt[row][: rewritten.prompt_length[row]]).split()
        payload = texts[0 if slot == 7 else 1]
        start, stop = payload.spans["text"][row]
        text = decode(payload.prompt[row][start:stop]).split()
        assert len(text) == slot
        assert shown == [
            "<bos>",
            *expected.system,
            *expected.before_operator,
            f"{form}_new",
            "<sot>",
            *text,
            "<eot>",
        ]
        refusal = decode(rewritten.refused[row]).split()
        assert refusal[: len(expected.answer_header)] == list(expected.answer_header)
        assert tuple(refusal[len(expected.answer_header) : len(expected.answer_header) + 4])[-1] == "<stop>"
    assert (rewritten.judged[:, 1] == payload.judged[:, 1] + len(expected.answer_header)).all()
    assert rewritten.unsafe.all()


def test_prompts_without_a_template() -> None:
    user = WORLD.sample("mcq_safe_new", 20, seed=1)
    user.prompt[:, 0] = np.arange(20)
    user.prompt[np.arange(20), user.prompt_length - 1] = np.arange(20)
    with pytest.raises(ValueError, match="20 prompts of mcq_safe_new begin and end in different tokens"):
        rewrite_in_template([WORLD.sample("gen_unsafe", 5, seed=2)], user)
