"""Claims of the synthetic worlds on a pretrained language model that is aligned by the same methods."""

from experiments.pretrained import check_model
from experiments.real.cells import cells
from experiments.real.claims import CLAIMS
from experiments.real.presets import PRESETS, with_model
from experiments.real.report import FIGURES, SUMMARIES, answer, facts
from experiments.real.side_by_side import side_by_side_table
from makebreak.studies import Study

STUDY = Study(
    name="real",
    title="A language model beside the synthetic worlds",
    paper="Jain et al. 2024, Peng et al. 2024 and Eiras et al. 2024",
    question="Does what was found in the synthetic worlds hold in a pretrained language model that is "
    "aligned by the same methods?",
    presets=PRESETS,
    cells=cells,
    claims=CLAIMS,
    answer=answer,
    figures=FIGURES,
    facts=facts,
    derived={"side_by_side": side_by_side_table},
    summaries=SUMMARIES,
    gates=(check_model,),
    with_model=with_model,
    unit="alignment seeds",
)
"""The study."""

__all__ = ["STUDY"]
