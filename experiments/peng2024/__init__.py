"""Study of Peng et al. 2024: safety landscapes of aligned models, and fine-tuning attacks on them."""

from experiments.peng2024.cells import cells
from experiments.peng2024.claims import CLAIMS
from experiments.peng2024.presets import PRESETS, check_world
from experiments.peng2024.report import FIGURES, SUMMARIES, answer, facts
from experiments.peng2024.tables import DERIVED
from makebreak.studies import Study

STUDY = Study(
    name="peng2024",
    title="Safety landscapes and fine-tuning attacks",
    paper="Peng et al. 2024",
    question="How far can the weights of an aligned model move before safety is lost?",
    presets=PRESETS,
    cells=cells,
    claims=CLAIMS,
    answer=answer,
    figures=FIGURES,
    facts=facts,
    derived=DERIVED,
    summaries=SUMMARIES,
    gates=(check_world,),
)
"""The study."""

__all__ = ["STUDY"]
