"""Documentation that runs: every Python snippet, every link, the API reference."""

import re
import subprocess
import sys

import pytest

from tests.composing import ROOT

PAGES = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES)
def test_every_python_snippet_runs(page):
    """In order, in one namespace a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    names = {}
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(code, page, "exec"), names)


@pytest.mark.parametrize("page", PAGES)
def test_every_link_and_picture_is_there(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    for target in targets:
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        path = (ROOT / page).parent / file if file else ROOT / page
        assert path.exists(), f"{page}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert anchor in slugs, f"{page}: {target}"


def test_the_api_reference_is_what_the_docstrings_say(tmp_path):
    out = tmp_path / "api.md"
    subprocess.run([sys.executable, "scripts/api_reference.py", "--out", str(out)], cwd=ROOT, check=True)
    assert out.read_text() == (ROOT / "docs" / "api.md").read_text(), "run: python scripts/api_reference.py"
