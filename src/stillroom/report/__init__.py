"""One self-contained HTML page, and a table for the terminal, from what a run folder holds.

Reads nothing but the files of run folders; imports no torch.
"""

from stillroom.report.figure_files import pictures
from stillroom.report.kinds import build_page, has_own_page
from stillroom.report.page import build_report, compare_report
from stillroom.report.tables import seeds_tables, summary_table

__all__ = ["build_page", "build_report", "compare_report", "has_own_page", "pictures", "seeds_tables", "summary_table"]
