"""What do `makebreak inspect` and `makebreak compare` do, as functions?"""

from makebreak.pages.comparison import compare_models
from makebreak.pages.comparison_page import verdict_lines, write_comparison
from makebreak.pages.inspection import Inspection, Settings, inspect
from makebreak.pages.inspection_page import summary, write_inspection

__all__ = [
    "Inspection",
    "Settings",
    "compare_models",
    "inspect",
    "summary",
    "verdict_lines",
    "write_comparison",
    "write_inspection",
]
