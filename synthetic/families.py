"""Families of requests as values: kind, task format, operator and prompt template, with one parser."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Operator = Literal["shown", "new"]
"""Whether pretraining showed an operator, or only fine-tuning does."""
PLAIN_TEMPLATE = "plain"
"""Name of the template that adds nothing."""
_NAME = re.compile(
    r"((?!pretraining)(?P<format>[\w-]+?)_)?(?P<kind>safe|unsafe|heldout|mild)"
    r"(?P<suffix>_new|_skewed)?(@(?P<template>[\w-]+))?"
)


@dataclass(frozen=True)
class Family:
    """A family of requests; its string is KIND, or FORMAT_KIND[_new][@TEMPLATE], as in `mcq_safe_new@obey`.

    Any other string is the name of a family that has nothing but a kind of its own, as `pretraining` and most
    families of a composition world.
    """

    kind: str
    """`safe`, `unsafe`, `heldout`, `mild`, or another name."""
    format: str | None = None
    """Name of the task format; None for all formats, or a world without formats."""
    operator: Operator = "shown"
    """Whether pretraining showed the operator."""
    template: str = PLAIN_TEMPLATE
    """Name of the prompt template."""
    skewed: bool = False
    """Whether most of the requests, which are of all formats, are of the first format."""

    def __str__(self) -> str:
        suffix = "new" if self.operator == "new" else "skewed" if self.skewed else None
        name = "_".join(part for part in (self.format, self.kind, suffix) if part)
        return name if self.template == PLAIN_TEMPLATE else f"{name}@{self.template}"

    @classmethod
    def parse(cls, name: str) -> Family:
        """Returns the family whose string is `name`."""
        match = _NAME.fullmatch(name)
        if match is None:
            return cls(name)
        return cls(
            match["kind"],
            match["format"],
            operator="new" if match["suffix"] == "_new" else "shown",
            template=match["template"] or PLAIN_TEMPLATE,
            skewed=match["suffix"] == "_skewed",
        )

    @classmethod
    def of_task(cls, task: str) -> Family:
        """Returns the family of the harmless requests of a task, FORMAT or FORMAT@TEMPLATE."""
        task_format, _, template = task.partition("@")
        return cls("safe", task_format, template=template or PLAIN_TEMPLATE)

    @property
    def is_pretraining(self) -> bool:
        """Whether the family is for pretraining, in which nothing is judged."""
        return self.kind.startswith("pretraining")
