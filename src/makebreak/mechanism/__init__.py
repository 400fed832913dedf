"""What does safety fine-tuning do inside a network?"""

from makebreak.mechanism.clusters import cluster_rows
from makebreak.mechanism.null_share import null_share_rows

__all__ = ["cluster_rows", "null_share_rows"]
