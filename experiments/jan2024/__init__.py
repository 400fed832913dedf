"""Study of Jan et al. 2024: fine-tuning on one harmless task, and refusal in all formats."""

from experiments.jan2024.cells import cells
from experiments.jan2024.checks import CHECKS
from experiments.jan2024.claims import PARTS, PRIMARY
from experiments.jan2024.report import FIGURES, SUMMARIES, answer, facts
from experiments.recipes.formats import PRESETS
from makebreak.studies import Study

STUDY = Study(
    name="jan2024",
    title="Fine-tuning on one harmless task and refusals in all formats",
    paper="Jan et al. 2024",
    question="Which harmless fine-tuning tasks remove which refusals?",
    presets=PRESETS,
    cells=cells,
    claims=(*PRIMARY, *PARTS, *CHECKS),
    answer=answer,
    figures=FIGURES,
    facts=facts,
    summaries=SUMMARIES,
)
"""The study."""

__all__ = ["STUDY"]
