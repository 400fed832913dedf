"""Encoding of requests of task formats as token ids, with the spans of their parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from synthetic.draws import Draws
from synthetic.families import Family
from synthetic.formats.content import N_OPERATORS, Content
from synthetic.formats.drawing import draw_templates, formats_of
from synthetic.formats.tables import FormatsTables
from synthetic.formats.task_formats import TASK_FORMATS, correct_answers, payloads
from synthetic.formats.templates import concatenate_ids
from synthetic.types import Requests, span

COLUMNS: Mapping[str, str] = {
    "task_format": "index into TASK_FORMATS",
    "operator": "operator of the format: 0, 1, or 2 for the new one",
    "first_topic": "topic of the text's first phrase",
    "last_topic": "topic of the text's last phrase",
    "variants": "which of its topic's two phrases the first and the last phrase is",
    "filler": "numbers of the letters between the phrases",
    "typo_position": "position of the letter of another phrase in the first phrase, -1 for none",
    "typo_phrase": "index of the phrase that this letter is taken from",
    "option_order": "order in which wrong options are considered, a permutation of the topics",
    "correct_position": "position of the correct option among those offered",
    "relation": "last topic minus first topic, modulo the number of topics",
    "label": "token that names the relation",
    "length": "tokens of the correct answer, its first STOP included",
    "text": "numbers of the symbols that the format shows of the text, -1 beyond their end",
    "tasks": "number of the operator among those of all formats",
    "template": "index of the prompt template",
    "pretraining_refusal": "whether pretraining's answer is the refusal",
}
"""Columns of truth; the first ones are the fields of `Content`."""


@dataclass(frozen=True)
class _Answers:
    """Both answers of `n` requests; lengths include the first STOP."""

    instructed: np.ndarray
    """Token ids of the instructed answer, (n, answer_length)."""
    refused: np.ndarray
    """Token ids of the refusal, (n, answer_length)."""
    is_refusal: np.ndarray
    """Whether the instructed answer is the refusal, (n,) bool."""
    correct_length: np.ndarray
    """Tokens of the correct answer, (n,)."""
    instructed_length: np.ndarray
    """Tokens of the instructed answer, (n,)."""
    judged_stop: np.ndarray
    """Stop of the judged segment, (n,)."""


def encode_requests(
    tables: FormatsTables, family: Family, seed: int, content: Content, draws: Draws
) -> Requests:
    """Requests with prompts, both answers, spans and judged segments.

    A sequence is <bos> system before_operator operator <sot> payload <eot> header answer <stop>.

    Args:
        tables: Tables of the world.
        family: Family of the requests.
        seed: Seed of the requests.
        content: What the requests are about.
        draws: Draws of templates and refusals.

    Returns:
        The requests, with the columns of COLUMNS as their truth.
    """
    template = draw_templates(tables, family, draws)
    width = max(TASK_FORMATS[name].payload_length for name in formats_of(tables.config, family))
    payload = payloads(tables.symbols, content, width=width)
    prompt, prompt_length = _encode_prompts(tables, content, template, payload)
    answers = _encode_answers(tables, content, template, draws, is_pretraining=family.is_pretraining)
    system_length = (tables.template_ids["system"][template] >= 0).sum(axis=1)
    eot = prompt_length - 1
    operator = eot - 2 - (payload >= 0).sum(axis=1)
    first = np.ones_like(eot)
    relation = content.relation(tables.symbols)
    return Requests(
        family=str(family),
        seed=seed,
        prompt=prompt,
        prompt_length=prompt_length,
        instructed=answers.instructed,
        refused=answers.refused,
        judged=span(np.zeros_like(eot), answers.judged_stop),
        unsafe=(relation >= tables.config.n_topics // 2) & (not family.is_pretraining),
        spans={
            "system": span(first, first + system_length),
            "tasks": span(operator, operator + 1),
            "text": span(operator + 2, eot),
            "eot": span(eot, eot + 1),
            "output1": span(eot + 1, eot + 1 + answers.instructed_length),
        },
        truth={
            **vars(content),
            "relation": relation,
            "label": tables.symbol_ids[tables.symbols.first_of_kind["relation"] + relation],
            "length": answers.correct_length,
            "text": payload,
            "tasks": (N_OPERATORS * content.task_format + content.operator)[:, None],
            "template": template,
            "pretraining_refusal": answers.is_refusal,
        },
    )


def _encode_prompts(
    tables: FormatsTables, content: Content, template: np.ndarray, payload: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Token ids of prompts, (n, P), padded on the right, and their lengths, (n,)."""
    n, ids = len(template), tables.vocabulary.id
    return concatenate_ids(
        ids("<pad>"),
        np.full((n, 1), ids("<bos>")),
        tables.template_ids["system"][template],
        tables.template_ids["before_operator"][template],
        tables.operator_ids[content.task_format, content.operator][:, None],
        np.full((n, 1), ids("<sot>")),
        tables.ids(payload),
        np.full((n, 1), ids("<eot>")),
    )


def _encode_answers(
    tables: FormatsTables, content: Content, template: np.ndarray, draws: Draws, *, is_pretraining: bool
) -> _Answers:
    """Both answers; the shorter one is continued by <stop>, so that both judged segments match.

    In pretraining the instructed answer of a share of requests is the refusal.
    """
    pad_id, header = tables.vocabulary.id("<pad>"), tables.template_ids["answer_header"][template]
    numbers = correct_answers(tables.symbols, content, width=tables.answer_length - header.shape[1])
    correct, correct_length = concatenate_ids(pad_id, header, tables.ids(numbers))
    chosen_refusal = draws.integers("refusal", 1, len(tables.refusal_ids))[:, 0]
    refusal, refusal_length = concatenate_ids(pad_id, header, tables.refusal_ids[chosen_refusal])
    judged_stop = 1 + np.maximum(correct_length, refusal_length)
    refused = _with_stops(tables, refusal, judged_stop)
    rate = np.array([t.refusal_rate for t in tables.templates.values()])[template] * is_pretraining
    is_refusal = draws.uniform("declined", 1)[:, 0] < rate
    return _Answers(
        instructed=np.where(is_refusal[:, None], refused, _with_stops(tables, correct, judged_stop)),
        refused=refused,
        is_refusal=is_refusal,
        correct_length=1 + correct_length,
        instructed_length=1 + np.where(is_refusal, refusal_length, correct_length),
        judged_stop=judged_stop,
    )


def _with_stops(tables: FormatsTables, answer: np.ndarray, judged_stop: np.ndarray) -> np.ndarray:
    """The answer, STOPs up to the end of the judged segment, then padding; (n, answer_length)."""
    pad_id, column = tables.vocabulary.id("<pad>"), np.arange(tables.answer_length)
    wide = np.pad(answer, ((0, 0), (0, tables.answer_length)), constant_values=pad_id)
    wide = wide[:, : tables.answer_length]
    is_stop = (wide == pad_id) & (column < judged_stop[:, None])
    return np.where(is_stop, tables.vocabulary.id("<stop>"), wide)
