"""The fused kernels compiled for GPUs that are not here: nothing spilled, tensor cores used, limits kept."""

import json
import os
import subprocess
import sys
from collections import Counter

import pytest

from configs.resolvers import ROOT
from scripts.benchmarks import machine_code
from scripts.benchmarks.machine_code import KINDS, TARGETS, Code, counted, loop_of

pytest.importorskip("triton")
SASS = """
        /*0000*/                   MOV R1, c[0x0][0x28] ;
        /*0010*/                   HMMA.16816.F32.BF16 R8, R4, R6, RZ ;
        /*0020*/                   MUFU.EX2 R5, R5 ;
        /*0030*/                   HMMA.16816.F32.BF16 R8, R4, R6, R8 ;
        /*0040*/                   FFMA R2, R3, R4, R5 ;
        /*0050*/               @P0 BRA 0x20 ;
        /*0060*/                   MUFU.RCP R5, R5 ;
        /*0070*/                   BRA 0x70 ;
"""


def measured(tmp_path, *options: str) -> list[dict]:
    """The rows of the command in a process of its own: here Triton only interprets."""
    out = tmp_path / "code.json"
    words = [sys.executable, "-m", "scripts.benchmark", "machine_code", *options, "--out", str(out)]
    places = {"TRITON_CACHE_DIR": str(tmp_path / "cache")}
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"} | places
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text(encoding="utf-8"))["rows"]


def test_the_default_kernels_are_compiled_without_a_fault(tmp_path):
    rows = measured(tmp_path, "--fusions", "mul", "--kernels", "forward", "rows")
    assert [row["name"] for row in rows] == ["forward", "rows"] and not any(row["faults"] for row in rows)
    assert all(row[kind] > 0 for row in rows for kind in ("tensor cores", "exponentials and the like", "memory"))


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_every_kernel_of_the_list_is_compiled_without_a_fault(tmp_path, target, dtype):
    sizes = ["--widths", "32", "64", "128", "--ranks", "16", "64", "128"]
    rows = measured(tmp_path, "--targets", str(target), "--dtypes", dtype, *sizes)
    assert len(rows) == 3 * (4 * (3 * 4 + 1) + 3 * 4)
    assert not [row for row in rows if row["faults"]]


def test_the_loop_is_what_lies_between_a_jump_back_and_its_target():
    loop = loop_of(SASS)
    assert loop == Counter({"MUFU.EX2": 1, "HMMA.16816.F32.BF16": 1, "FFMA": 1, "BRA": 1})
    assert counted(loop) == dict.fromkeys(KINDS, 0) | {"tensor cores": 1, "exponentials and the like": 1, "float32": 1}


def test_what_would_not_run_is_named():
    code = Code(256, 8, 200 * 1024, 2, "64 x 64", Counter({"HMMA.16816.F32": 1}))
    assert code.faults(80) == ["8 bytes are spilled", "256 registers", "204800 bytes of shared memory"]
    assert code.faults(90) == ["8 bytes are spilled", "256 registers", "no tensor cores in its loop"]


def test_in_the_interpreter_nothing_is_compiled(capsys):
    from scripts.benchmark import main

    if os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("Triton compiles here")
    with pytest.raises(SystemExit):
        main(["machine_code"])
    assert "TRITON_INTERPRET=1: nothing is compiled; unset it" in capsys.readouterr().err
    kernel = machine_code.Kernel("forward", "mul", 64, 64, "bf16", 90)
    with pytest.raises(RuntimeError, match="TRITON_INTERPRET=1"):
        machine_code.compiled(kernel)
