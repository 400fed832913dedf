"""What does safety fine-tuning do inside a network?"""

from makebreak.mechanism.anatomy import anatomy_rows, energy_rows
from makebreak.mechanism.clusters import cluster_means, cluster_rows
from makebreak.mechanism.compare import Comparison, compare
from makebreak.mechanism.confined import confine, confined_rows, release
from makebreak.mechanism.directions import (
    SELECTION,
    Pair,
    Selection,
    ablated,
    ablated_weights,
    direction,
    direction_rows,
    rank_rows,
)
from makebreak.mechanism.downstream import Downstream, downstream
from makebreak.mechanism.end_of_text import collect
from makebreak.mechanism.labels import Labelled, label_rows
from makebreak.mechanism.null_share import null_share_rows
from makebreak.mechanism.parts import part_rows, patch_rows
from makebreak.mechanism.rivals import RULES, Rules, Verdict, rival_rows, verdict
from makebreak.mechanism.sensitivity import Sensitivity, sensitivity, sensitivity_rows
from makebreak.mechanism.shifts import scale_to, shift_rows, shift_vectors
from makebreak.mechanism.updates import reading_rows, update_rows

__all__ = [
    "RULES",
    "SELECTION",
    "Comparison",
    "Downstream",
    "Labelled",
    "Pair",
    "Rules",
    "Selection",
    "Sensitivity",
    "Verdict",
    "ablated",
    "ablated_weights",
    "anatomy_rows",
    "cluster_means",
    "cluster_rows",
    "collect",
    "compare",
    "confine",
    "confined_rows",
    "direction",
    "direction_rows",
    "downstream",
    "energy_rows",
    "label_rows",
    "null_share_rows",
    "part_rows",
    "patch_rows",
    "rank_rows",
    "reading_rows",
    "release",
    "rival_rows",
    "scale_to",
    "sensitivity",
    "sensitivity_rows",
    "shift_rows",
    "shift_vectors",
    "update_rows",
    "verdict",
]
