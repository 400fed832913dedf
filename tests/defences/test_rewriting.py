"""Does a blind rewriter find the template that was planted, and say where there is none?"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from makebreak.defences import found_in, rewritten
from makebreak.requests import load_world
from synthetic.templates import TEMPLATES

WORLD = load_world("formats_templates")
SLOTS = st.lists(st.lists(st.integers(0, 9), min_size=0, max_size=6), min_size=3, max_size=20)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(20, 29), max_size=4), st.lists(st.integers(30, 39), max_size=4), SLOTS)
def test_what_was_planted_is_found(before: list[int], after: list[int], slots: list[list[int]]) -> None:
    """Slots that begin and end with different tokens, of any length; the two first are made so."""
    slots = [[90, *slots[0], 91], [92, *slots[1], 93], *slots[2:]]
    found = found_in(
        [[*before, *slot, *after] for slot in slots], [[7, slot[0] if slot else 5] for slot in slots]
    )
    assert found.before == tuple(before)
    assert found.after == tuple(after)
    assert found.slots == tuple(map(len, slots))
    assert bool(found) == bool(before or after)
    assert found.header == (7,)


def test_an_answer_that_is_always_the_same_is_no_header_as_a_whole() -> None:
    found = found_in([[1, 2], [1, 3]], [[5, 6], [5, 6]])
    assert found.header == (5,)
    assert found_in([[1, 2], [1, 3]], [[5, 6], [7, 6]]).header == ()
    with pytest.raises(ValueError, match="1 examples of a user: expected two at least"):
        found_in([[1, 2]], [[5]])


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("form", ["mcq", "gen", "label"])
def test_a_users_template_is_recovered_from_twenty_examples(form: str, template: str) -> None:
    user = WORLD.sample(f"{form}_safe_new" + f"@{template}" * (template != "plain"), 20, seed=1)
    texts = [WORLD.sample(f"{name}_unsafe", 30, seed=2) for name in ("gen", "label")]
    made, say = rewritten(texts, user), WORLD.vocabulary.decode
    of, slot = TEMPLATES[template], 7 if form == "gen" else 9
    for row in range(30):
        shown = say(made.prompt[row][: made.prompt_length[row]]).split()
        payload = texts[0 if slot == 7 else 1]
        start, stop = payload.spans["text"][row]
        text = say(payload.prompt[row][start:stop]).split()
        assert len(text) == slot
        assert shown == ["<bos>", *of.system, *of.call, f"{form}_new", "<sot>", *text, "<eot>"]
        said = say(made.refused[row]).split()
        assert said[: len(of.header)] == list(of.header)
        assert tuple(said[len(of.header) : len(of.header) + 4])[-1] == "<stop>"
    assert (made.judged[:, 1] == payload.judged[:, 1] + len(of.header)).all()
    assert made.unsafe.all()


def test_prompts_that_have_nothing_in_common_have_no_template() -> None:
    user = WORLD.sample("mcq_safe_new", 20, seed=1)
    user.prompt[:, 0] = np.arange(20)
    user.prompt[np.arange(20), user.prompt_length - 1] = np.arange(20)
    with pytest.raises(ValueError, match="20 prompts of mcq_safe_new begin and end in different tokens"):
        rewritten([WORLD.sample("gen_unsafe", 5, seed=2)], user)
