"""The report: one HTML file with everything that tables of runs can show. `python -m scripts.page --help`"""

from scripts.page.writing import write

__all__ = ["write"]
