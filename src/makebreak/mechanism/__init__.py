"""What does safety fine-tuning do inside a network?"""

from makebreak.mechanism.anatomy import anatomy_rows, energy_rows
from makebreak.mechanism.clusters import cluster_rows
from makebreak.mechanism.downstream import Downstream, downstream
from makebreak.mechanism.null_share import null_share_rows
from makebreak.mechanism.rivals import RULES, Rules, Verdict, rival_rows, verdict
from makebreak.mechanism.sensitivity import Sensitivity, sensitivity, sensitivity_rows
from makebreak.mechanism.updates import reading_rows, update_rows

__all__ = [
    "RULES",
    "Downstream",
    "Rules",
    "Sensitivity",
    "Verdict",
    "anatomy_rows",
    "cluster_rows",
    "downstream",
    "energy_rows",
    "null_share_rows",
    "reading_rows",
    "rival_rows",
    "sensitivity",
    "sensitivity_rows",
    "update_rows",
    "verdict",
]
