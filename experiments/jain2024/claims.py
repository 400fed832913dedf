"""Claims of the study; they were written down before the reported seeds were run.

A statement about "the margin" is about the refusal margin. Layers are fractions of depth; `last` is the
deepest MLP. Claims about τ (class-mean projection) are about aligned minus base on token-matched requests,
which have the same tasks on text of the other branch, in the unit of ‖μ_unsafe - μ_safe‖ unless said
otherwise: a gap of 2 is perfect separation. Methods are averaged within a pretraining seed; the seed is the
unit of replication. All bounds are ours.
"""

from __future__ import annotations

from experiments.jain2024.claims_attacks import ATTACK_CLAIMS
from experiments.jain2024.claims_checks import CHECKS
from experiments.jain2024.claims_clusters import CLUSTER_CLAIMS, NULL_RATIO, NULL_SHARE_CLAIMS, SEPARATION
from experiments.jain2024.claims_extrapolation import EXTRAPOLATION_CHECK, EXTRAPOLATION_CLAIMS
from experiments.jain2024.claims_localisation import LOCALISATION_CLAIMS
from experiments.jain2024.claims_reading import READING_CLAIMS, READING_PRIMARY
from experiments.jain2024.claims_stitching import MECHANISM, STITCHING_CLAIMS
from experiments.jain2024.claims_updates import UPDATE_CLAIMS, UPDATE_PRIMARY

PRIMARY = (
    SEPARATION,
    NULL_RATIO,
    *UPDATE_PRIMARY,
    *READING_PRIMARY,
    *(claim for claim in ATTACK_CLAIMS if claim.role == "primary"),
)
"""The paper's headline statements and ours."""
PARTS = (
    *CLUSTER_CLAIMS,
    *NULL_SHARE_CLAIMS,
    *UPDATE_CLAIMS,
    *READING_CLAIMS,
    *EXTRAPOLATION_CLAIMS,
    MECHANISM,
    *STITCHING_CLAIMS,
    *LOCALISATION_CLAIMS,
    *(claim for claim in ATTACK_CLAIMS if claim.role != "primary"),
)
"""Descriptive claims."""
ALL_CHECKS = (*CHECKS, EXTRAPOLATION_CHECK)
"""Properties that settings were tuned for."""
