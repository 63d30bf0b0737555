"""docs/api.md, from the docstrings of everything public in lcaam.

python scripts/api_reference.py
"""

import argparse
import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODULES = (
    "mask",
    "static",
    "factors",
    "fusion",
    "attention",
    "stack",
    "encoder",
    "controls",
    "analysis",
    "integrations.timm",
    "integrations.transformers",
)
HEAD = """# API reference

Made from the docstrings by `python scripts/api_reference.py`. Shapes: B batch, H heads, G mask groups (1 or H),
N_q / N_k queries / keys, D width, d head width, R mask rank.
"""


def reference() -> str:
    parts = [HEAD]
    for name in MODULES:
        tree = ast.parse((ROOT / "lcaam" / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8"))
        parts.append(f"## lcaam.{name}\n\n{fenced(ast.get_docstring(tree))}")
        for node in tree.body:
            parts += entries(node)
    return "\n".join(parts)


def entries(node: ast.stmt, owner: str = "") -> Iterator[str]:
    """A class with its methods, or a function; nothing for what has no docstring or a private name."""
    if not isinstance(node, (ast.ClassDef, ast.FunctionDef)):
        return
    if node.name.startswith("_") or not ast.get_docstring(node):
        return
    label = f"{owner}{node.name}"
    yield f"### `{label}`\n\n{fenced(label + signature(node))}\n{fenced(ast.get_docstring(node))}"
    if isinstance(node, ast.ClassDef):
        for inner in node.body:
            yield from entries(inner, owner=f"{label}.")


def signature(node: ast.ClassDef | ast.FunctionDef) -> str:
    """The arguments as the source writes them; a class has those of its __init__, or its fields."""
    if isinstance(node, ast.FunctionDef):
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        return f"({arguments(node)}){returns}"
    for inner in node.body:
        if isinstance(inner, ast.FunctionDef) and inner.name == "__init__":
            return f"({arguments(inner)})"
    fields = [ast.unparse(inner) for inner in node.body if isinstance(inner, ast.AnnAssign)]
    return f"({', '.join(fields)})" if fields else ""


def arguments(node: ast.FunctionDef) -> str:
    return ast.unparse(node.args).removeprefix("self, ").removeprefix("cls, ").removeprefix("self")


def fenced(text: str) -> str:
    return f"```text\n{text}\n```\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "api.md")
    parser.parse_args().out.write_text(reference(), encoding="utf-8")


if __name__ == "__main__":
    main()
