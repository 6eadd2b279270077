"""Records in, pages out: reads run directories and writes figures, tables and one self-contained page. No torch.

``write(runs, path)`` writes the page of one or more run directories.
"""

from repfold.report.page import write

__all__ = ["write"]
