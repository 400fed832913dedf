"""Studies: cells cached by the store, and one runner that computes any study and evaluates its claims."""

from makebreak.revisions import cache_revision
from makebreak.studies.cells import Cell, CellTables, Inputs, MeasureCell, TableCell, TableFunction
from makebreak.studies.runner import collect, load_study, missing_tasks, resolve, trainings
from makebreak.studies.study import Figure, Preset, Request, Results, Study

__all__ = [
    "Cell",
    "CellTables",
    "Figure",
    "Inputs",
    "MeasureCell",
    "Preset",
    "Request",
    "Results",
    "Study",
    "TableCell",
    "TableFunction",
    "cache_revision",
    "collect",
    "load_study",
    "missing_tasks",
    "resolve",
    "trainings",
]
