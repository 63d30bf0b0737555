"""The characters that a model knows: those of its training text, by their code points.

>>> vocabulary = Vocabulary(" abc")
>>> vocabulary.encode(torch.tensor([[97, 99, 120]]))  # "a", "c", and "x", which it does not know
(tensor([[1, 3, 0]]), tensor([[True, True, False]]))

A character that training did not have is read as a blank (as the first character, if there is no blank), and is not
scored: a model cannot give it a probability.
"""

import torch
from torch import Tensor, nn

BLANK = " "


class Vocabulary(nn.Module):
    """characters: all of them, sorted, each once. len() is their number."""

    codes: Tensor

    def __init__(self, characters: str):
        super().__init__()
        self.characters = characters
        self.register_buffer("codes", torch.tensor([ord(one) for one in characters]), persistent=False)
        self.unknown = max(0, characters.find(BLANK))

    def __len__(self) -> int:
        return len(self.characters)

    def encode(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Code points (...) -> ids (...), and whether each is known (...); what is not is read as a blank."""
        ids = torch.searchsorted(self.codes, codes).clamp(max=len(self) - 1)
        known = self.codes[ids] == codes
        return ids.masked_fill(~known, self.unknown), known

    def decode(self, ids: Tensor) -> str:
        """The text of ids (N,)."""
        return "".join(self.characters[number] for number in ids.tolist())

    def lacks(self, text: str) -> str:
        """The characters of a text that are not known, each once."""
        return "".join(dict.fromkeys(one for one in text if one not in self.characters))
