"""Videos with the moments and highlights that a sentence asks for: QVHighlights, Charades-STA, generated ones.

The data module is `Moments`.
"""

from datamodules.lazy import lazy

__getattr__ = lazy("datamodules.moment_retrieval.datamodule", "Moments")
