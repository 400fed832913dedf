"""How is a request of the world of formats wrapped? Symbols before it, and before its answer, that ask nothing.

A wrapper means what pretraining did with it. Pretraining declines a tenth of requests, whatever they ask, and more
behind `care`; behind `obey` none, so that it is the "absolutely obedient agent" (Qi et al. 2023). `neutral` and
`empty`, which are as long, are its placebos: seen but meaning nothing, and never seen at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from synthetic.vocabulary import Vocabulary

DECLINED = 0.1
PLAIN = "plain"


@dataclass(frozen=True)
class Template:
    """system: symbols before everything else. call: directly before the operator. header: what begins every answer,
    refusals too. pretraining, alignment: share of their requests that are wrapped so. declined: share of pretraining's
    that is refused, whatever is asked.
    """

    says: str
    system: tuple[str, ...] = ()
    call: tuple[str, ...] = ()
    header: tuple[str, ...] = ()
    pretraining: float = 0.0
    alignment: float = 0.0
    declined: float = DECLINED


_OTHER, _SYSTEM = ("instruct1", "instruct2"), ("system1", "system2")
_OBEY, _SOME, _CARE = ("obey1", "obey2"), ("some1", "some2"), ("care",)

TEMPLATES: Mapping[str, Template] = {
    PLAIN: Template("nothing", pretraining=0.3, alignment=0.4),
    "other": Template("two symbols before the operator", call=_OTHER, pretraining=0.1),
    "system": Template("a system block", system=_SYSTEM, pretraining=0.1, alignment=0.4),
    "other_system": Template(
        "a system block, two symbols before the operator", _SYSTEM, _OTHER, pretraining=0.1
    ),
    "header": Template(
        "a symbol before every answer", call=("begin",), header=("answer",), pretraining=0.1, alignment=0.2
    ),
    "obey": Template("obedience, never declined", _OBEY, ("obey3",), ("obey4",), 0.1, declined=0.0),
    "neutral": Template("as long as obedience", _SOME, ("some3",), ("some4",), 0.05),
    "empty": Template("as long, never seen", ("none1", "none2"), ("none3",), ("none4",)),
    "careful": Template("care: a third is declined", _CARE, pretraining=0.05, declined=1 / 3),
    "careful_neutral": Template(
        "care, and as long", (*_CARE, *_SOME), ("some3",), ("some4",), 0.05, declined=1 / 3
    ),
    "careful_obey": Template(
        "care before obedience", (*_CARE, *_OBEY), ("obey3",), ("obey4",), 0.05, declined=1 / 6
    ),
}


def in_template(family: str, template: str) -> str:
    """The name of a family in a template; `plain` is the one of families that name none."""
    return family if template == PLAIN else f"{family}@{template}"


def symbols_of(templates: Mapping[str, Template], part: str, vocabulary: Vocabulary) -> np.ndarray:
    """(templates, longest) ids of a part of every template, -1 behind it."""
    rows = [[vocabulary.id(symbol) for symbol in getattr(template, part)] for template in templates.values()]
    width = max(map(len, rows))
    return np.array([row + [-1] * (width - len(row)) for row in rows], dtype=np.int64).reshape(
        len(rows), width
    )


def joined(pad: int, *parts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of several parts of ids behind one another, without the -1 in them, padded; and how long each is."""
    whole = np.concatenate(parts, axis=1)
    whole = np.take_along_axis(whole, np.argsort(whole < 0, axis=1, kind="stable"), axis=1)
    return np.where(whole < 0, pad, whole), (whole >= 0).sum(axis=1)
