"""The typed knobs of a run, and `validate(cfg)`: the one gate that every configuration passes before anything is built.

    from configs.schema import validate
    validate(cfg)        # returns nothing, or raises one ConfigError that lists every problem

What the tasks, data modules and callbacks take is not repeated here: their own signatures are the schema.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from inspect import Parameter
from typing import Any, get_type_hints

from omegaconf import DictConfig

from configs.errors import ConfigError
from configs.knobs import Count, NotNegative, Positive, Seed
from configs.table_node import Primary, TableNode
from configs.type_hints import Names
from configs.validation import problems_of

YOUNGER = {"younger": True}  # of a setting that the configurations of older runs do not have


class Scope(Names, listed_in="lcaam.stack.SCOPES"):
    """Which layers get which mask."""


class Fusion(Names, listed_in="lcaam.fusion.FUSIONS"):
    """How a mask value m changes a scaled score s."""


class Kind(Names, listed_in="lcaam.stack.KINDS"):
    """What a mask is made from."""


class Control(Names, listed_in="lcaam.controls.CONTROLS"):
    """What takes the masks' place, with as many parameters as the masks that the other settings describe."""


class Init(Names, listed_in="lcaam.mask.INITS"):
    """How a mask module is initialised."""


class Length(Names, listed_in="lcaam.mask.LENGTHS"):
    """What a mask does with a number of keys that it was not made for."""


class TestCheckpoint(Enum):
    """Which weights the test uses."""

    __test__ = False  # pytest would take it for a class of tests because of its name

    last = "the last step's"
    best = "those with the lowest validation loss"


@dataclass
class Mask:
    """The mask and its schedule: the keywords of lcaam.LayerMasks, and the controls of lcaam.controls."""

    scope: Scope = "none"
    kind: Kind = "context"
    fusion: Fusion = "none"
    depth: Count = 1  # linear layers, counted as the paper counts them
    hidden: Count | None = None  # width of the hidden layers; null: the tokens' width
    rank: Count | None = None  # rank of the last layer; null: full
    groups: Count = 1  # 1: one mask for all heads (the paper); else one per head
    residual: bool = False  # a residual connection around each hidden layer
    init: Init = "identity"
    length: Length = "fixed"
    num_keys: Count | None = None  # null: the number of tokens of the data
    hard: bool = False  # kind static: weights of 0 or 1, by the threshold 0.5
    sparsity: NotNegative = 0.0  # kind static: weight of its sparsity loss
    control: Control = "none"
    control_residual: bool = True  # control extra_linear: a residual connection around each linear layer
    lr_scale: Positive = field(default=1.0, metadata=YOUNGER)  # factor on the learning rate of masks and controls

    @staticmethod
    def further(node: Mapping) -> tuple[dict[str, Parameter], dict[str, Any]]:
        """Parameters and annotations of the settings of the node's kind of mask, some of which are listed above."""
        from lcaam.stack import KINDS

        kind = KINDS.get(str(node.get("kind")))
        return ({}, {}) if kind is None else (kind.settings(), get_type_hints(kind.__init__))


@dataclass
class Floors:
    """Baselines beside the scores: a constant answer and a model that does not see its input."""

    enabled: bool = False
    max_steps: Count | None = None


@dataclass
class Sweep:
    """How a multirun goes on. skip_completed: also a single run that is there is not made again."""

    skip_completed: bool = False
    known: list[str] = field(default_factory=list)


@dataclass
class Paths:
    """Where a run reads and writes."""

    log_dir: str
    data_dir: str
    run_dir: str


@dataclass
class Run:
    """The root of a configuration."""

    name: str
    scale_name: str
    data: dict
    task: dict
    mask: Mask
    trainer: dict
    paths: Paths
    floors: Floors
    logger: dict | None = None
    callbacks: dict | None = None
    seed: Seed = 0
    threads: Count | None = None
    num_keys: Count | None = None
    resume: str | None = None
    test_checkpoint: TestCheckpoint = TestCheckpoint.last
    optimized_metric: str | None = None
    sweep: Sweep = field(default_factory=Sweep, metadata=YOUNGER)
    table: TableNode | None = field(default=None, metadata=YOUNGER)
    primary: Primary | None = field(default=None, metadata=YOUNGER)
    paper_data: str | None = None
    paper: dict[str, str] = field(default_factory=dict)


def validate(cfg: DictConfig | Mapping) -> None:
    """Raises ConfigError with every problem of `cfg`; returns nothing if there is none. Builds nothing."""
    if problems := problems_of(cfg, Run):
        raise ConfigError("\n".join(problems))
