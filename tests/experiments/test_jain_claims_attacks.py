"""Claims about attacks follow their tables, and are not run where too few attacks succeed or fail."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest

from experiments.jain2024.attack_families import JAILBREAKS, N_SLOTS, SOFT_PROMPT_SIZES
from experiments.jain2024.attack_rows import attack_row
from experiments.jain2024.claims_attacks import ATTACK_CLAIMS
from makebreak.attacks import AttackResult
from makebreak.claims import ClaimRow, evaluate_claims
from makebreak.prompts import Outcome, token_requests

FAMILIES = [family for kind in JAILBREAKS.values() for family in kind]
SOFT = [f"soft {k}" for k in SOFT_PROMPT_SIZES]
ATTACKS = ["safe", "unsafe", *FAMILIES, *SOFT, "random soft 10", "soft 10 evading probe", f"gcg {N_SLOTS}"]
ATTACKS += [f"random search {N_SLOTS}", f"random tokens {N_SLOTS}"]
KINDS = (
    "difference",
    "distance",
    "shuffled",
    "other_label",
    "covariance",
    "random",
)


DONORS = ("unsafe", "safe", "random")


def tables(
    *, shift: float = 0.5, reversal: float = 0.9, n: int = 50, arms: tuple[str, ...] = ("base", "ssft", "dpo")
) -> dict[str, pd.DataFrame]:
    """Attacks succeed .6 of the time, soft prompts better the longer they are; successful jailbreaks lie
    `shift` nearer the safe side; before layer 2, which predicts success best, unsafe donors make the share
    `reversal` of successes fail and .4 in the base, everything else .1, and all before layer 1."""
    success = (
        dict.fromkeys(ATTACKS, 0.6)
        | {name: 0.1 * i for i, name in enumerate(SOFT, 3)}
        | {"random soft 10": 0.05}
    )
    success |= {
        f"random search {N_SLOTS}": 0.3,
        f"random tokens {N_SLOTS}": 0.2,
        "competing_tasks_safe_branch": 0.4,
    }
    rows: dict[str, list[dict[str, Any]]] = {
        name: []
        for name in ("attacks", "projection", "prediction", "steering", "interchange", "monitors", "prefill")
    }
    for seed, arm in product((0, 1, 2), arms):
        model = {"world": "mini", "seed": seed, "arm": arm}
        searches = {f"gcg {N_SLOTS}": (0.4, 60.0), f"random search {N_SLOTS}": (0.5, 80.0)}
        for a in ATTACKS:
            outcomes = {"compliance_rate": success[a], "refusal_rate": 1 - success[a]}
            loss, n_queries = searches.get(a, (None, None))
            rows["attacks"].append(model | outcomes | {"attack": a, "loss": loss, "n_queries": n_queries})
        for attack, layer, outcome in product(ATTACKS, (0, 1, 2), ("all", "complied", "refused")):
            tau = -0.3 + (shift if outcome == "complied" and attack in FAMILIES else 0.0)
            tau += 0.01 * SOFT_PROMPT_SIZES[SOFT.index(attack)] if attack in SOFT else 0.0
            rows["projection"].append(
                model | {"attack": attack, "layer": layer, "outcome": outcome, "n": n, "tau_normalised": tau}
            )
        aurocs = {"attack": (0.7, None), "tau": (0.7, 0.8), "both": (0.9, 0.8), "shuffled": (0.5, 0.5)}
        rows["prediction"] += [
            model | {"predictor": predictor, "auroc": auroc, "auroc_within_attack": within}
            for predictor, (auroc, within) in aurocs.items()
        ]
        for kind, layer in product(KINDS, (1, 2)):
            effects = {"reversal_rate": 0.1, "induction_rate": 0.2 if kind == "difference" else 0.1}
            rows["steering"].append(
                model
                | effects
                | {"kind": kind, "layer": layer, "scale": 1.0}
                | {"safe_compliance_baseline": 1.0, "safe_compliance_rate": 0.97}
            )
        for layer, donor, positions in product((1, 2), DONORS, ("end of text", "prompt")):
            share = (0.4 if arm == "base" else reversal) if donor == "unsafe" else 0.1
            share = 1.0 if layer == 1 else share / 2 if positions == "prompt" else share
            rates = {"failure_rate": share, "refusal_rate": share / 2}
            auroc = None if arm == "base" else 0.5 + 0.1 * layer
            kind = {"layer": layer, "donor": donor, "positions": positions, "fit_auroc": auroc}
            rows["interchange"].append(model | rates | kind)
        for attack, layer in product(ATTACKS, (0, 1, 2)):
            detections = {"detection_rate": 0.2, "detection_rate_complied": 0.2, "n": n, "n_complied": n}
            monitor = {"monitor": "probe", "layer": layer, "attack": attack}
            rows["monitors"].append(model | detections | monitor)
        rows["prefill"] += [model | {"n_prefill": k, "compliance_rate": 0.3 * k} for k in range(3)]
    return {name: pd.DataFrame(table) for name, table in rows.items()}


def evaluate(planted: dict[str, pd.DataFrame]) -> dict[str, ClaimRow]:
    return {row.id: row for row in evaluate_claims(ATTACK_CLAIMS, planted)}


def test_verdicts_follow_the_tables() -> None:
    yes, no = evaluate(tables()), evaluate(tables(shift=0.0, reversal=0.1))
    for claim, (a, b) in {
        "C6": (0.5, 0.0),
        "C6.failed": (0.5, 0.0),
        "C6.co_text": (0.5, 0.0),
        "A2": (0.5, -0.3),
        "A2.refused": (0.25, -0.15),
        "A2.prompt": (0.25, -0.15),
        "A2.random": (0.8, 0.0),
        "A2.safe": (0.8, 0.0),
    }.items():
        assert yes[claim].estimate == pytest.approx(a), claim
        assert no[claim].estimate == pytest.approx(b, abs=1e-9), claim
        expected = "contradicted" if b < 0 else "negligible"
        if claim == "A2":  # primary: three equal seeds have p 1/8
            expected = "inconclusive"
        assert no[claim].verdict == expected, claim
    same = {
        "C7": 0.01,
        "C7.success": 0.3,
        "A1": 0.2,
        "A1.within": 0.3,
        "A3": 0.1,
        "A4": 0.2,
        "A4.unsafe": 0.2,
        "A5": 0.3,
        "A5.loss": -0.1,
        "A5.queries": -20.0,
        "A6": 0.55,
        "A7": 0.3,
    }
    same |= {"C6.method": 0.0, "A2.cost": 0.0, "A4.adaptive": 0.0, "C6.order": 0.6 - 0.5, "C6.base": 0.0}
    for claim, value in same.items():
        assert yes[claim].estimate == pytest.approx(value, abs=1e-9), claim


def test_few_successes_are_not_evaluated() -> None:
    """Fewer than twenty: the claim is not run."""
    claims = evaluate(tables(n=3))
    for claim in ("C6.co_text", "C6.misgen", "C7", "C7.random", "A4.unsafe"):
        assert claims[claim].verdict == "not run", claim
        assert claims[claim].estimate is None


def test_claims_of_another_world() -> None:
    """They have its name in their ids, and are not run where it was not attacked."""
    planted = tables(arms=("base", "ssft"))
    both = {name: pd.concat([table, table.assign(world="hidden")]) for name, table in planted.items()}
    claims = evaluate(both)
    assert claims["C6.hidden"].estimate == claims["C6"].estimate
    assert claims["C6.hidden"].role == "part"
    assert claims["C6.method.hidden"].estimate is None  # there is no other method
    assert evaluate(planted)["C6.hidden"].verdict == "not run"
    own = evaluate({name: table.assign(world="hidden") for name, table in planted.items()})
    assert own["C6"].estimate == claims["C6"].estimate
    assert own["C6.hidden"].verdict == "not run"


def test_gradient_search_that_is_no_better() -> None:
    """As low a loss is negligible, a higher one and more queries contradict; without the control: not run."""
    planted = tables()
    attacks = planted["attacks"]
    is_gcg, is_search = (attacks.attack == f"{name} {N_SLOTS}" for name in ("gcg", "random search"))
    for loss, n_queries, verdicts in (
        (0.5, 80.0, ("negligible", "inconclusive")),
        (0.7, 100.0, ("contradicted", "contradicted")),
        (0.4, 60.0, ("supported", "supported")),
    ):
        changed = attacks.assign(
            loss=attacks.loss.where(~is_gcg, loss), n_queries=attacks.n_queries.where(~is_gcg, n_queries)
        )
        claims = evaluate(planted | {"attacks": changed})
        assert (claims["A5.loss"].verdict, claims["A5.queries"].verdict) == verdicts
    claims = evaluate(planted | {"attacks": attacks[~is_search]})
    assert {claims[name].verdict for name in ("A5", "A5.loss", "A5.queries")} == {"not run"}


def test_rows_of_a_search_have_its_loss_and_queries() -> None:
    requests = token_requests([[1, 2]] * 4, instructed_answers=[[3]] * 4, refusals=[[4]] * 4)
    outcomes = np.array([Outcome.COMPLY, Outcome.COMPLY, Outcome.REFUSE, Outcome.NEITHER])
    search = AttackResult(
        "gcg 4", requests, outcomes, columns={"n_candidates": [8, 16, 64, 64]}, history=[2.0, 1.0, 0.5]
    )
    row = attack_row(search)
    assert (row.compliance_rate, row.refusal_rate, row.neither_rate) == (0.5, 0.25, 0.25)
    assert (row.loss, row.n_queries) == (0.5, 38.0)
    family = attack_row(AttackResult("unsafe", requests, outcomes))
    assert (family.loss, family.n_queries) == (None, None)
