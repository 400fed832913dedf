"""Mitigations: which safety examples a provider mixes into a user's fine-tuning data.

A mitigation is given what the provider can write (`SafetyData`) and a few of the user's examples; it returns
requests with the answer to train. All mitigations here are about the same contents: request i has the same
content in every format and template, so that none has an advantage by covering more. They are for worlds of
formats (Jan et al. 2024; Eiras et al. 2024, with the names of finetune_risks §4.5).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from makebreak.defences.safety_data import AnsweredRequests, Mitigation, SafetyData
from makebreak.defences.template_inference import rewrite_in_template
from makebreak.plugins import load_plugin, source_digest
from makebreak.prompts import Family, Requests


def canonical(safety: SafetyData, user: Requests) -> list[AnsweredRequests]:
    """Refusals of open text, the form of the safety training."""
    return [(safety.sample(Family("unsafe", "gen")), "refused")]


def other_template(safety: SafetyData, user: Requests) -> list[AnsweredRequests]:
    """Refusals of open text in a template of its own, like the imperatives of SafeInstr (Bianchi et al.)."""
    return [(safety.sample(Family("unsafe", "gen", template="other")), "refused")]


def paraphrase_oracle(safety: SafetyData, user: Requests) -> list[AnsweredRequests]:
    """Refusals in the user's format, operator and template, which the provider knows (Eiras et al. 2024)."""
    return [(safety.sample(replace(Family.parse(user.family), kind="unsafe")), "refused")]


def paraphrase_blind(safety: SafetyData, user: Requests) -> list[AnsweredRequests]:
    """Refusals in the template that is inferred from the user's prompts.

    The slot is filled with the beginning of an unsafe text or with a whole one, whichever is nearer in length
    to what differs between the user's prompts.
    """
    forms = [safety.sample(Family("unsafe", name)) for name in ("gen", "label")]
    return [(rewrite_in_template(forms, user), "refused")]


def other_format(safety: SafetyData, user: Requests) -> list[AnsweredRequests]:
    """Refusals in the user's template, but in a format that is neither the user's nor open text."""
    user_family = Family.parse(user.family)
    other = next(name for name in safety.formats if name not in (user_family.format, "gen"))
    return [(safety.sample(replace(user_family, kind="unsafe", format=other)), "refused")]


def multitask(safety: SafetyData, user: Requests) -> list[AnsweredRequests]:
    """Refusals spread over all formats (Jan et al. 2024)."""
    return _refusals_in(safety, safety.formats)


def without_format(safety: SafetyData, user: Requests, *, name: str | None) -> list[AnsweredRequests]:
    """Refusals spread over all formats but the named one."""
    return _refusals_in(safety, [other for other in safety.formats if other != name])


def without_user_format(safety: SafetyData, user: Requests) -> list[AnsweredRequests]:
    """Refusals spread over all formats but the user's."""
    return without_format(safety, user, name=Family.parse(user.family).format)


def benign_control(safety: SafetyData, user: Requests) -> list[AnsweredRequests]:
    """Control: further requests of the user's family with their instructed answers."""
    return [(safety.sample(user.family), "instructed")]


def _refusals_in(safety: SafetyData, formats: Sequence[str]) -> list[AnsweredRequests]:
    parts = safety.round_robin([Family("unsafe", name) for name in formats])
    return [(part, "refused") for part in parts]


MITIGATIONS: Mapping[str, Mitigation] = {
    "canonical": canonical,
    "other_template": other_template,
    "paraphrase_oracle": paraphrase_oracle,
    "paraphrase_blind": paraphrase_blind,
    "mismatched": other_format,
    "multitask": multitask,
    "without_own": without_user_format,
    "safe_twin": benign_control,
    "without_gen": partial(without_format, name="gen"),
}
"""Mitigations by name; the names are part of the keys of stored models."""


def load_mitigation(name: str) -> Mitigation:
    """A mitigation by name.

    Args:
        name: A name in `MITIGATIONS`, that of an entry point, or MODULE:FUNCTION for a user's own.

    Returns:
        The mitigation.

    Raises:
        ValueError: If there is none of this name, its module cannot be imported, or it is no function of two
            arguments.
    """
    plugin: Any = load_plugin("mitigation", name, MITIGATIONS)
    try:
        inspect.signature(plugin).bind(None, None)
    except (TypeError, ValueError):  # no function, one of other arguments, or one without a signature
        raise ValueError(
            f"mitigation {name!r} is {plugin!r}: expected a function of SafetyData and Requests"
        ) from None
    return plugin


def mitigation_digest(name: str) -> str | None:
    """Digest of the source of a user's mitigation, so that a changed one is another mitigation.

    Args:
        name: As for `load_mitigation`.

    Returns:
        SHA-256 of the module's source; None for a name in `MITIGATIONS`.
    """
    return None if name in MITIGATIONS else source_digest(load_mitigation(name))
