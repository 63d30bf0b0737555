"""Learnable, context-aware attention masks for any Transformer. Needs torch only."""

from lcaam.attention import attention, explain
from lcaam.encoder import Encoder, EncoderLayer, MultiheadAttention
from lcaam.factors import Mask
from lcaam.fusion import Fusion
from lcaam.mask import ContextAwareMask
from lcaam.memory import Memory
from lcaam.stack import LayerMasks
from lcaam.static import StaticMask

__version__ = "0.1.0"

__all__ = [
    "ContextAwareMask",
    "Encoder",
    "EncoderLayer",
    "Fusion",
    "LayerMasks",
    "Mask",
    "Memory",
    "MultiheadAttention",
    "StaticMask",
    "attention",
    "explain",
]
