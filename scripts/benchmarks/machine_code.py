r"""What the machine code of the fused kernels holds: registers, spills, shared memory, and the instructions of a tile.

    python -m scripts.benchmark machine_code --out docs/results/machine_code.json --page docs/fused.md
    python -m scripts.benchmark machine_code --targets 90 --fusions mul --widths 64 --ranks 64

Kernels are compiled ahead of time for each target (90 is sm_90), with the tile that would be tried first on it. No GPU
is needed, and none is asked: a count says what a kernel has to do, not how long that takes. `none` is the same source
without a mask. Instructions are those of the innermost loop, of one warp, for one tile of all heads that share it.
"""

import argparse
import itertools
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lcaam import Fusion
from scripts.benchmarks.common import about

TARGETS = (80, 90, 100)
SHARED = {80: 163, 90: 227, 100: 227}  # KiB of shared memory that a program may have (CUDA's programming guide)
REGISTERS = 255
KERNELS = ("forward", "rows", "columns", "values", "atomic")
FUSIONS = ("none", "add", "mul", "gate", "temper")
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
HEADS, TOKENS, SAMPLES = 12, 1024, 8
LINE = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\d+\s+)?([A-Z0-9_.]+)([^;]*);")
KINDS = {  # instructions by what they keep busy
    "tensor cores": ("HGMMA", "HMMA", "UTCHMMA", "UTCQMMA"),
    "exponentials and the like": ("MUFU",),
    "float32": ("FADD", "FMUL", "FFMA", "FMNMX", "FSEL", "FSETP", "FSET", "FCHK", "FADD2", "FMUL2", "FFMA2"),
    "conversions": ("F2FP", "F2F", "HADD2", "HMUL2", "HFMA2", "I2F", "F2I"),
    "memory": ("LDG", "LDGSTS", "LDS", "LDSM", "STS", "STSM", "LDTM", "STTM", "UTMALDG", "STG"),
    "barriers": ("BAR", "SYNCS", "WARPSYNC", "DEPBAR", "LDGDEPBAR", "WARPGROUP", "FENCE"),
}


@dataclass(frozen=True)
class Kernel:
    """One kernel to be compiled."""

    name: str
    fusion: str
    width: int
    rank: int
    dtype: str
    target: int
    causal: bool = False


@dataclass(frozen=True)
class Code:
    """What was compiled. spills: bytes of the stack. loop: instructions of the innermost loop, by opcode."""

    registers: int
    spills: int
    shared: int
    share: int
    tile: str
    loop: Counter

    def faults(self, target: int) -> list[str]:
        """Why it would not run, or not as it should; empty if all is well."""
        found = [f"{self.spills} bytes are spilled"] if self.spills else []
        found += [f"{self.registers} registers"] if self.registers > REGISTERS else []
        found += [f"{self.shared} bytes of shared memory"] if self.shared > SHARED[target] * 1024 else []
        tensor = ("HGMMA",) if target == 90 else KINDS["tensor cores"]
        if not any(opcode.startswith(tensor) for opcode in self.loop):
            found.append("no tensor cores in its loop")
        return found


def compiled(kernel: Kernel) -> Code:
    """Compiles a kernel. RuntimeError in Triton's interpreter, which compiles nothing."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from lcaam.backends.triton.launching import KERNELS as SOURCES
    from lcaam.backends.triton.launching import blocks, hides
    from lcaam.backends.triton.settings import INTERPRETED

    if INTERPRETED:
        raise RuntimeError("TRITON_INTERPRET=1: nothing is compiled; unset it")
    choice, given = described(kernel)
    source, tile = SOURCES[kernel.name], choice.tiles[0]
    given |= blocks(source.arg_names, tile)
    if "HIDES" in source.arg_names:
        given["HIDES"] = hides(given)
    signature, constants, attributes = {}, {}, {}
    for place, name in enumerate(source.arg_names):
        signature[name], divisible = kind_of(given[name], source.params[place].is_constexpr)
        if signature[name] == "constexpr":
            constants[(place,)] = given[name]
        elif divisible:
            attributes[(place,)] = [["tt.divisibility", 16]]
    code = triton.compile(
        ASTSource(fn=source, signature=signature, constexprs=constants, attrs=attributes),
        target=GPUTarget("cuda", kernel.target, 32),
        options={"num_warps": tile.warps, "num_stages": tile.stages},
    )
    usage, text = read(code.asm["cubin"])
    words = f"{tile.rows} x {tile.columns}, {tile.warps} warps, {tile.stages} stages"
    return Code(usage["REG"], usage["STACK"], code.metadata.shared, choice.share, words, loop_of(text))


def described(kernel: Kernel) -> tuple[Any, dict[str, Any]]:
    """The tiles to choose from and the arguments of a kernel, by name, as a call would launch it, without numbers."""
    from lcaam.backends.triton.launching import Call

    found: dict[str, tuple[Any, dict[str, Any]]] = {}

    class Described(Call):
        def run(self, name, choice, grid, arguments):
            found[name] = choice, arguments

    def tensor(*shape: int, dtype: torch.dtype = DTYPES[kernel.dtype]) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    head = (SAMPLES, HEADS, TOKENS, kernel.width)
    mask: tuple = (None, None, None)
    if kernel.name == "values":
        mask = (None, None, tensor(SAMPLES, 1, TOKENS, TOKENS))
    elif kernel.fusion != "none":
        factors = tensor(SAMPLES, 1, TOKENS, kernel.rank), tensor(1, 1, TOKENS, kernel.rank)
        mask = (*factors, tensor(1, 1, 1, TOKENS, dtype=torch.float32))
    tensors = (tensor(*head), tensor(*head), tensor(*head), *mask)
    upper = 0 if kernel.causal else None
    call = Described(tensors, None, Fusion.parse(kernel.fusion), kernel.width**-0.5, None, upper, 0.0, None, 0)
    call.architecture = kernel.target
    out, lse = call.forward()
    for atomic in (False, True):
        call.gradients(out, lse, out, None, learns=True, atomic=atomic)
    return found[kernel.name]


def kind_of(value: Any, constant: bool) -> tuple[str, bool]:
    """The type of an argument in Triton's words, and whether it is known to be a multiple of 16."""
    if constant:
        return "constexpr", False
    if isinstance(value, torch.Tensor):
        names = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16", torch.uint8: "u8"}
        return f"*{names[value.dtype]}", True
    if isinstance(value, float):
        return "fp32", False
    return "i32", value % 16 == 0


