"""Videos with the moments and highlights that a sentence asks for: QVHighlights, Charades-STA, generated ones."""

from datamodules.moment_retrieval.datamodule import Moments

__all__ = ["Moments"]
