"""The tokenizer of a language model trained from scratch: byte-pair encoding learned from the training captions."""

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

SPECIAL = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}  # ids 0, 1, 2 as in LLaMA


def train(captions: list[str], vocab_size: int = 512) -> PreTrainedTokenizerFast:
    """A LLaMA-like tokenizer (word boundary as a visible character) with at most `vocab_size` entries."""
    if not captions:
        raise ValueError("a tokenizer needs training captions, got none")
    tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL["unk_token"]))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=[*SPECIAL.values()], show_progress=False)
    tokenizer.train_from_iterator(captions, trainer)
    return wrap(tokenizer)


def load(json: str) -> PreTrainedTokenizerFast:
    """The tokenizer that `dump` wrote."""
    return wrap(Tokenizer.from_str(json))


def dump(tokenizer: PreTrainedTokenizerFast) -> str:
    return tokenizer.backend_tokenizer.to_str()


def wrap(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    # LLaMA has no padding token; the unknown token is used instead, and padding never counts in a loss
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=SPECIAL["unk_token"], **SPECIAL)
