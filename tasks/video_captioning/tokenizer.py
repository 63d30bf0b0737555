"""Words and their ids: BERT's WordPiece tokenizer, a pretrained one or one learned from the training captions.

>>> tokenizer = train(["a red seven slides to the left"], vocab_size=100)
>>> ids, keep = encode(tokenizer, ["a red seven"], longest=50)  # (B, T) and (B, T): [CLS] a red seven [SEP]
"""

from collections import Counter

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from tasks.common.errors import CheckpointError
from tasks.common.pretrained import check_files, from_pretrained
from tasks.video_captioning.beam_search import Special

SPECIAL = {  # ids 0 to 4
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


def train(captions: list[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A tokenizer like bert-base-uncased's: all characters, and the commonest words up to `vocab_size` entries.

    Other words are spelled, so there are more entries if the characters alone need more. The same captions give the
    same ids (the library's own trainer breaks ties at random).
    ValueError: no captions.
    """
    if not captions:
        raise ValueError("a tokenizer needs training captions, got none")
    normaliser, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    texts = (normaliser.normalize_str(caption) for caption in captions)
    counts = Counter(word for text in texts for word, _ in splitter.pre_tokenize_str(text))
    letters = sorted({letter for word in counts for letter in word})
    common = sorted(counts, key=lambda word: (-counts[word], word))
    entries = dict.fromkeys([*SPECIAL.values(), *letters, *(f"##{letter}" for letter in letters), *common])
    size = max(vocab_size, len(SPECIAL) + 2 * len(letters))
    vocabulary = {entry: number for number, entry in enumerate([*entries][:size])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=SPECIAL["unk_token"]))
    tokenizer.normalizer, tokenizer.pre_tokenizer, tokenizer.decoder = normaliser, splitter, decoders.WordPiece()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL)


def pretrained(name: str) -> PreTrainedTokenizerFast:
    """A tokenizer with BERT's special tokens, from a folder or the hub. CheckpointError: not found, or without them."""
    from transformers import AutoTokenizer

    what = (
        "a tokenizer (bert-base-uncased's tokenizer.json or vocab.txt; task.tokenizer=null learns one from the "
        "training captions)"
    )
    check_files("task.tokenizer", name)
    with from_pretrained("task.tokenizer", name, what, "tokenizer*", "vocab.txt", "special_tokens_map.json"):
        tokenizer = AutoTokenizer.from_pretrained(name)
    if lacking := [token for token in SPECIAL if getattr(tokenizer, token, None) is None]:
        raise CheckpointError(f"tokenizer: {name!r} has no {', '.join(lacking)}: it is not a BERT's")
    if not tokenizer.is_fast:
        raise CheckpointError(f"tokenizer: {name!r} has no fast form (tokenizer.json)")
    return tokenizer


def load(json: str) -> PreTrainedTokenizerFast:
    """The tokenizer that `dump` wrote."""
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json), **SPECIAL)


def dump(tokenizer: PreTrainedTokenizerFast) -> str:
    return tokenizer.backend_tokenizer.to_str()


def special(tokenizer: PreTrainedTokenizerFast) -> Special:
    """The ids that masking and decoding need."""
    return Special(tokenizer.pad_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.mask_token_id)


def encode(tokenizer: PreTrainedTokenizerFast, captions: list[str], longest: int) -> tuple[Tensor, Tensor]:
    """ids (B, T) of [CLS] words [SEP], padded to the longest caption, and which are real, (B, T) bool.

    Words beyond `longest` tokens are cut off; [SEP] stays.
    """
    found = tokenizer(captions, add_special_tokens=False)["input_ids"]
    first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
    rows = [torch.tensor([first, *ids[: longest - 2], last]) for ids in found]
    lengths = torch.tensor([len(row) for row in rows])
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=tokenizer.pad_token_id)
    return ids, torch.arange(ids.shape[1]) < lengths[:, None]


def decode(tokenizer: PreTrainedTokenizerFast, ids: Tensor) -> list[str]:
    """ids (B, T) -> a text for each row, without special tokens."""
    return [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]
