"""Claims about safety landscapes, those of all questions together.

T1 to T11 restate Peng et al. 2024 (P3 Chen et al. 2026); P1 to P7 are ours. Values are means over the
alignment methods at their own learning rate and over random directions; the pretraining seed is the unit of
replication. Widths are in units of the relative norm of the perturbation. Refused means that the first tokens
of the judged segment are the refusal; the end of the answer is not required. All bounds are ours.
"""

from __future__ import annotations

from experiments.peng2024.claims_basins import BASIN_CLAIMS
from experiments.peng2024.claims_directions import DIRECTION_CLAIMS
from experiments.peng2024.claims_fine_tuning import FINE_TUNING_CLAIMS
from makebreak.claims import Claim

_ROLES = ("primary", "part", "check")


def _order(claim: Claim) -> tuple[int, bool, int]:
    """Primary claims first, then those of the paper before ours, by number."""
    number = claim.id[1:].partition(".")[0]
    return _ROLES.index(claim.role), claim.id[0] != "T", int(number)


CLAIMS = tuple(sorted((*BASIN_CLAIMS, *DIRECTION_CLAIMS, *FINE_TUNING_CLAIMS), key=_order))
"""All claims, primary ones first."""
