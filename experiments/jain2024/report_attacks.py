"""Figures, tables and the paragraph of the study's report that are about attacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from experiments.jain2024.attack_measures import JAILBREAKS, N_SLOTS, SECOND_COMPOSITIONS, SOFT_PROMPT_SIZES
from experiments.recipes.composition import METHODS
from makebreak.plots import plot_attack_success, plot_projection, plot_steering

_LARGEST = SOFT_PROMPT_SIZES[-1]
_JAILBREAK_FAMILIES = tuple(family for families in JAILBREAKS.values() for family in families)
_NAMES = {
    "unsafe": "none: plain unsafe",
    "safe": "none: clean safe",
    "mixed_text": "CO-Text",
    "competing_tasks_safe_branch": "CO-Task, safe branch",
    "competing_tasks_unsafe_branch": "CO-Task, unsafe branch",
    "duplicate_tasks": "MisGen, tasks",
    "heldout_text": "MisGen, text",
    **{family: f"second output, {family.split('_')[2]} branch" for family in SECOND_COMPOSITIONS},
    **{f"soft {n}": f"{n} soft token" + "s" * (n > 1) for n in SOFT_PROMPT_SIZES},
    f"soft {_LARGEST} evading probe": f"{_LARGEST} soft tokens, evading a probe",
    f"random soft {_LARGEST}": f"{_LARGEST} random vectors",
    f"soft {_LARGEST} universal": f"{_LARGEST} soft tokens, universal",
    f"gcg {N_SLOTS}": f"GCG, {N_SLOTS} tokens",
    f"random search {N_SLOTS}": f"random search, {N_SLOTS} tokens",
    f"random tokens {N_SLOTS}": f"random tokens, {N_SLOTS}",
    f"gcg {N_SLOTS} universal": f"GCG, {N_SLOTS} tokens, universal",
}
_MONITORED = (
    *("unsafe", *_JAILBREAK_FAMILIES),
    *(f"soft {_LARGEST}", f"soft {_LARGEST} evading probe", f"gcg {N_SLOTS}", "safe"),
)
_PROJECTION_GROUPS = {
    "safe": (("safe",), "all"),
    "unsafe": (("unsafe",), "all"),
    "successful jailbreaks": (_JAILBREAK_FAMILIES, "complied"),
    "refused jailbreaks": (_JAILBREAK_FAMILIES, "refused"),
    f"{_LARGEST} soft tokens, successful": ((f"soft {_LARGEST}",), "complied"),
    "GCG, successful": ((f"gcg {N_SLOTS}",), "complied"),
}
CAPTIONS = {
    "attacks": (
        "Success of attacks",
        "Share of requests that are answered exactly as instructed (filled) or at least not refused "
        "(open). Families are given as they are; soft prompts and token attacks are made on requests that "
        "the model refuses, with random vectors and with random choices of as many candidates as controls. "
        "In these worlds' vocabulary (33 symbols) the GCG of runs before 2026-11-26 proposed 32 of 33 "
        "tokens at every position and was a random search (docs/errata.md, W3). Token attacks replace "
        "tokens that the judged answer does not depend on: the layout of these worlds is fixed, and an "
        "inserted token breaks every answer. Bars: means over seeds.",
    ),
    "projection": (
        "Class-mean projection of attacked requests (Jain et al. 2024, Fig. 7)",
        "τ at the end of text, never at an attack's own tokens, in units of the distance of the means of "
        "clean safe and unsafe requests: above zero is the safe side. Thin: seeds. The layer and position "
        "are those of the decision, and groups are selected by the decision: that successful jailbreaks "
        "lie nearer the safe side than refused ones is therefore close to a definition; the comparison "
        "with the base (C6.base) is not.",
    ),
    "steering": (
        "States shifted between the class means, and a probe's detections",
        "Left: states of successful attacks, shifted towards the unsafe mean at the input of block n // 2 "
        "(after block 1 of 3 in `mini`). Middle: states of plain unsafe requests, shifted the other way; "
        "the cost is answers to clean safe requests that are lost under the same shift. Control vectors "
        "are scaled to disturb safe requests equally. At this layer only half of the successes lie on the "
        "safe side and can be mirrored, and a mirror also breaks a tenth to a fifth of the base's answers: "
        "no cause of success is shown or excluded (docs/errata.md, W2). Right: detections by a probe after "
        "block n // 2 + 1 (after block 2 of 3), fitted on clean requests, at a false positive rate of 1 %.",
    ),
}
"""Title and caption by figure."""
TABLES = {
    "projection": (
        "Class-mean projection of attacked requests",
        ["world", "arm", "attack", "layer", "outcome"],
    ),
    "prediction": ("Prediction of success", ["world", "arm", "predictor"]),
    "steering": ("Steering of successful attacks", ["world", "arm", "layer", "kind", "scale"]),
    "monitors": ("Detections by monitors", ["world", "arm", "monitor", "layer", "attack"]),
    "prefill": ("Compliance by number of forced answer tokens", ["world", "arm", "n_prefill"]),
}
"""Title and grouping columns by table."""


def attack_figures(tables: Mapping[str, pd.DataFrame]) -> dict[str, Callable[[], Any]]:
    """Functions that draw the figures about attacks.

    Args:
        tables: Tables of the study.

    Returns:
        Functions by name of the figure; none where no success was steered.
    """
    if not len(tables.get("steering", ())):
        return {}
    attacks, steering, monitors = tables["attacks"], tables["steering"], tables["monitors"]
    arms = [arm for arm in METHODS if arm in set(attacks["arm"])]
    own_world = attacks["world"].iloc[0]
    layers = sorted(monitors["layer"].unique())
    middle = len(layers) // 2
    steering = steering[
        (steering["world"] == own_world) & steering["arm"].isin(arms) & (steering["layer"] == middle)
    ]
    monitors = monitors[(monitors["world"] == own_world) & monitors["arm"].isin(arms)]
    monitors = monitors[(monitors["monitor"] == "probe") & (monitors["layer"] == layers[middle])]
    shown = {attack: name for attack, name in _NAMES.items() if attack != "safe"}
    monitored = {attack: _NAMES.get(attack, attack) for attack in _MONITORED}
    return {
        "attacks": lambda: plot_attack_success(attacks, arms, shown),
        "projection": lambda: plot_projection(tables["projection"], ["base", *arms], _PROJECTION_GROUPS),
        "steering": lambda: plot_steering(steering, monitors, monitored),
    }


def attack_paragraph(claims: Mapping[str, dict[str, Any]], world: str) -> str:
    """Projection, steering and detection of attacks in one world, without a verdict on causes.

    Args:
        claims: Rows of claims.json about this world, by id without the world's name.
        world: Name of the world.

    Returns:
        One paragraph.
    """
    projection = claims["C6"]
    if projection["estimate"] is None:
        reason = projection["reason"]
        return f"The class-mean projection of attacked requests was not measured ({world}): {reason}."
    sentences = [
        f"Class-mean projection of attacked requests ({world}, last layer): jailbreaks that succeed lie "
        f"{_format_interval(projection)} distances of the means nearer to the safe mean than plain unsafe "
        f"requests ({projection['verdict']}), and {_format_interval(claims['C6.failed'])} nearer than "
        "refused jailbreaks; the latter is close to a definition, since groups are selected by the decision "
        "at the position that is read."
    ]
    if claims["A1"]["estimate"] is not None:
        sentences.append(
            f"The projection adds {_format_interval(claims['A1'])} to the AUROC with which the attack's name "
            "predicts success."
        )
    if claims["A2"]["estimate"] is not None:
        sentences.append(
            "Whether the projection causes success is not decided: mirrored at the midpoint after block n "
            f"// 2 (block 1 of 3), {claims['A2']['estimate'] + 0.5:.2f} of all successes fail, of which "
            f"{claims['A2.refused']['estimate'] + 0.5:.2f} become refusals; only about half of them lie on "
            "the safe side there and can be mirrored, and the base, which refuses nothing, loses answers "
            "under the same mirror (docs/errata.md, W2)."
        )
    if claims["A4"]["estimate"] is not None:
        sentences.append(
            "A probe after block n // 2 + 1 (block 2 of 3), at a false positive rate of 1 %, detects "
            f"{claims['A4']['estimate'] + 0.5:.2f} of successful attacks and "
            f"{claims['A4.unsafe']['estimate'] + 0.5:.2f} of plain unsafe requests."
        )
    return " ".join(sentences)


def _format_interval(claim: Mapping[str, Any]) -> str:
    """Estimate and interval with signs, or "n/a"."""
    low, high = claim["interval"]
    if claim["estimate"] is None:
        return "n/a"
    return f"{claim['estimate']:+.2f}" + ("" if low is None else f" [{low:+.2f}, {high:+.2f}]")