# -- reading machine code ---------------------------------------------------------------------------------------------


def read(cubin: bytes) -> tuple[dict[str, int], str]:
    """The resources and the disassembled text of machine code, by the tools in Triton's package."""
    import triton

    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage, text = (
            subprocess.run([tools / "cuobjdump", option, file.name], capture_output=True, text=True, check=True).stdout
            for option in ("--dump-resource-usage", "-sass")
        )
    line = next(line for line in usage.splitlines() if "REG:" in line)
    return {name: int(number) for name, number in re.findall(r"(REG|STACK|LOCAL):(\d+)", line)}, text


def loop_of(text: str) -> Counter:
    """Opcodes of the loop with most tensor-core instructions: what lies between a jump back and its target."""
    lines = [(int(place, 16), opcode, rest) for place, opcode, rest in LINE.findall(text)]
    best: Counter = Counter()
    for place, opcode, rest in lines:
        target = re.search(r"0x([0-9a-f]+)", rest) if opcode.startswith("BRA") else None
        if target is None or int(target[1], 16) >= place:
            continue
        inside = Counter(name for at, name, _ in lines if int(target[1], 16) <= at <= place)
        if counted(inside)["tensor cores"] > counted(best)["tensor cores"]:
            best = inside
    return best


def counted(loop: Counter) -> dict[str, int]:
    """Instructions by kind."""
    found = dict.fromkeys(KINDS, 0)
    for opcode, count in loop.items():
        for kind, starts in KINDS.items():
            if opcode.split(".")[0] in starts:
                found[kind] += count
    return found


# -- the benchmark ----------------------------------------------------------------------------------------------------


def kernels(arguments: argparse.Namespace) -> Iterator[Kernel]:
    lists = (arguments.targets, arguments.kernels, arguments.widths, arguments.ranks, arguments.dtypes)
    for target, name, width, rank, dtype in itertools.product(*lists):
        for fusion in arguments.fusions:
            if not (fusion == "none" and (name == "values" or rank != arguments.ranks[0])):
                yield Kernel(name, fusion, width, rank, dtype, target)


def benchmark(arguments: argparse.Namespace) -> dict:
    import triton

    result = about("cpu") | {"triton": triton.__version__, "heads": HEADS, "tokens": TOKENS, "rows": []}
    for kernel in kernels(arguments):
        code = compiled(kernel)
        row = vars(kernel) | {"registers": code.registers, "spills": code.spills, "shared": code.shared}
        row |= {"share": code.share, "tile": code.tile, **counted(code.loop), "faults": code.faults(kernel.target)}
        result["rows"].append(row)
        where = f"sm_{kernel.target} {kernel.name:<8} {kernel.fusion:<7} d {kernel.width:>3} R {kernel.rank:>3} "
        counts = "  ".join(f"{kind} {row[kind]}" for kind in KINDS)
        print(f"{where}{kernel.dtype}  {code.registers} registers  {counts}  {'; '.join(row['faults'])}", flush=True)
    return result


def page(result: dict, figure: str) -> str:
    """Kernels with add, mul, gate, temper and none side by side."""
    lines = [f"    {result['command']}\n", f"Triton {result['triton']}; {result['heads']} heads with one mask.\n"]
    head = ["kernel", "target", "d", "R", "type", "fusion", "heads a tile", "tile", "registers", "KiB shared", *KINDS]
    lines += [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for row in result["rows"]:
        rank = "-" if row["fusion"] == "none" or row["name"] == "values" else row["rank"]
        cells = [row["name"], f"sm_{row['target']}", row["width"], rank, row["dtype"], row["fusion"], row["share"]]
        cells += [row["tile"], row["registers"], row["shared"] // 1024, *(row[kind] for kind in KINDS)]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    faulty = [row for row in result["rows"] if row["faults"]]
    lines.append(f"\n{len(result['rows']) - len(faulty)} of {len(result['rows'])} kernels without a fault.")
    return "\n".join(lines)


def options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--targets", type=int, nargs="+", default=[90], choices=TARGETS)
    command.add_argument("--kernels", nargs="+", default=list(KERNELS), choices=KERNELS)
    command.add_argument("--fusions", nargs="+", default=list(FUSIONS), choices=FUSIONS)
    command.add_argument("--widths", type=int, nargs="+", default=[64], help="of a head")
    command.add_argument("--ranks", type=int, nargs="+", default=[64])
    command.add_argument("--dtypes", nargs="+", default=["bf16"], choices=list(DTYPES))


def check(arguments: argparse.Namespace) -> None:
    """Raises ValueError if nothing can be compiled here."""
    try:
        from lcaam.backends.triton.settings import INTERPRETED
    except ImportError as error:
        raise ValueError(f"the package triton is not installed ({error})") from None
    if INTERPRETED:
        raise ValueError("TRITON_INTERPRET=1: nothing is compiled; unset it")
