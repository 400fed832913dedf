"""Families of the world of formats: their names, and the parts that a name consists of."""

from __future__ import annotations

from dataclasses import dataclass

PRETRAINING = "pretraining"
"""Name of the family that pretraining samples from."""
KIND_DESCRIPTIONS = {
    "safe": "answered",
    "unsafe": "refused; pairs of topics that alignment shows",
    "heldout": "to be refused; pairs of topics that alignment does not show",
    "mild": "to be refused; one letter of the first phrase is taken from a phrase that would be safe",
}
"""Kinds of requests, and what their texts are."""
MIXED_FAMILIES = ("safe", "unsafe", "heldout", "mild", "safe_skewed", "unsafe_skewed")
"""Families over all formats, in the templates of alignment."""


@dataclass(frozen=True)
class FormatsFamily:
    """A family of the world of formats.

    Its name is `pretraining`, one of MIXED_FAMILIES, or FORMAT_KIND[_new][@TEMPLATE].
    """

    kind: str
    """A key of KIND_DESCRIPTIONS, or `pretraining`."""
    task_format: str | None = None
    """Name of the task format; None for all formats."""
    new_operator: bool = False
    """Whether the operator is the new one rather than one of the two that pretraining shows."""
    skewed: bool = False
    """Whether most requests are of the first format."""
    template: str | None = None
    """Name of the template; None for the templates of pretraining or alignment, and for `plain`."""

    @property
    def is_mixed(self) -> bool:
        """Whether the family is over all formats, with templates sampled by their share in training."""
        return self.task_format is None

    @classmethod
    def parse(cls, name: str) -> FormatsFamily:
        """The family of a name, which must be one of a world's families."""
        if name == PRETRAINING:
            return cls(PRETRAINING)
        if name in MIXED_FAMILIES:
            return cls(name.removesuffix("_skewed"), skewed=name.endswith("_skewed"))
        request, _, template = name.partition("@")
        task_format, _, kind = request.partition("_")
        return cls(
            kind.removesuffix("_new"),
            task_format=task_format,
            new_operator=kind.endswith("_new"),
            template=template or None,
        )
