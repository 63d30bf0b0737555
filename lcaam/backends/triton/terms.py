"""From a fusion's record to functions of a kernel: its term and its slope, traced once and written in Triton.

>>> term, slope = device_functions(Fusion.parse("gate"))

A fusion says what it is by two elementwise torch functions. torch.fx records which operations they consist of, and each
operation has a form in Triton below; so a fusion that is registered at run time is fused like the others.
"""

import functools
import linecache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import fx

from lcaam.backends.triton.settings import INTERPRETED
from lcaam.backends.triton.tiles import LN2
from lcaam.fusion import Elementwise, Fusion

EXACT = tl.constexpr(INTERPRETED or torch.version.hip is not None)  # without instructions of NVIDIA's


class NoForm(ValueError):
    """A fusion that cannot be written in Triton; the message says why."""


# The forms are stable for large arguments, as torch's are: no exp of a positive number.
FORMS: dict[str, str] = {
    "abs": "tl.abs({0})",
    "add": "({0} + {1})",
    "clamp_max": "tl.minimum({0}, {1})",
    "clamp_min": "tl.maximum({0}, {1})",
    "cos": "tl.cos({0})",
    "div": "({0} / {1})",
    "erf": "tl.erf({0})",
    "exp": "tl.exp({0})",
    "exp2": "tl.exp2({0})",
    "log": "tl.log({0})",
    "log2": "tl.log2({0})",
    "logsigmoid": "(tl.minimum({0}, 0.0) - log_near_one(1.0 + tl.exp(-tl.abs({0}))))",
    "maximum": "tl.maximum({0}, {1})",
    "minimum": "tl.minimum({0}, {1})",
    "mul": "({0} * {1})",
    "neg": "(-{0})",
    "pos": "{0}",
    "reciprocal": "(1.0 / {0})",
    "relu": "tl.maximum({0}, 0.0)",
    "rsqrt": "(1.0 / tl.sqrt({0}))",
    "sigmoid": "tl.sigmoid({0})",
    "silu": "({0} * tl.sigmoid({0}))",
    "sin": "tl.sin({0})",
    "softplus": "(tl.maximum({0}, 0.0) + log_near_one(1.0 + tl.exp(-tl.abs({0}))))",
    "sqrt": "tl.sqrt({0})",
    "square": "({0} * {0})",
    "sub": "({0} - {1})",
    "tanh": "(2.0 * tl.sigmoid(2.0 * {0}) - 1.0)",
}
OTHER_NAMES = {  # torch and Python call one operation by several names
    "absolute": "abs", "log_sigmoid": "logsigmoid", "multiply": "mul", "negative": "neg", "special_expit": "sigmoid",
    "subtract": "sub", "true_divide": "div", "truediv": "div", "divide": "div", "truedivide": "div",
}  # fmt: skip
NUMBERS = {"add": 2, "sub": 2, "mul": 2, "div": 2, "maximum": 2, "minimum": 2, "clamp_max": 2, "clamp_min": 2}


@functools.cache
def device_functions(fusion: Fusion) -> tuple[Any, Any]:
    """The fusion's term and slope as functions of a kernel. NoForm if an operation of theirs has no form in Triton."""
    if fusion.term is None:
        return identity, one
    slope = one if fusion.slope is None else written(f"{fusion.name} slope", fusion.slope)
    return written(f"{fusion.name} term", fusion.term), slope


@triton.jit
def identity(m):
    return m


@triton.jit
def one(m):
    return tl.full(m.shape, 1.0, tl.float32)


@triton.jit
def log_near_one(x):
    """log(x) of 1 <= x <= 2, to 2^-22: one instruction; tl.log is exact to the last digit and takes about 20."""
    if EXACT:
        return tl.log(x)
    return LN2 * tl.inline_asm_elementwise(
        "lg2.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
    )


def written(name: str, function: Elementwise) -> Any:
    """The function of a kernel that computes `function`, from generated source."""
    lines = "".join(f"    {line}\n" for line in steps(name, function))
    source = f"@triton.jit\ndef generated(m):\n{lines}"
    file = f"<lcaam fusion {name}>"
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)  # where Triton looks for the source
    made: dict[str, Any] = {"triton": triton, "tl": tl, "log_near_one": log_near_one, "__name__": __name__}
    exec(compile(source, file, "exec"), made)  # the source is put together from FORMS and numbers alone
    return made["generated"]


def steps(name: str, function: Elementwise) -> list[str]:
    """The lines of the function's body."""
    graph = fx.Graph()
    start = fx.Proxy(graph.placeholder("m"), fx.proxy.GraphAppendingTracer(graph))
    try:
        result = function(start)  # type: ignore[arg-type]  # a Proxy stands for the tensor
    except (TypeError, ValueError, RuntimeError, fx.proxy.TraceError) as error:
        raise NoForm(f"fusion {name}: its function cannot be traced ({error})") from error
    known: dict[fx.Node, str] = {}
    lines = []
    for number, node in enumerate(graph.nodes):
        if node.op == "placeholder":
            known[node] = "m"
        else:
            known[node] = f"v{number}"
            lines.append(f"v{number} = {expression(name, node, known)}")
    if not isinstance(result, fx.Proxy):
        raise NoForm(f"fusion {name}: its function returns {result!r}, not a function of the mask value")
    return [*lines, f"return {known[result.node]}"]


def expression(name: str, node: fx.Node, known: dict[fx.Node, str]) -> str:
    """One operation in Triton."""
    called = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    called = OTHER_NAMES.get(called.strip("_"), called.strip("_"))
    arguments: list[Any] = list(node.args)
    options = dict(node.kwargs)
    if called == "clamp":
        return clamped(name, arguments, options, known)
    if called == "pow" and len(arguments) == 2 and arguments[1] in (2, 3, 0.5):
        base = value(name, arguments[0], known)
        powers = {2: "({0} * {0})", 3: "({0} * {0} * {0})", 0.5: "tl.sqrt({0})"}
        return powers[arguments[1]].format(base)
    if called not in FORMS or options or len(arguments) != NUMBERS.get(called, 1):
        raise NoForm(f"fusion {name}: {node.format_node()} has no form in Triton; operations: {', '.join(FORMS)}")
    return FORMS[called].format(*(value(name, argument, known) for argument in arguments))


def clamped(name: str, arguments: list[Any], options: dict[str, Any], known: dict[fx.Node, str]) -> str:
    least, most = ([*arguments[1:], None, None])[:2]
    least, most = options.get("min", least), options.get("max", most)
    text = value(name, arguments[0], known)
    text = text if least is None else f"tl.maximum({text}, {value(name, least, known)})"
    return text if most is None else f"tl.minimum({text}, {value(name, most, known)})"


def value(name: str, argument: Any, known: dict[fx.Node, str]) -> str:
    """An operand: a result so far, or a number."""
    if isinstance(argument, fx.Node):
        return known[argument]
    if isinstance(argument, (int, float)) and not isinstance(argument, bool):
        return repr(float(argument))
    raise NoForm(f"fusion {name}: {argument!r} is neither a number nor computed from the mask value")
