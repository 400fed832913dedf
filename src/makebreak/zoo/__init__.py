"""Hundreds of models made by known mechanisms, on which any measure gets its honest verdict.

from makebreak import zoo
zoo.table("runs/store")
"""

from makebreak.zoo.behaviour import Families, Strength, judged_families, weight_change
from makebreak.zoo.ladder import RUNGS, ladder
from makebreak.zoo.measure import FIRST_TUNING_SEED, Measure, Measured, Subject, asked, measure, other_seed
from makebreak.zoo.table import IDENTITY, at_equal, identity, table

__all__ = [
    "FIRST_TUNING_SEED",
    "IDENTITY",
    "RUNGS",
    "Families",
    "Measure",
    "Measured",
    "Strength",
    "Subject",
    "asked",
    "at_equal",
    "identity",
    "judged_families",
    "ladder",
    "measure",
    "other_seed",
    "table",
    "weight_change",
]
