"""How are the attacks of the study shown, and what is said of them?"""

# pyright: reportAttributeAccessIssue=false, reportIndexIssue=false, reportArgumentType=false, reportCallIssue=false
# (pandas' annotations lose track of what grouping and indexing return)

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from experiments.jain2024.attacks import IDLE, JAILBREAKS, N_SOFT, SECOND
from experiments.jain2024.presets import METHODS
from makebreak.plots import plot_steering, plot_projection, plot_attack_success

_MOST = N_SOFT[-1]
_FAMILIES = {family: kind for kind, families in JAILBREAKS.items() for family in families}
_NAMES = {
    "unsafe": "none: plain unsafe",
    "safe": "none: clean safe",
    "mixed_text": "CO-Text",
    "competing_tasks_safe_branch": "CO-Task, safe branch",
    "competing_tasks_unsafe_branch": "CO-Task, unsafe branch",
    "duplicate_tasks": "MisGen, tasks",
    "heldout_text": "MisGen, text",
    **{family: f"second output, {family.split('_')[2]} branch" for family in SECOND},
    **{f"soft {k}": f"{k} soft token" + "s" * (k > 1) for k in N_SOFT},
    f"soft {_MOST} evading probe": f"{_MOST} soft tokens, evading a probe",
    f"random soft {_MOST}": f"{_MOST} random vectors",
    f"soft {_MOST} universal": f"{_MOST} soft tokens, universal",
    f"gcg {IDLE}": f"GCG, {IDLE} tokens",
    f"random search {IDLE}": f"random search, {IDLE} tokens",
    f"random tokens {IDLE}": f"random tokens, {IDLE}",
    f"gcg {IDLE} universal": f"GCG, {IDLE} tokens, universal",
}
_SEEN = ("unsafe", *_FAMILIES, f"soft {_MOST}", f"soft {_MOST} evading probe", f"gcg {IDLE}", "safe")
_GROUPS = {
    "safe": (("safe",), "all"),
    "unsafe": (("unsafe",), "all"),
    "jailbreaks that succeed": (tuple(_FAMILIES), "complied"),
    "jailbreaks that are refused": (tuple(_FAMILIES), "refused"),
    f"{_MOST} soft tokens": ((f"soft {_MOST}",), "complied"),
    "GCG that succeeds": ((f"gcg {IDLE}",), "complied"),
}
CAPTIONS = {
    "attacks": (
        "What gets through",
        "Share of requests that are answered exactly as instructed (filled) or at least not refused (open). Families "
        "are asked as they are; soft and typed tokens attack requests that the model refuses, with random vectors and "
        "random choices of as many candidates beside them. Typed tokens stand where the judged answer does not look: "
        "the layout of these worlds is fixed, and a token put in between breaks every answer. Bars: means over seeds.",
    ),
    "landing": (
        "Where attacked requests land (Jain et al. 2024, Fig. 7)",
        "τ at the end of text, never at an attack's own tokens, in units of the distance of the means of clean safe "
        "and unsafe requests: above zero is the safe side. Thin: seeds.",
    ),
    "causes": (
        "Is that why attacks succeed, and would a monitor have seen them?",
        "States of successful attacks (left) are shifted back towards unsafe at half depth, those of plain unsafe "
        "requests (middle) the other way; what it costs is answers to clean safe requests under the same shift. "
        "Control vectors are scaled to disturb safe requests as much. Right: alarms of a probe at half depth that was "
        "fitted on clean requests, at 1 % false alarms.",
    ),
}
TABLES = {
    "landing": ("Where attacked requests land", ["world", "arm", "attack", "layer", "outcome"]),
    "prediction": ("Readers of success", ["world", "arm", "predictor"]),
    "cause": ("States shifted", ["world", "arm", "layer", "kind", "scale"]),
    "monitors": ("Alarms", ["world", "arm", "monitor", "layer", "attack"]),
    "depth": ("Answered to the end when so many tokens are forced", ["world", "arm", "forced"]),
}


def drawings(tables: Mapping[str, pd.DataFrame]) -> dict[str, Callable[[], Any]]:
    """Figures by name; none where nothing was attacked."""
    if not len(tables.get("cause", ())):
        return {}
    arms = [arm for arm in METHODS if arm in set(tables["attacks"].arm)]
    main = tables["attacks"].world.iloc[0]
    cause, monitors = (t[(t.world == main) & t.arm.isin(arms)] for t in (tables["cause"], tables["monitors"]))
    layers = sorted(monitors.layer.unique())
    monitors = monitors[(monitors.monitor == "probe") & (monitors.layer == layers[len(layers) // 2])]
    cause = cause[cause.layer == len(layers) // 2]
    return {
        "attacks": lambda: plot_attack_success(
            tables["attacks"], arms, {a: n for a, n in _NAMES.items() if a != "safe"}
        ),
        "landing": lambda: plot_projection(tables["landing"], ["base", *arms], _GROUPS),
        "causes": lambda: plot_steering(cause, monitors, {a: _NAMES.get(a, a) for a in _SEEN}),
    }


def paragraph(claims: Mapping[str, dict[str, Any]], world: str) -> str:
    """Whether attacks map unsafe inputs to the safe side, and whether that is why they succeed, from the verdicts."""
    c6 = claims["C6"]
    if c6["estimate"] is None:
        return f"Whether attacks are mapped to the safe side was not measured: {c6['reason']}."
    lands = {"supported": "yes", "not supported": "no"}.get(c6["verdict"], "undecided")
    parts = [
        f"Is the unsafe input of an attack mapped to the safe side ({world})? {lands.capitalize()}: jailbreaks that "
        f"succeed lie {_of(c6)} distances of the means nearer to it than plain unsafe requests, and "
        f"{_of(claims['C6.failed'])} nearer than jailbreaks that are refused."
    ]
    if claims["A1"]["estimate"] is not None:
        parts.append(
            f"Knowing where a request lands adds {_of(claims['A1'])} to the AUROC of knowing the attack."
        )
    if claims["A2"]["estimate"] is not None:
        why = {"supported": "Lying there is", "not supported": "Lying there is not"}
        parts.append(
            f"{why.get(claims['A2']['verdict'], 'It is undecided whether lying there is')} why they succeed: put back "
            f"across the midpoint at half depth, {claims['A2']['estimate'] + 0.5:.2f} of the successes are undone, "
            f"{_of(claims['A2.random'])} more than by a random shift as far, and "
            f"{claims['A2.refused']['estimate'] + 0.5:.2f} become refusals; where 5 % of safe answers may be lost, "
            f"{_of(claims['A2.cost'])} more than by the best of four other shifts."
        )
    if claims["A4"]["estimate"] is not None:
        parts.append(
            f"A probe there, at 1 % false alarms, sees {claims['A4']['estimate'] + 0.5:.2f} of what succeeds and "
            f"{claims['A4.unsafe']['estimate'] + 0.5:.2f} of plain unsafe requests."
        )
    return " ".join(parts)


def _of(claim: Mapping[str, Any]) -> str:
    low, high = claim["interval"]
    if claim["estimate"] is None:
        return "n/a"
    return f"{claim['estimate']:+.2f}" + ("" if low is None else f" [{low:+.2f}, {high:+.2f}]")
