"""What tests go through: every fusion that uses a mask and every scope that has one, as lcaam lists them."""

from lcaam import Fusion
from lcaam.stack import SCOPES as ALL_SCOPES

FUSIONS = [fusion.name for fusion in Fusion if not fusion.ignores_mask]
SCOPES = [scope for scope in ALL_SCOPES if scope != "none"]
