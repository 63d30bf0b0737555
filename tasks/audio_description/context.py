"""What the language model reads before it describes: earlier descriptions and subtitles, within a token budget.

    beginning of sentence | "Before:" sentences, oldest first | "Dialogue:" sentences | the prompt | the description

    prompts = PromptBuilder(tokenizer, "Describe the scene: ", Context(previous_tokens=64))
    prompts.rows(2, previous=[["He runs."], []])  # two lists of token ids, the second without context

The data module chooses which of them a batch has (data.previous, data.subtitles); without them every row is the
beginning of sentence and the prompt.
"""

from collections import defaultdict, deque
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from configs.knobs import Count, check_ranges
from tasks.common.errors import CheckpointError

IGNORED = -100  # label of positions that do not count in the loss


@dataclass
class Context:
    """The task node's `context`. It is an extension: neither the paper nor LLaMA-Adapter has its wording or budgets.

    previous_label, subtitles_label: text before the sentences of each kind. separator: text after each label and
    sentence. previous_tokens, subtitle_tokens: most tokens of each kind, label included; the oldest sentences are left
    out first, and if the last one is too long by itself, its first words.
    """

    previous_label: str = "Before:"
    subtitles_label: str = "Dialogue:"
    separator: str = "\n"
    previous_tokens: Count = 128
    subtitle_tokens: Count = 128

    def __post_init__(self):
        check_ranges(self)


class History:
    """The last `count` descriptions that a model gave each movie: its own context (data.previous=predicted).

    The data module hands out batches in which no row comes before another of its movie is described.
    """

    def __init__(self, count: int):
        self.said: dict[str, deque[str]] = defaultdict(lambda: deque(maxlen=count))

    def before(self, movies: list[str]) -> list[list[str]]:
        """For every row, the descriptions of its movie so far, oldest first."""
        return [list(self.said[movie]) for movie in movies]

    def add(self, rows: list[dict]) -> None:
        """rows: dicts with `movie` and `generated`, in the order of time."""
        for row in rows:
            self.said[row["movie"]].append(row["generated"])


class PromptBuilder:
    """Prompts as token ids. `tokenizer` needs a beginning-of-sentence token, which is set here explicitly: whether a
    LLaMA tokenizer adds one by itself differs between releases."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompt: str = "", context: Context | None = None):
        self.tokenizer, self.context = tokenizer, context or Context()
        self.prompt_ids = self.ids(prompt)
        self.marks = {tokenizer.bos_token_id, tokenizer.eos_token_id}

    def ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def rows(
        self, size: int, previous: list[list[str]] | None = None, subtitles: list[list[str]] | None = None
    ) -> list[list[int]]:
        """Token ids of every row's prompt; previous, subtitles: None, or per row a list of sentences, oldest first."""
        c = self.context
        kinds = [
            (previous, c.previous_label, c.previous_tokens),
            (subtitles, c.subtitles_label, c.subtitle_tokens),
        ]
        rows = []
        for i in range(size):
            blocks = [self.block(label, given[i], budget) for given, label, budget in kinds if given is not None]
            rows.append([self.tokenizer.bos_token_id, *(id for block in blocks for id in block), *self.prompt_ids])
        return rows

    def block(self, label: str, sentences: list[str], budget: int) -> list[int]:
        """The newest of `sentences` after their label, in at most `budget` tokens; an empty list if none fits."""
        sentences = [sentence.strip() for sentence in sentences]
        while sentences := [sentence for sentence in sentences if sentence]:
            ids = self.ids("".join(part + self.context.separator for part in (label, *sentences) if part))
            ids = [id for id in ids if id not in self.marks]  # subtitles come with <s> for struck text
            if len(ids) <= budget:
                return ids
            sentences = sentences[1:] if len(sentences) > 1 else [" ".join(sentences[0].split()[1:])]
        return []

    def longest(self, previous: bool, subtitles: bool) -> int:
        """The most tokens that a prompt with these kinds of context takes.

        CheckpointError: a budget that its own label uses up, which would leave no context at all.
        """
        c = self.context
        for used, label, name in (
            (previous, c.previous_label, "previous_tokens"),
            (subtitles, c.subtitles_label, "subtitle_tokens"),
        ):
            taken, budget = len(self.ids(label + c.separator)) if label else 0, getattr(c, name)
            if used and taken >= budget:
                raise CheckpointError(
                    f"task.context.{name}: {budget} leaves no room for a sentence: the label {label!r} and its "
                    f"separator take {taken} tokens"
                )
        return 1 + len(self.prompt_ids) + previous * c.previous_tokens + subtitles * c.subtitle_tokens

    def check_positions(self, previous: bool, subtitles: bool, written: int, positions: int) -> None:
        """Raises CheckpointError if a prompt with its context and `written` tokens behind it need more positions than
        the language model has. previous, subtitles: as in `longest`; without either there is no context to shorten."""
        most = self.longest(previous, subtitles) + written
        if (previous or subtitles) and most > positions:
            raise CheckpointError(
                f"task.context: a prompt with its context and a description may take {most} tokens, and the language "
                f"model has {positions} positions; allowed: smaller task.context.previous_tokens, subtitle_tokens or "
                f"task.decoding.max_new_tokens, {most - positions} fewer in all, or a model with more"
            )

    def for_training(self, prompts: list[list[int]], texts: list[str]) -> tuple[Tensor, Tensor]:
        """Inputs and labels (B, T): each prompt with its description, padded on the right; only descriptions count.

        Under causal attention padding on the right reaches no real position, so there is no mask.
        """
        bodies = [[*self.ids(text), self.tokenizer.eos_token_id] for text in texts]
        pairs = list(zip(prompts, bodies, strict=True))
        self.check_beginnings(prompts)
        rows = [torch.tensor([*prompt, *body]) for prompt, body in pairs]
        wanted = [torch.tensor([IGNORED] * len(prompt) + body) for prompt, body in pairs]
        pad = torch.nn.utils.rnn.pad_sequence
        ids = pad(rows, batch_first=True, padding_value=self.tokenizer.pad_token_id)
        labels = pad(wanted, batch_first=True, padding_value=IGNORED)
        return ids[:, :-1], labels[:, 1:]

    def for_generation(self, prompts: list[list[int]]) -> tuple[Tensor, Tensor]:
        """Token ids and keep (B, T; 1 = real), padded on the left: every row ends where its description begins."""
        self.check_beginnings(prompts)
        longest = max(map(len, prompts))
        missing = [longest - len(prompt) for prompt in prompts]
        pad = self.tokenizer.pad_token_id
        ids = torch.tensor([[pad] * gap + prompt for gap, prompt in zip(missing, prompts, strict=True)])
        keep = torch.tensor([[0] * gap + [1] * (longest - gap) for gap in missing])
        return ids, keep

    def check_beginnings(self, prompts: list[list[int]]) -> None:
        """Refuses prompts without a beginning of sentence: LLaMA would answer all the same, only worse."""
        bos, pad = self.tokenizer.bos_token_id, self.tokenizer.pad_token_id
        if bos is None or pad is None:
            raise ValueError(f"the tokenizer has no beginning of sentence or no padding (bos={bos}, pad={pad})")
        for prompt in prompts:
            if prompt[:1] != [bos] or bos in prompt[1:]:
                raise ValueError(f"a prompt must begin with the one beginning of sentence ({bos}), got {prompt[:8]}")
