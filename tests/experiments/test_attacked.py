"""Do claims about attacks say what their tables say, and nothing where too few attacks succeed or fail?"""

from __future__ import annotations

from itertools import product
from typing import Any

import pandas as pd
import pytest

from experiments.jain2024.attacked import CLAIMS, claims, of_attacks
from experiments.jain2024.attacks import IDLE, JAILBREAKS, N_SOFT
from experiments.jain2024.report_attacks import drawings, paragraph

FAMILIES = [family for kind in JAILBREAKS.values() for family in kind]
SOFT = [f"soft {k}" for k in N_SOFT]
ATTACKS = ["safe", "unsafe", *FAMILIES, *SOFT, "random soft 10", "soft 10 evading probe", f"gcg {IDLE}"]
ATTACKS += [f"random search {IDLE}", f"random tokens {IDLE}"]
KINDS = (
    "difference",
    "distance",
    "shuffled",
    "other_label",
    "covariance",
    "random",
    "mirrored",
    "mirrored_distance",
)


def tables(
    *, lands: float = 0.5, undone: float = 0.9, n: int = 50, arms: tuple[str, ...] = ("base", "ssft", "dpo")
) -> dict[str, pd.DataFrame]:
    """Attacks succeed .6 of the time, soft tokens better the more there are; successes lie `lands` nearer the safe
    side; mirroring undoes `undone`, everything else .1."""
    success = (
        dict.fromkeys(ATTACKS, 0.6)
        | {name: 0.1 * i for i, name in enumerate(SOFT, 3)}
        | {"random soft 10": 0.05}
    )
    success |= {
        f"random search {IDLE}": 0.3,
        f"random tokens {IDLE}": 0.2,
        "competing_tasks_safe_branch": 0.4,
    }
    found: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("attacks", "landing", "prediction", "cause", "monitors", "depth")
    }
    for seed, arm in product((0, 1, 2), arms):
        said = {"world": "mini", "seed": seed, "arm": arm}
        found["attacks"] += [
            said | {"attack": a, "complied": success[a], "refused": 1 - success[a]} for a in ATTACKS
        ]
        for attack, layer, outcome in product(ATTACKS, (0, 1, 2), ("all", "complied", "refused")):
            tau = -0.3 + (lands if outcome == "complied" and attack in FAMILIES else 0.0)
            tau += 0.01 * N_SOFT[SOFT.index(attack)] if attack in SOFT else 0.0
            found["landing"].append(
                said | {"attack": attack, "layer": layer, "outcome": outcome, "n": n, "tau_normalised": tau}
            )
        told = {"attack": (0.7, None), "tau": (0.7, 0.8), "both": (0.9, 0.8), "shuffled": (0.5, 0.5)}
        found["prediction"] += [said | {"predictor": r, "auroc": a, "auroc_within_attack": w} for r, (a, w) in told.items()]
        for kind, layer in product(KINDS, (1, 2)):
            share = undone if kind == "mirrored" else 0.1
            row = {"reversal_rate": share, "refusal_rate": share}
            row["induction_rate"] = 0.2 if kind == "difference" else 0.1
            found["cause"].append(
                said
                | row
                | {"kind": kind, "layer": layer, "scale": 1.0}
                | {"safe_compliance_baseline": 1.0, "safe_compliance_rate": 0.97}
            )
        for attack, layer in product(ATTACKS, (0, 1, 2)):
            seen = {"alarms": 0.2, "alarms_complied": 0.2, "n": n, "n_complied": n}
            found["monitors"].append(said | seen | {"monitor": "probe", "layer": layer, "attack": attack})
        found["depth"] += [said | {"forced": k, "complied": 0.3 * k} for k in range(3)]
    return {name: pd.DataFrame(rows) for name, rows in found.items()}


def judged(found: dict[str, pd.DataFrame]) -> dict[str, dict[str, Any]]:
    values = of_attacks(found, "mini", "mini")
    assert set(values) == {claim.id for claim in CLAIMS}
    return {claim.id: claim.evaluate(values[claim.id], "no such arm") for claim in claims(("mini",))}


def test_claims_are_supported_where_their_tables_say_so_and_not_where_they_do_not() -> None:
    yes, no = judged(tables()), judged(tables(lands=0.0, undone=0.1))
    for claim, (a, b) in {
        "C6": (0.5, 0.0),
        "C6.failed": (0.5, 0.0),
        "C6.co_text": (0.5, 0.0),
        "A2": (0.4, -0.4),
        "A2.random": (0.8, 0.0),
        "A2.refused": (0.4, -0.4),
    }.items():
        assert yes[claim]["estimate"] == pytest.approx(a), claim
        assert no[claim]["estimate"] == pytest.approx(b, abs=1e-9), claim
        assert (yes[claim]["verdict"], no[claim]["verdict"]) == ("supported", "not supported"), claim
    same = {
        "C7": 0.01,
        "C7.success": 0.3,
        "A1": 0.2,
        "A1.within": 0.3,
        "A3": 0.1,
        "A4": -0.3,
        "A4.unsafe": -0.3,
        "A5": 0.3,
        "A6": 0.55,
        "A7": -0.2,
    }
    same |= {"C6.method": 0.0, "A2.cost": 0.0, "A4.adaptive": 0.0, "C6.order": 0.6 - 0.5, "C6.base": 0.0}
    for claim, value in same.items():
        assert yes[claim]["estimate"] == pytest.approx(value, abs=1e-9), claim
    assert "Yes: jailbreaks that succeed lie +0.50" in paragraph(yes, "mini")
    assert "Lying there is not why they succeed" in paragraph(no, "mini")


def test_fewer_than_twenty_successes_are_not_judged() -> None:
    few = judged(tables(n=3))
    for claim in ("C6.co_text", "C6.misgen", "C7", "C7.random", "A4.unsafe"):
        assert few[claim]["verdict"] == "not run", claim
        assert few[claim]["estimate"] is None
    assert "not measured" in paragraph(few, "mini")


def test_another_world_has_claims_of_its_own_and_none_where_it_was_not_run() -> None:
    found = tables(arms=("base", "ssft"))
    both = {name: pd.concat([table, table.assign(world="hidden")]) for name, table in found.items()}
    values = of_attacks(both, "hidden", "mini")
    assert values["C6.hidden"] == pytest.approx(of_attacks(both, "mini", "mini")["C6"])
    assert values["C6.method.hidden"] == [None] * 3  # there is no other method
    assert of_attacks(found, "hidden", "mini") == {f"{claim.id}.hidden": [] for claim in CLAIMS}
    assert len({claim.id for claim in claims(("mini", "hidden"))}) == 2 * len(CLAIMS)


def test_nothing_is_drawn_where_nothing_was_attacked() -> None:
    found = tables()
    assert set(drawings(found)) == {"attacks", "landing", "causes"}
    assert drawings(found | {"cause": pd.DataFrame()}) == {}
