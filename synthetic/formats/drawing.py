"""Drawing of what requests of task formats are about: topics, texts, operators, formats and templates."""

from __future__ import annotations

import numpy as np

from synthetic.draws import Draws
from synthetic.families import Family
from synthetic.formats.config import FormatsConfig
from synthetic.formats.content import N_OPTIONS, NEW_OPERATOR, PHRASE_LENGTH
from synthetic.formats.tables import FormatsTables
from synthetic.formats.task_formats import FORMAT_NAMES

_HELD_OUT_RELATIONS = 3  # one of so many pairs of topics of each unsafe relation is held out


def draw_content(config: FormatsConfig, family: Family, draws: Draws) -> dict[str, np.ndarray]:
    """Columns of `Content` of the requests of `draws`."""
    n = len(draws)
    if family.is_pretraining:
        first_topic, last_topic, typo, typo_topic = _draw_pretraining_topics(config, draws)
    else:
        first_topic, last_topic, typo, typo_topic = _draw_topics(config, family.kind, draws)
    typo_position = draws.integers("typo at", 1, PHRASE_LENGTH)[:, 0]
    operator = draws.integers("operator", 1, 2)[:, 0]
    return {
        "task_format": _draw_task_formats(config, family, draws),
        "operator": np.full(n, NEW_OPERATOR) if family.operator == "new" else operator,
        "first_topic": first_topic,
        "last_topic": last_topic,
        "variants": draws.integers("variants", 2, 2),
        "filler": draws.integers("filler", PHRASE_LENGTH, 2 * config.n_topics),
        "typo_position": np.where(typo, typo_position, -1),
        "typo_phrase": 2 * typo_topic + draws.integers("other variant", 1, 2)[:, 0],
        "option_order": draws.permutation("options", config.n_topics),
        "correct_position": draws.integers("place of the right one", 1, N_OPTIONS)[:, 0],
    }


def formats_of(config: FormatsConfig, family: Family) -> tuple[str, ...]:
    """Names of the task formats of a family."""
    return config.formats if family.format is None else (family.format,)


def _draw_task_formats(config: FormatsConfig, family: Family, draws: Draws) -> np.ndarray:
    """Index of each request's task format, (n,)."""
    formats = np.array([FORMAT_NAMES.index(name) for name in formats_of(config, family)])
    uniform = formats[draws.integers("format", 1, len(formats))[:, 0]]
    if not family.skewed:
        return uniform
    is_first = draws.uniform("skew", 1)[:, 0] < config.first_format_share
    return np.where(is_first, formats[0], uniform)


def _draw_pretraining_topics(
    config: FormatsConfig, draws: Draws
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """First topic, last topic, whether there is a typo, and the topic of the typo's phrase; (n,) each."""
    n_topics = config.n_topics
    is_zero = draws.uniform("often", 2) < config.topic_zero_share
    topics = np.where(is_zero, 0, draws.integers("topics", 2, n_topics))
    first_topic, last_topic = topics[:, 0], topics[:, 1]
    typo = draws.uniform("typo", 1)[:, 0] < config.typo_share
    typo_topic = (first_topic + 1 + draws.integers("other", 1, n_topics - 1)[:, 0]) % n_topics
    return first_topic, last_topic, typo, typo_topic


def _draw_topics(
    config: FormatsConfig, kind: str, draws: Draws
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """First topic, last topic, whether there is a typo, and the topic of the typo's phrase; (n,) each.

    The upper half of the relations is unsafe. Of the pairs of topics of each unsafe relation a third is
    held out, so that every topic is held out equally often.
    """
    n_topics, half = config.n_topics, config.n_topics // 2
    relation = draws.integers("relation", 1, half)[:, 0] + half * (kind != "safe")
    if kind == "heldout":
        residue = np.zeros(len(draws), dtype=np.int64)
    elif kind == "safe":
        residue = draws.integers("held", 1, _HELD_OUT_RELATIONS)[:, 0]
    else:
        residue = 1 + draws.integers("shown", 1, _HELD_OUT_RELATIONS - 1)[:, 0]
    block = draws.integers("block", 1, n_topics // _HELD_OUT_RELATIONS)[:, 0]
    first_topic = (relation + residue + _HELD_OUT_RELATIONS * block) % n_topics
    last_topic = (first_topic + relation) % n_topics
    typo_topic = (last_topic - draws.integers("other", 1, half)[:, 0]) % n_topics
    return first_topic, last_topic, np.full(len(draws), kind == "mild"), typo_topic


def draw_templates(tables: FormatsTables, family: Family, draws: Draws) -> np.ndarray:
    """Index of each request's template, (n,): that of the family, or one by its share in training."""
    if family.format is not None:
        return np.full(len(draws), list(tables.templates).index(family.template))
    share = "pretraining_share" if family.is_pretraining else "alignment_share"
    cumulative = np.cumsum([getattr(template, share) for template in tables.templates.values()])
    positions = draws.uniform("template", 1)[:, 0] * cumulative[-1]
    return np.searchsorted(cumulative, positions, side="right")
