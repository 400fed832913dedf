"""Jain et al. 2024: effects of SSFT, DPO and unlearning on weights and activations."""

from experiments.jain2024.cells import cells
from experiments.jain2024.claims import ALL_CHECKS, PARTS, PRIMARY
from experiments.jain2024.matched import matched_table
from experiments.jain2024.published_table import published_table
from experiments.jain2024.report import SUMMARIES, answer, facts
from experiments.jain2024.report_figures import FIGURES
from experiments.jain2024.worlds import check_worlds
from experiments.recipes.composition import PRESETS
from makebreak.studies import Study

STUDY = Study(
    name="jain2024",
    title="Effects of safety fine-tuning on weights and activations",
    paper="Jain et al. 2024",
    question="How does safety fine-tuning change weights and activations, and which of these changes make a "
    "model refuse?",
    presets=PRESETS,
    cells=cells,
    claims=(*PRIMARY, *PARTS, *ALL_CHECKS),
    answer=answer,
    figures=FIGURES,
    facts=facts,
    derived={"matched": matched_table, "published": published_table},
    summaries=SUMMARIES,
    gates=(check_worlds,),
)
"""The study."""

__all__ = ["STUDY"]
