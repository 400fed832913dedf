"""Self-contained HTML reports: pages, their figures and their tables."""

from makebreak.report.figures import write_figures
from makebreak.report.page import Figure, Page, write_page
from makebreak.report.tables import write_tables

__all__ = ["Figure", "Page", "write_figures", "write_page", "write_tables"]
