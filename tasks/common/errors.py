"""Errors of a run whose message is all that the user needs: the entry points print it without a stack trace."""


class NonFiniteLossError(RuntimeError):
    """The training loss became NaN or infinite."""


class CheckpointError(ValueError):
    """A checkpoint or a run folder is missing, incomplete or unreadable."""


class ScoringError(ValueError):
    """Predictions or their ground truth cannot be scored."""


class OtherRankError(RuntimeError):
    """Another rank of this run failed; the message says which, and why."""


class StorageError(OSError):
    """A file of the run cannot be written: no room, no permission."""
