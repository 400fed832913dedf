"""Claims about fine-tuning on harmless tasks, those of all questions together.

A1 to A7 restate Jan et al. 2024 and B1 Eiras et al. 2024; F1 to F8 and M1 to M4 are ours. A *rise* is the
share not refused after fine-tuning minus that before, of unsafe requests with held-out texts, topic pairs of
alignment and operators of alignment. It is taken at the user's learning rate: the smallest of the grid at
which the tuned task is learnt on held-out requests. A difference is negligible within 3 points. Coverage of
alignment is uniform except for A2. All bounds are ours.
"""

from __future__ import annotations

from experiments.jan2024.claims_internals import INTERNAL_CLAIMS
from experiments.jan2024.claims_mitigations import MITIGATION_CLAIMS, MITIGATION_PRIMARY
from experiments.jan2024.claims_requests import REQUEST_CLAIMS, REQUEST_PRIMARY
from experiments.jan2024.claims_tasks import TASK_CLAIMS, TASK_PRIMARY
from experiments.jan2024.claims_templates import TEMPLATE_CLAIMS, TEMPLATE_PRIMARY

PRIMARY = (*TASK_PRIMARY, *TEMPLATE_PRIMARY, *MITIGATION_PRIMARY, *REQUEST_PRIMARY)
"""Primary claims, which are corrected together."""
_PARTS = (*TASK_CLAIMS, *TEMPLATE_CLAIMS, *MITIGATION_CLAIMS, *REQUEST_CLAIMS, *INTERNAL_CLAIMS)
PARTS = tuple(sorted(_PARTS, key=lambda claim: (claim.id[0], int(claim.id[1]))))
"""Descriptive claims."""
