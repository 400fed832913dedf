"""Self-contained HTML reports: pages of the jobs on language models, their figures and their tables."""

from makebreak.report.attack import attack_summary, write_attacks
from makebreak.report.comparison import comparison_summary, write_comparison
from makebreak.report.facts import (
    attack_facts,
    landscape_facts,
    prompt_facts,
    sampling_facts,
    training_facts,
    user_data_facts,
)
from makebreak.report.figures import write_figures
from makebreak.report.fine_tuning import fine_tuning_summary, write_fine_tuning
from makebreak.report.inspection import inspection_summary, write_inspection
from makebreak.report.landscape import landscape_summary, write_landscape
from makebreak.report.leaderboard import write_leaderboard
from makebreak.report.page import Figure, Page, write_page
from makebreak.report.score_text import score_summary
from makebreak.report.study import write_study
from makebreak.report.tables import write_tables

__all__ = [
    "Figure",
    "Page",
    "attack_facts",
    "attack_summary",
    "comparison_summary",
    "fine_tuning_summary",
    "inspection_summary",
    "landscape_facts",
    "landscape_summary",
    "prompt_facts",
    "sampling_facts",
    "score_summary",
    "training_facts",
    "user_data_facts",
    "write_attacks",
    "write_comparison",
    "write_figures",
    "write_fine_tuning",
    "write_inspection",
    "write_landscape",
    "write_leaderboard",
    "write_page",
    "write_study",
    "write_tables",
]
