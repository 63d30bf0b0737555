"""The wheel in an empty environment with torch alone: what somebody gets who only wants the masks."""

import re
import subprocess
import sys
import venv
import zipfile

import pytest

from tests.programs import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, timeout=600)
    (found,) = folder.glob("lcaam-*.whl")
    return found


@pytest.mark.slow
def test_it_holds_the_library_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert "lcaam/backends/chunked.py" in names
    assert "lcaam/py.typed" in names, "type checkers read the annotations of what is installed"
    assert {name.split("/")[0] for name in names} == {"lcaam", re.sub(r"-py3.*", ".dist-info", wheel.name)}
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "lcaam").rglob("*.py")}
    assert sources <= set(names), "every module of the library is packaged"


@pytest.mark.slow
def test_the_readmes_three_lines_run_with_torch_alone(wheel, tmp_path):
    (snippet,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    venv.create(tmp_path / "empty", with_pip=True)
    python = tmp_path / "empty" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", str(wheel)], check=True, timeout=1500)
    installed = subprocess.run([python, "-m", "pip", "list"], capture_output=True, text=True, check=True).stdout
    assert "torch" in installed
    for other in ("hydra", "lightning", "transformers", "omegaconf", "wandb"):
        assert other not in installed
    check = snippet + "\nassert out.shape == (8, 4, 50, 64)\nprint('works')\n"
    done = subprocess.run([python, "-c", check], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout == "works\n", done.stderr
