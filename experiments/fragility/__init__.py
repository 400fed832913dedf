"""Study of which measures predict that safety breaks, over models that are made safe by known mechanisms."""

from experiments.fragility.cells import cells
from experiments.fragility.claims import CLAIMS
from experiments.fragility.language.presets import LANGUAGE_PRESETS
from experiments.fragility.presets import PRESETS
from experiments.fragility.report import DERIVED, FIGURES, SUMMARIES, answer, facts
from experiments.pretrained import check_model
from makebreak.studies import Study

STUDY = Study(
    name="fragility",
    title="Which measures predict that safety breaks?",
    paper="Jiang et al. 2020, Fantastic generalization measures",
    question="Which measures of a model made safe predict how easily its safety is broken?",
    presets={**PRESETS, **LANGUAGE_PRESETS},
    cells=cells,
    claims=CLAIMS,
    answer=answer,
    figures=FIGURES,
    facts=facts,
    gates=(check_model,),
    derived=DERIVED,
    summaries=SUMMARIES,
    unit="seeds",  # pretraining seeds, or alignment seeds of a pretrained language model
)
"""The study."""

__all__ = ["STUDY"]
