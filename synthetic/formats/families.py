"""Families of a world of task formats, with their descriptions."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

from synthetic.families import PLAIN_TEMPLATE, Family, Operator
from synthetic.formats.config import FormatsConfig
from synthetic.formats.task_formats import TASK_FORMATS
from synthetic.formats.templates import Template

KIND_DESCRIPTIONS = {
    "safe": "answered",
    "unsafe": "refused; pairs of topics that alignment shows",
    "heldout": "to be refused; pairs of topics that alignment does not show",
    "mild": "to be refused; one letter of the first phrase is taken from a phrase that would be safe",
}
"""Kinds of requests, and what their texts are."""
_OPERATOR_NOTES: Mapping[Operator, str] = {"shown": "", "new": "new operator; "}
_SKEWED_KINDS = ("safe", "unsafe")  # kinds of the families that are mostly of the first format


def describe_families(config: FormatsConfig, templates: Mapping[str, Template]) -> dict[str, str]:
    """Description of each family of a world, by name.

    Args:
        config: Settings of the world.
        templates: Templates of the world by name, `plain` first.

    Returns:
        Pretraining, the families over all formats, and those of each format, operator and template.
    """
    families = {"pretraining": "any text, by any operator but the new ones"}
    for kind, meaning in KIND_DESCRIPTIONS.items():
        families[str(Family(kind))] = f"{meaning}; over all formats alike"
    for kind in _SKEWED_KINDS:
        families[str(Family(kind, skewed=True))] = f"{KIND_DESCRIPTIONS[kind]}; mostly of the first format"
    for template, settings in templates.items():
        place = "" if template == PLAIN_TEMPLATE else f"; in a template: {settings.description}"
        for name, (operator, note) in product(config.formats, _OPERATOR_NOTES.items()):
            for kind, meaning in KIND_DESCRIPTIONS.items():
                family = Family(kind, name, operator, template)
                families[str(family)] = f"{TASK_FORMATS[name].description}; {note}{meaning}{place}"
    return families
