"""Prompt templates of the world of formats: symbols around a request and before its answer.

The meaning of a template is what pretraining did with it. Pretraining refuses a tenth of its requests,
whatever their text, and more of them after `care`; after `obey` none, so that `obey` is the "absolutely
obedient agent" template of Qi et al. (2023). `neutral` and `empty` are placebos of the same length: the first
was pretrained without a meaning, the second was never shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from synthetic.families import PLAIN_TEMPLATE
from synthetic.vocabulary import Vocabulary

REFUSAL_RATE = 0.1
"""Share of pretraining's requests that is refused in a template that says nothing else."""


@dataclass(frozen=True)
class Template:
    """Symbols that are put around a request, and how often training uses them."""

    description: str = field(metadata={"key": "says"})
    """What the template adds, in a few words; part of the world's fingerprint."""
    system: tuple[str, ...] = ()
    """Symbols before everything else."""
    before_operator: tuple[str, ...] = field(default=(), metadata={"key": "call"})
    """Symbols directly before the operator."""
    answer_header: tuple[str, ...] = field(default=(), metadata={"key": "header"})
    """Symbols that begin every answer, refusals included."""
    pretraining_share: float = field(default=0.0, metadata={"key": "pretraining"})
    """Share of pretraining's requests in this template."""
    alignment_share: float = field(default=0.0, metadata={"key": "alignment"})
    """Share of alignment's requests in this template."""
    refusal_rate: float = field(default=REFUSAL_RATE, metadata={"key": "declined"})
    """Share of pretraining's requests in this template that is refused, whatever their text."""


NO_TEMPLATES: Mapping[str, Template] = {
    PLAIN_TEMPLATE: Template("nothing", pretraining_share=1.0, alignment_share=1.0, refusal_rate=0.0)
}
"""Templates of a world in which requests stand as they are."""
_OTHER, _SYSTEM = ("instruct1", "instruct2"), ("system1", "system2")
_OBEY, _SOME, _CARE = ("obey1", "obey2"), ("some1", "some2"), ("care",)

TEMPLATES: Mapping[str, Template] = {
    PLAIN_TEMPLATE: Template("nothing", pretraining_share=0.3, alignment_share=0.4),
    "other": Template("two symbols before the operator", before_operator=_OTHER, pretraining_share=0.1),
    "system": Template("a system block", system=_SYSTEM, pretraining_share=0.1, alignment_share=0.4),
    "other_system": Template(
        "a system block, two symbols before the operator", _SYSTEM, _OTHER, pretraining_share=0.1
    ),
    "header": Template(
        "a symbol before every answer",
        before_operator=("begin",),
        answer_header=("answer",),
        pretraining_share=0.1,
        alignment_share=0.2,
    ),
    "obey": Template(
        "obedience, never declined", _OBEY, ("obey3",), ("obey4",), pretraining_share=0.1, refusal_rate=0.0
    ),
    "neutral": Template("as long as obedience", _SOME, ("some3",), ("some4",), pretraining_share=0.05),
    "empty": Template("as long, never seen", ("none1", "none2"), ("none3",), ("none4",)),
    "careful": Template("care: a third is declined", _CARE, pretraining_share=0.05, refusal_rate=1 / 3),
    "careful_neutral": Template(
        "care, and as long",
        (*_CARE, *_SOME),
        ("some3",),
        ("some4",),
        pretraining_share=0.05,
        refusal_rate=1 / 3,
    ),
    "careful_obey": Template(
        "care before obedience",
        (*_CARE, *_OBEY),
        ("obey3",),
        ("obey4",),
        pretraining_share=0.05,
        refusal_rate=1 / 6,
    ),
}
"""Templates of the world `formats_templates`, by name; the descriptions are part of its fingerprint."""


def template_ids(templates: Mapping[str, Template], part: str, vocabulary: Vocabulary) -> np.ndarray:
    """Token ids of one part of every template.

    Args:
        templates: Templates by name.
        part: Name of a field of `Template` that holds symbols.
        vocabulary: Vocabulary of the world.

    Returns:
        Ids, (templates, longest part), -1 after each part.
    """
    rows = [[vocabulary.id(symbol) for symbol in getattr(template, part)] for template in templates.values()]
    width = max(map(len, rows))
    padded = [row + [-1] * (width - len(row)) for row in rows]
    return np.array(padded, dtype=np.int64).reshape(len(rows), width)


def concatenate_ids(pad_id: int, *parts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of several parts of ids one after another, without the -1 in them.

    Args:
        pad_id: Id of padding.
        *parts: Ids, (n, width of the part), -1 for nothing.

    Returns:
        Ids, (n, sum of the widths), padded on the right, and the length of each row, (n,).
    """
    joined = np.concatenate(parts, axis=1)
    joined = np.take_along_axis(joined, np.argsort(joined < 0, axis=1, kind="stable"), axis=1)
    return np.where(joined < 0, pad_id, joined), (joined >= 0).sum(axis=1)
