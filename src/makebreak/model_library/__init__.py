"""Trained models of synthetic worlds that ship with the package: their list, and how they are opened."""

from makebreak.model_library.index import (
    ALIGNMENTS,
    DATA,
    INDEX_FILE,
    WORLDS,
    Entry,
    organism_names,
    read_index,
)
from makebreak.model_library.organism import Organism, open_organism
from makebreak.model_library.rows import OrganismRateRow, OrganismRow, organism_rate_rows, organism_rows

__all__ = [
    "ALIGNMENTS",
    "DATA",
    "INDEX_FILE",
    "WORLDS",
    "Entry",
    "Organism",
    "OrganismRateRow",
    "OrganismRow",
    "open_organism",
    "organism_names",
    "organism_rate_rows",
    "organism_rows",
    "read_index",
]
