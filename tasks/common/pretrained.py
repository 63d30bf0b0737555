"""Folders of pretrained models and tokenizers, as transformers saves them: damaged files are named.

    with from_pretrained("task.llm.pretrained", name, "a LLaMA-family model", "config.json"):
        config = AutoConfig.from_pretrained(name)

transformers says of a damaged file that the folder "is not a valid model identifier", or lets the error of the library
that reads it pass. So the files of a folder are opened one by one first (`check_files`), and whatever is raised later
names the files that were read.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from configs.guard import reading, reason
from datamodules.formats.json_text import read_json
from tasks.common.checkpoint_files import verify
from tasks.common.errors import CheckpointError

WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


def check_files(key: str, name: str) -> None:
    """Opens every file of a folder that holds a model or a tokenizer; does nothing for an id of the hub.

    key: the setting that names the folder. Raises CheckpointError with the file's name: damaged or cut off, or with a
    pickle that asks for code, of which nothing is run.
    """
    folder = Path(name)
    if not folder.is_dir():
        return
    for path in sorted(folder.glob("*.json")):
        with reading(f"{key}: {path} is damaged or cut off", CheckpointError):
            content = read_json(path)
            if not isinstance(content, (dict, list)):
                raise CheckpointError(f"{key}: {path} holds {content!r}, expected a JSON object")
            if path.name == "tokenizer.json":
                from tokenizers import Tokenizer

                Tokenizer.from_file(str(path))
    for path in (path for pattern in WEIGHTS for path in sorted(folder.glob(pattern))):
        with reading(f"{key}: {path} is damaged or cut off, or no file of weights", CheckpointError):
            if path.suffix == ".bin":
                verify(path)
                torch.load(path, map_location="meta", weights_only=True)
            else:
                from safetensors import safe_open

                with safe_open(path, "pt") as file:
                    file.keys()


def digest(model: torch.nn.Module) -> str:
    """16 letters that tell a model's weights from others."""
    found = hashlib.sha256()
    for name, values in sorted(model.state_dict().items()):
        found.update(name.encode())
        found.update(values.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


def within(name: str, *files: str) -> str:
    """A folder and those of its files, as messages name them; an id of the hub as it is."""
    there = sorted(path.name for pattern in files for path in Path(name).glob(pattern))
    return f"{name!r} ({', '.join(there)})" if there else repr(name)


@contextmanager
def from_pretrained(key: str, name: str, what: str, *files: str) -> Iterator[None]:
    """Raises CheckpointError for whatever transformers raises inside: it names the folder's `files`, or says that
    `what` is neither in a folder called `name` nor on the hub."""
    try:
        with reading("", CheckpointError):
            yield
    except CheckpointError as error:
        if error.__cause__ is None:  # it explains itself
            raise
        told = reason(error.__cause__)
        there = (
            sorted(path.name for pattern in files for path in Path(name).glob(pattern)) if Path(name).is_dir() else []
        )
        if not there:
            raise CheckpointError(
                f"{key}: {name!r} is neither a folder with {what} nor one that can be fetched from the hub ({told})"
            ) from error.__cause__
        raise CheckpointError(
            f"{key}: {name!r}: {', '.join(there)} cannot be used as {what} ({told})"
        ) from error.__cause__
