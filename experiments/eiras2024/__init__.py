"""Study of Eiras et al. 2024: restructured harmless data, and safety data that are mixed in."""

from experiments.eiras2024.cells import cells
from experiments.eiras2024.claims import CLAIMS
from experiments.eiras2024.presets import PRESETS
from experiments.eiras2024.report import FIGURES, SUMMARIES, answer, facts
from makebreak.studies import Study

STUDY = Study(
    name="eiras2024",
    title="Restructured harmless data and safety data mixed in",
    paper="Eiras et al. 2024",
    question="Can harmless data be restructured so that fine-tuning on them removes refusal, and do safety "
    "data in the user's format prevent it?",
    presets=PRESETS,
    cells=cells,
    claims=CLAIMS,
    answer=answer,
    figures=FIGURES,
    facts=facts,
    summaries=SUMMARIES,
)
"""The study."""

__all__ = ["STUDY"]
