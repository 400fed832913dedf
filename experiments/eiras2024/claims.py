"""Claims on restructured data and on mitigations, those of all questions together.

B1 to B6 restate Eiras et al. 2024, the others are ours. Requests are in open text (format `gen`), with the
operators that alignment used. *Not refused* is attack success in the wider sense, *answered* in the narrower.
Values on mitigations are means over the mitigated strategies and the shares of safety examples. Differences
of rates are negligible within 3 points. All bounds are ours.
"""

from __future__ import annotations

from experiments.eiras2024.claims_checks import CHECKS
from experiments.eiras2024.claims_data import DATA_CLAIMS, DATA_PRIMARY
from experiments.eiras2024.claims_mitigations import MITIGATION_CLAIMS, MITIGATION_PRIMARY

CLAIMS = (*DATA_PRIMARY, *MITIGATION_PRIMARY, *DATA_CLAIMS, *MITIGATION_CLAIMS, *CHECKS)
"""All claims, primary ones first."""
