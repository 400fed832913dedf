"""Claims of the synthetic worlds on a pretrained language model, and their counterparts there.

Ids, sides, bounds and margins are those of the counterparts; the quantity says what replaces the exact one.
All bounds are ours. The alignment seed is the unit, of one pretrained model. Refusals are those of Arditi et
al.'s phrases and not degenerate.
"""

from __future__ import annotations

from experiments.real.claims_attacks import ATTACK_CLAIMS
from experiments.real.claims_landscape import LANDSCAPE_CLAIMS
from experiments.real.claims_mechanism import MECHANISM_CLAIMS
from experiments.real.claims_users import CHECKS, USER_CLAIMS

_ROLES = ("primary", "part", "check")
_ALL = (*MECHANISM_CLAIMS, *ATTACK_CLAIMS, *LANDSCAPE_CLAIMS, *USER_CLAIMS, *CHECKS)
_WITHOUT_COUNTERPART = ("C3.gate", "C3.gate_energy", "C4.gate", "M5.gate")  # GPT-2 has no gate
_STUDIES = {"C": "jain2024", "M": "jain2024", "A": "jain2024", "T": "peng2024", "P": "peng2024"}
_STUDIES |= {"B": "eiras2024"}
CLAIMS = tuple(sorted(_ALL, key=lambda claim: _ROLES.index(claim.role)))
"""All claims of the study, primary ones first."""
COUNTERPARTS = {
    claim.id: (_STUDIES[claim.id[0]], claim.id)
    for claim in CLAIMS
    if claim.role != "check" and claim.id not in _WITHOUT_COUNTERPART
}
"""Study and id of the claim of a synthetic world that a claim is set beside, by id of the claim."""
