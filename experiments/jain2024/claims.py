"""Claims of the study and their evaluation; they were written down before the reported seeds were run.

A statement about "the margin" is about the refusal margin. Layers are fractions of depth; `last` is the
deepest MLP. Claims about τ (class-mean projection) are about aligned minus base on token-matched requests,
which have the same tasks on text of the other branch, in the unit of ‖μ_unsafe - μ_safe‖ unless said
otherwise: a gap of 2 is perfect separation. Methods are averaged within a pretraining seed; the seed is the
unit of replication. "Erratum" refers to docs/errata.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from experiments.jain2024 import claims_checks
from experiments.jain2024.claims_attacks import attack_claims, attack_values
from experiments.jain2024.claims_checks import (
    behaviour_check_values,
    control_check_values,
    control_match_rows,
)
from experiments.jain2024.claims_clusters import (
    CLUSTER_CLAIMS,
    NULL_SHARE_CLAIMS,
    cluster_values,
    null_share_values,
)
from experiments.jain2024.claims_localisation import LOCALISATION_CLAIMS, localisation_values
from experiments.jain2024.claims_updates import STITCHING_CLAIMS, UPDATE_CLAIMS, update_values
from experiments.jain2024.matched import matched_values

CLAIMS = [
    *claims_checks.CLAIMS,
    *CLUSTER_CLAIMS,
    *UPDATE_CLAIMS,
    *NULL_SHARE_CLAIMS,
    *STITCHING_CLAIMS,
    *LOCALISATION_CLAIMS,
]
"""All claims but those about attacks, which are made for every world."""


def judge(tables: Mapping[str, pd.DataFrame], worlds: tuple[str, ...]) -> list[dict[str, Any]]:
    """Evaluates all claims.

    Args:
        tables: Tables of the study, one row per seed, arm and whatever else the table distinguishes.
        worlds: The study's own world, then the other worlds in which models were attacked.

    Returns:
        Rows of claims.json.
    """
    values = (
        behaviour_check_values(tables["behaviour"])
        | control_check_values(control_match_rows(tables["zoo"]))
        | cluster_values(tables["clusters"])
        | null_share_values(tables["null_share"])
        | matched_values(tables["matched"])
        | update_values(tables)
        | localisation_values(tables)
    )
    for world in worlds:
        values |= attack_values(tables, world, worlds[0])
    claims = [*CLAIMS, *attack_claims(worlds)]
    reason = "the preset has no such arm"
    return [claim.evaluate(values[claim.id], "" if values[claim.id] else reason) for claim in claims]
