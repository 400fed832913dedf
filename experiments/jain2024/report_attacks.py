"""Figures and tables of the study's report that are about attacks."""

from __future__ import annotations

from typing import Any

from experiments.jain2024.attack_families import JAILBREAKS, N_SLOTS, SECOND_COMPOSITIONS, SOFT_PROMPT_SIZES
from experiments.recipes.composition import METHODS
from makebreak.claims import Tables, rows_of
from makebreak.plots import arm_name, plot_attack_success, plot_interchange, plot_projection, plot_steering
from makebreak.studies import Figure

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
TABLES = {
    "projection": (
        "Class-mean projection of attacked requests",
        ["world", "arm", "attack", "layer", "outcome"],
    ),
    "prediction": ("Prediction of success", ["world", "arm", "predictor"]),
    "steering": ("Steering of successful attacks", ["world", "arm", "layer", "kind", "scale"]),
    "interchange": (
        "Successful jailbreaks with the projection of others",
        ["world", "arm", "layer", "positions", "donor"],
    ),
    "monitors": ("Detections by monitors", ["world", "arm", "monitor", "layer", "attack"]),
    "prefill": ("Compliance by number of forced answer tokens", ["world", "arm", "n_prefill"]),
}
"""Title and grouping columns by table."""


def _methods(tables: Tables) -> list[str]:
    attacked = set(tables["attacks"]["arm"])
    return [arm for arm in METHODS if arm in attacked]


def draw_attacks(tables: Tables, preset: Any) -> Any:
    """Success rates of all attacks."""
    shown = {attack: name for attack, name in _NAMES.items() if attack != "safe"}
    return plot_attack_success(tables["attacks"], _methods(tables), shown)


def draw_projection(tables: Tables, preset: Any) -> Any:
    """Projection of attacked requests by outcome."""
    return plot_projection(tables["projection"], ["base", *_methods(tables)], _PROJECTION_GROUPS)


def draw_steering(tables: Tables, preset: Any) -> Any:
    """Effects of shifted states at the middle of the network, and detections by a probe."""
    own_world, arms = tables["attacks"]["world"].iloc[0], _methods(tables)
    monitors = rows_of(tables, "monitors", world=own_world, arm=arms, monitor="probe")
    layers = sorted(monitors["layer"].unique())
    middle = len(layers) // 2
    steering = rows_of(tables, "steering", world=own_world, arm=arms, layer=middle)
    monitored = {attack: _NAMES.get(attack, attack) for attack in _MONITORED}
    return plot_steering(steering, monitors[monitors["layer"] == layers[middle]], monitored)


def draw_interchange(tables: Tables, preset: Any) -> Any:
    """Successes with the projection of others, at the layer of each model where it predicts success best."""
    own_world = tables["attacks"]["world"].iloc[0]
    rows = rows_of(tables, "interchange", world=own_world, positions="end of text")
    rows = rows.assign(fit_auroc=rows["fit_auroc"].astype(float))
    best = rows.loc[rows.dropna(subset="fit_auroc").groupby(["arm", "seed"])["fit_auroc"].idxmax()]
    layers = best.set_index(["arm", "seed"])["layer"]
    other = layers.mode()[0] if len(layers) else rows["layer"].min()  # of the base, which refuses nothing
    layer = [layers.get((arm, seed), other) for arm, seed in zip(rows.arm, rows.seed, strict=True)]
    shown = rows[(rows["layer"] == layer) & rows["arm"].isin(["base", *_methods(tables)])]
    return plot_interchange(shown.assign(arm=shown["arm"].map(arm_name)))


ATTACK_FIGURES = (
    Figure(
        "attacks",
        "Success of attacks",
        "Share of requests that are answered exactly as instructed (filled) or at least not refused "
        "(open). Families are given as they are; soft prompts and token attacks are made on requests that "
        "the model refuses, with random vectors and with random choices of as many candidates as controls. "
        "In these worlds' vocabulary (33 symbols) the GCG of runs before 2026-11-26 proposed 32 of 33 "
        "tokens at every position and was a random search (docs/errata.md, W3). Token attacks replace "
        "tokens that the judged answer does not depend on: the layout of these worlds is fixed, and an "
        "inserted token breaks every answer. Bars: means over seeds.",
        draw_attacks,
        requires=(
            "attacks",
            "steering",
        ),
        claims=(
            "C6.order",
            "C6.method",
            "C7.success",
            "A5",
            "A6",
        ),
    ),
    Figure(
        "projection",
        "Class-mean projection of attacked requests (Jain et al. 2024, Fig. 7)",
        "τ at the end of text, never at an attack's own tokens, in units of the distance of the means of "
        "clean safe and unsafe requests: above zero is the safe side. Thin: seeds. The layer and position "
        "are those of the decision, and groups are selected by the decision: that successful jailbreaks "
        "lie nearer the safe side than refused ones is therefore close to a definition; the comparison "
        "with the base (C6.base) is not.",
        draw_projection,
        requires=(
            "projection",
            "steering",
        ),
        claims=(
            "C6",
            "C6.failed",
            "C6.base",
            "C7",
        ),
    ),
    Figure(
        "steering",
        "States shifted between the class means, and a probe's detections",
        "Left: states of successful attacks, shifted towards the unsafe mean at the input of block n // 2 "
        "(after block 1 of 3 in `mini`). Middle: states of plain unsafe requests, shifted the other way; "
        "the cost is answers to clean safe requests that are lost under the same shift. Control vectors "
        "are scaled to disturb safe requests equally. Right: detections by a probe after "
        "block n // 2 + 1 (after block 2 of 3), fitted on clean requests, at a false positive rate of 1 %.",
        draw_steering,
        requires=(
            "steering",
            "monitors",
        ),
        claims=(
            "A2.cost",
            "A3",
            "A4",
        ),
    ),
    Figure(
        "interchange",
        "Successful jailbreaks with the projection of other requests",
        "Of every successful jailbreak, the component of the state along the difference of class means is "
        "replaced by that of the nearest clean unsafe request (donor unsafe) or safe request (safe), or the "
        "state is moved as far in random directions (random), at the end of text, before the layer where the "
        "projection predicts success best on other requests. If the projection is why they succeed, they "
        "fail with unsafe donors only, and are refused; what fails in the base, which refuses nothing, is "
        "breakage. Bars: means of seeds (dots).",
        draw_interchange,
        requires=("interchange",),
        claims=("A2", "A2.refused", "A2.prompt", "A2.random", "A2.safe"),
    ),
)
"""Figures about attacks."""
