"""Openers of refusals: the first tokens of a model's own refusals, or the fixed list where there are few."""

from __future__ import annotations

from typing import Any

from makebreak.lm.openers import own_openers, with_openers
from makebreak.prompts import text_requests
from tests.fixtures.tiny_lm import tokenizer


def row(answer: str, *, is_refusal: bool, is_degenerate: bool = False) -> dict[str, Any]:
    return {"answer": answer, "arditi2024": is_refusal, "degenerate": is_degenerate}


def ids(*words: str) -> tuple[int, ...]:
    return tuple(sorted(tokenizer().get_vocab()[word] for word in words))


REFUSALS = [row("help is it", is_refusal=True)] * 30 + [
    row("<think> Sure </think> with that", is_refusal=True)
] * 8
REPLIES = [row("Sure here it is", is_refusal=False)] * 20


def test_tokens_that_begin_enough_refusals() -> None:
    rare = [row("now here", is_refusal=True)]
    openers = own_openers(tokenizer(), REFUSALS + rare + REPLIES)
    assert openers.ids == ids("help", "with"), "what follows the reasoning is read, and one of 39 is too few"
    assert openers.description == "'help' (77%), 'with' (21%) of 39 refusals of half of the requests"


def test_token_that_is_more_frequent_in_compliant_answers() -> None:
    replies = [row("with it", is_refusal=False)] * 18 + REPLIES
    assert own_openers(tokenizer(), REFUSALS + replies).ids == ids("help")


def test_too_few_refusals_have_the_fixed_list() -> None:
    degenerate = [row("help", is_refusal=True, is_degenerate=True)] * 20
    openers = own_openers(tokenizer(), REFUSALS[:7] + degenerate + REPLIES)
    assert openers.ids == ()
    assert openers.description.startswith("I, As, Sorry, Unfortunately (7 refusals of half of the requests")
    requests = text_requests(tokenizer(), ["make tea"], family="harmful", unsafe=True)
    assert with_openers(requests, openers) is requests


def test_refusals_that_begin_as_other_answers_do_have_the_fixed_list() -> None:
    replies = [row("help it", is_refusal=False)] * 10
    openers = own_openers(tokenizer(), REFUSALS[:10] + replies)
    assert openers.ids == ()
    assert "no first token is typical" in openers.description
    assert own_openers(tokenizer(), []).ids == ()


def test_requests_have_the_openers() -> None:
    requests = text_requests(tokenizer(), ["make tea", "hide it"], family="harmful", unsafe=True)
    openers = own_openers(tokenizer(), REFUSALS + REPLIES)
    assert with_openers(requests, openers).openers.tolist() == [list(ids("help", "with"))] * 2
