"""An extension of the documentation site: docstrings are shown as they are written, so that their columns stay aligned.

mkdocs.yml names this file. Without it Markdown would join the lines of the lists of arguments and shapes.
"""

import griffe


class VerbatimDocstrings(griffe.Extension):
    """Puts every docstring into a block of plain text."""

    def on_instance(self, *, obj: griffe.Object, **kwargs) -> None:
        if obj.docstring and not obj.docstring.value.startswith("```"):
            obj.docstring.value = f"```text\n{obj.docstring.value}\n```"
