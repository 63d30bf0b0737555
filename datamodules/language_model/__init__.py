"""Text as characters: files of the user's, or a generated text. The data module is `Texts`."""

from datamodules.lazy import lazy

__getattr__ = lazy("datamodules.language_model.datamodule", "Texts")
