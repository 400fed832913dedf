"""What does safety fine-tuning do inside a network?"""

from makebreak.mechanism.clusters import cluster_rows
from makebreak.mechanism.downstream import Downstream, downstream
from makebreak.mechanism.null_share import null_share_rows
from makebreak.mechanism.rivals import RULES, Rules, Verdict, rival_rows, verdict

__all__ = [
    "RULES",
    "Downstream",
    "Rules",
    "Verdict",
    "cluster_rows",
    "downstream",
    "null_share_rows",
    "rival_rows",
    "verdict",
]
