"""How is a study told on one page?"""

from makebreak.report.figures import write_figures
from makebreak.report.page import Figure, Page, write_page

__all__ = ["Figure", "Page", "write_figures", "write_page"]
