"""What do `makebreak inspect`, `makebreak compare` and `makebreak attack` do, as functions?"""

from makebreak.pages.attack import Attacking, Attacks, attack_model
from makebreak.pages.attack_page import attack_lines, write_attacks
from makebreak.pages.comparison import compare_models
from makebreak.pages.comparison_page import verdict_lines, write_comparison
from makebreak.pages.inspection import Inspection, Settings, inspect
from makebreak.pages.inspection_page import summary, write_inspection

__all__ = [
    "Attacking",
    "Attacks",
    "Inspection",
    "Settings",
    "attack_lines",
    "attack_model",
    "compare_models",
    "inspect",
    "summary",
    "verdict_lines",
    "write_attacks",
    "write_comparison",
    "write_inspection",
]
