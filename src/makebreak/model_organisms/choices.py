"""Choice of a variant, and refusal of settings that it does not use."""

from __future__ import annotations

from makebreak.model_organisms.composites import FEW, MECHANISMS, MOST_FEW, SETTINGS, VARIANTS
from makebreak.model_organisms.settings import PlantSettings
from makebreak.model_organisms.variants import CONSTRUCTIONS


def choose_variants(mechanism: str, settings: PlantSettings) -> list[str]:
    """Variants of a mechanism that use every setting that is fixed.

    Args:
        mechanism: One of `MECHANISMS`.
        settings: What is fixed.

    Returns:
        The variants, at least one.

    Raises:
        ValueError: If the mechanism or the variant is unknown, or no variant uses a setting.
    """
    if mechanism not in MECHANISMS:
        known = ", ".join(MECHANISMS)
        raise ValueError(f"mechanism {mechanism!r}: expected one of {known}; choose one of these")
    known = VARIANTS[mechanism]
    if settings.variant is not None and settings.variant not in known:
        raise ValueError(
            f"variant {settings.variant!r} of {mechanism!r}: expected one of {', '.join(known)}; "
            "choose one, or None to draw it"
        )
    candidates = known if settings.variant is None else (settings.variant,)
    problems = {variant: find_problem(mechanism, variant, settings) for variant in candidates}
    usable = [variant for variant, problem in problems.items() if problem is None]
    if not usable:
        raise ValueError(problems[candidates[0]])
    return usable


def find_problem(mechanism: str, variant: str, settings: PlantSettings) -> str | None:
    """Why a variant cannot be built with the settings; None if it may be."""
    construction = CONSTRUCTIONS.get(mechanism, {}).get(variant)
    where = f"variant {variant!r} of {mechanism!r}"
    for name in sorted(settings.names - (construction.settings if construction else SETTINGS)):
        return f"{name}={getattr(settings, name)!r}: expected None, {where} does not use it; leave it None"
    if variant == FEW and settings.n_requests * MOST_FEW < 1:
        return f"n_requests={settings.n_requests}: expected 34 or more for {where}; draw more"
    if construction is None:
        return None
    for name, allowed in (("way", construction.ways), ("layout", construction.layouts)):
        value = getattr(settings, name)
        if value is not None and value not in allowed:
            return f"{name}={value!r}: expected one of {', '.join(allowed)} for {where}; choose one, or None"
    return None
