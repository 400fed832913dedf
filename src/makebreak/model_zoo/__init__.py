"""A zoo of models with known training, and a table of what measures find in them.

from makebreak import model_zoo as zoo
zoo.table("runs/store")
"""

from makebreak.model_zoo.behaviour import (
    FamilyBehaviourRow,
    FamilyMeasure,
    SafetyMeasure,
    family_behaviour_row,
    judged_families,
    weight_change,
)
from makebreak.model_zoo.controls import CONTROLS, ControlRow, compare_with_controls
from makebreak.model_zoo.crossings import common_descending_value, descending_crossing, first_crossing
from makebreak.model_zoo.matched import matched_comparison
from makebreak.model_zoo.measure import (
    FIRST_TUNING_SEED,
    AlignedPair,
    Measure,
    Measurement,
    Subject,
    held_out_requests,
    load_subject,
    measure,
    other_seed,
)
from makebreak.model_zoo.stacked import measure_all
from makebreak.model_zoo.table import IDENTITY, identity, mark_as_latest, table

__all__ = [
    "CONTROLS",
    "FIRST_TUNING_SEED",
    "IDENTITY",
    "AlignedPair",
    "ControlRow",
    "FamilyBehaviourRow",
    "FamilyMeasure",
    "Measure",
    "Measurement",
    "SafetyMeasure",
    "Subject",
    "common_descending_value",
    "compare_with_controls",
    "descending_crossing",
    "family_behaviour_row",
    "first_crossing",
    "held_out_requests",
    "identity",
    "judged_families",
    "load_subject",
    "mark_as_latest",
    "matched_comparison",
    "measure",
    "measure_all",
    "other_seed",
    "table",
    "weight_change",
]
