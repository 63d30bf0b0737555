"""Errors of a run whose message is all that the user needs: the entry points print it without a stack trace."""


class NonFiniteLossError(RuntimeError):
    """The training loss became NaN or infinite."""


class CheckpointError(ValueError):
    """A checkpoint or a run folder is missing, incomplete or unreadable."""


class OtherRankError(RuntimeError):
    """Another rank of this run failed; the message says which, and why."""


class StorageError(OSError):
    """A file of the run cannot be written: no room, no permission."""


def not_fetched(key: str, name: str, what: str, error: Exception) -> str:
    """The message if transformers finds `what` neither in a folder called `name` nor on the hub."""
    reason = str(error).splitlines()[0]
    return f"{key}: {name!r} is neither a folder with {what} nor one that can be fetched from the hub ({reason})"
