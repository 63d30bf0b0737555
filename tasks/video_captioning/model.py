"""SwinBERT (Lin et al., CVPR 2022): video captioning by a masked language model over [video; text], with LCAAM.

    model = SwinBert(vocab_size=30522, backbone=VideoSwin("base"), mask=cfg.mask)
    features = model.encode(frames)                       # (B, 784, 1024)
    loss = model.loss(features, *hide(...), text_keep)    # masking.py
    captions = model.generate(features)                   # beam_search.py

frames -> Video Swin -> grid of tokens -> 512 -> 768 -> followed by the caption's embeddings -> BERT with masks -> words
Video tokens have no position, no token type and no LayerNorm before the first layer, as in the original, whose BERT
starts at random too.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertEmbeddings, BertPredictionHeadTransform

from configs.errors import ConfigError
from lcaam.controls import count
from lcaam.drawing import drawn_apart
from lcaam.plan import mask_options, mask_parameters
from lcaam.stack import find_kind
from tasks.common.errors import CheckpointError
from tasks.common.pretrained import WEIGHTS, check_files, from_pretrained
from tasks.video_captioning.beam_search import Captions, Special, generate
from tasks.video_captioning.bert import BertStack, may_attend
from tasks.video_captioning.masking import IGNORED

STD = 0.02  # standard deviation of BERT's initial weights
BERT_SIZES = {
    "vocab_size": "vocab_size",
    "hidden_size": "width",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "intermediate_size": "feedforward",
    "max_position_embeddings": "positions",
}


class Head(nn.Module):
    """States (..., D) -> a logit for each word (..., vocabulary); its weights are not those of the embedding."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.transform = BertPredictionHeadTransform(config)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.transform(x))


class SwinBert(nn.Module):
    """The model; its defaults are SwinBERT's on MSR-VTT.

    vocab_size: entries of the tokenizer. feature_dim: width of the backbone's tokens. video_tokens: tokens per video.
    text_tokens: length of the longest caption with [CLS] and [SEP]. video_dim: width between backbone and BERT; None
        leaves that projection out.
    width, layers, heads, feedforward, positions: BERT's. dropout: on attention weights, residual branches, embeddings.
    mask: the configuration's mask node (lcaam.plan), or None. Context-aware masks cover all N = video_tokens +
        text_tokens tokens, masks of a kind that does not grow (static) cover the video's. Allowed lengths are "fixed"
        and "content".
    backbone: frames -> (B, video_tokens, feature_dim); None if features were computed before.
    video_positions: adds a learned embedding of its place to each video token. The original has none: a backbone's
        tokens know their places, features of patches do not.
    pretrained: folder or hub id of a BERT whose sizes these are; None starts at random, as the original does.

    Raises ValueError for sizes that do not fit, CheckpointError for a BERT that cannot be found or is of other sizes.
    """

    def __init__(
        self,
        vocab_size: int = 30522,
        feature_dim: int = 1024,
        video_tokens: int = 784,
        text_tokens: int = 50,
        video_dim: int | None = 512,
        width: int = 768,
        layers: int = 12,
        heads: int = 12,
        feedforward: int = 3072,
        positions: int = 512,
        dropout: float = 0.1,
        mask: dict[str, Any] | None = None,
        backend: str = "auto",
        backbone: nn.Module | None = None,
        video_positions: bool = False,
        pretrained: str | None = None,
    ):
        super().__init__()
        for name, size in {
            "video_tokens": video_tokens,
            "text_tokens": text_tokens,
            "feature_dim": feature_dim,
        }.items():
            if size < 1:
                raise ValueError(f"SwinBert: {name} must be at least 1, got {size}")
        if width % heads:
            raise ValueError(f"SwinBert: heads={heads} does not divide width={width}")
        if text_tokens > positions:
            raise ValueError(f"SwinBert: {text_tokens} text_tokens need as many positions, there are {positions}")
        sizes = dict(vocab_size=vocab_size, width=width, layers=layers, heads=heads, feedforward=feedforward)
        sizes |= {"positions": positions}
        config = BertConfig(**{theirs: sizes[ours] for theirs, ours in BERT_SIZES.items()})
        config.hidden_dropout_prob = config.attention_probs_dropout_prob = dropout
        self.vocab_size, self.feature_dim = vocab_size, feature_dim
        self.video_tokens, self.text_tokens = video_tokens, text_tokens
        self.backbone = backbone
        self.project = nn.Identity() if video_dim is None else nn.Linear(feature_dim, video_dim)
        self.video_embedding = nn.Linear(feature_dim if video_dim is None else video_dim, width)
        self.video_positions = nn.Parameter(torch.zeros(video_tokens, width)) if video_positions else None
        self.dropout = nn.Dropout(dropout)
        self.embeddings = BertEmbeddings(config)
        masked = masks_of_captioning(mask, layers, width, video_tokens, text_tokens)
        self.stack = BertStack(config, backend=backend, **masked)
        self.head = Head(config)
        self.reset_parameters()
        if pretrained is not None:
            load_bert(self, config, pretrained)

    def reset_parameters(self) -> None:
        """BERT's initialisation; the backbone, `project`, masks and linear controls keep their own."""
        own = {id(module) for layer in self.stack.layers for module in layer.after_attention.modules()}

        def start(*parts: nn.Module) -> None:
            for module in (module for part in parts for module in part.modules() if id(module) not in own):
                if isinstance(module, nn.Linear | nn.Embedding):
                    nn.init.normal_(module.weight, std=STD)
                    if getattr(module, "bias", None) is not None:
                        nn.init.zeros_(module.bias)

        start(self.video_embedding, self.embeddings, *self.stack.own_layers(), self.head)
        with drawn_apart("extra layers, BERT's initialisation"):
            start(*self.stack.extra_layers())
        if self.video_positions is not None:
            nn.init.normal_(self.video_positions, std=STD)

    # -- from video and words to states --------------------------------------------------------------------------------

    def encode(self, frames: Tensor) -> Tensor:
        """frames (B, F, 3, height, width), normalised -> features (B, V, feature_dim). ValueError: no backbone."""
        if self.backbone is None:
            raise ValueError("this model has no backbone: give it features, or build it with one")
        return self.backbone(frames)

    def embed_video(self, features: Tensor) -> Tensor:
        """features (B, V, feature_dim) -> (B, V, D), V the model's video_tokens, or ValueError."""
        if features.dim() != 3 or features.shape[1] != self.video_tokens:
            raise ValueError(
                f"features must be (B, {self.video_tokens}, C), a token for each of the model's video_tokens; got "
                f"{tuple(features.shape)}"
            )
        x = self.video_embedding(self.project(features))
        return self.dropout(x if self.video_positions is None else x + self.video_positions)

    def embed_text(self, input_ids: Tensor, start: int = 0) -> Tensor:
        """input_ids (B, T) of words from position `start` on -> (B, T, D). ValueError for too many."""
        stop = start + input_ids.shape[1]
        if stop > self.text_tokens:
            raise ValueError(f"a caption of {stop} tokens, the model was built for {self.text_tokens} (text_tokens)")
        place = torch.arange(start, stop, device=input_ids.device)[None]
        return self.embeddings(input_ids=input_ids, token_type_ids=torch.zeros_like(input_ids), position_ids=place)

    def text_states(self, features: Tensor, input_ids: Tensor, text_keep: Tensor) -> Tensor:
        """The encoder's output at the words, (B, T, D); arguments as in `forward`."""
        x = torch.cat([self.embed_video(features), self.embed_text(input_ids)], 1)
        return self.stack(x, may_attend(text_keep, self.video_tokens))[:, self.video_tokens :]

    def forward(self, features: Tensor, input_ids: Tensor, text_keep: Tensor) -> Tensor:
        """features (B, V, feature_dim), input_ids (B, T), text_keep (B, T) bool, True = a real word
        -> logits (B, T, vocabulary). Those of a word depend on the video and on words up to it, itself included."""
        return self.head(self.text_states(features, input_ids, text_keep))

    def loss(self, features: Tensor, input_ids: Tensor, labels: Tensor, text_keep: Tensor) -> Tensor:
        """Mean cross-entropy (nats) of the hidden words, over the batch. labels (B, T), as masking.hide gives them."""
        hidden = labels != IGNORED
        states = self.text_states(features, input_ids, text_keep)[hidden]
        return F.cross_entropy(self.head(states).float(), labels[hidden])

    def generate(self, features: Tensor, special: Special | None = None, **options) -> Captions:
        """A caption per video; options: num_beams, max_length, length_penalty, cache, as in beam_search.generate."""
        return generate(self, features, special, **options)

    def parts(self) -> dict[str, int]:
        """Parameter counts by part; `controls` counts what replaces the masks."""
        masks, controls = mask_parameters(self.stack)
        encoder = count(self.project, self.video_embedding, self.embeddings, self.stack) - masks - controls
        encoder += 0 if self.video_positions is None else self.video_positions.numel()
        backbone = 0 if self.backbone is None else count(self.backbone)
        return {
            "backbone": backbone,
            "encoder": encoder,
            "head": count(self.head),
            "masks": masks,
            "controls": controls,
        }


def masks_of_captioning(mask: dict | None, layers: int, width: int, video: int, text: int) -> dict[str, Any]:
    """Keywords of BertStack for the mask. ConfigError (a ValueError) for a mask that [video; text] cannot have."""
    if mask is None:
        return {}
    if not find_kind(mask.get("kind", "context")).grows:  # a mask of the tokens that are there from the start
        return mask_options({**mask, "num_keys": None}, layers, width, num_keys=video)
    if mask["scope"] != "none":
        if mask.get("length", "fixed") == "interpolate":
            raise ConfigError(
                "mask.length=interpolate moves a mask's columns with every word that is written: use fixed or content"
            )
        if mask.get("num_keys") and mask["num_keys"] < video + text and mask.get("length", "fixed") == "fixed":
            raise ConfigError(
                f"mask.num_keys: {mask['num_keys']} is fewer than the {video} + {text} tokens of video and text; "
                "leave mask.num_keys=null to fit the data"
            )
    return mask_options(mask, layers, width, num_keys=video + text, boundaries=(video,))


def load_bert(model: SwinBert, config: BertConfig, name: str) -> None:
    """Copies embeddings, layers and head of a pretrained BERT into `model`."""
    from transformers import AutoConfig, BertForMaskedLM

    check_files("task.bert", name)
    with from_pretrained("task.bert", name, "a BERT", "config.json"):
        found = AutoConfig.from_pretrained(name)
    if found.model_type != "bert":
        raise CheckpointError(f"task.bert: {name!r} is a model of type {found.model_type!r}, expected 'bert'")
    other = [
        f"{ours}={getattr(config, theirs)} (its own: {getattr(found, theirs)})"
        for theirs, ours in BERT_SIZES.items()
        if getattr(found, theirs) != getattr(config, theirs)
    ]
    if other:
        raise CheckpointError(f"task.bert: {name!r} is of other sizes than the model: {', '.join(other)}")
    with from_pretrained("task.bert", name, "a BERT's weights", "config.json", *WEIGHTS):
        bert = BertForMaskedLM.from_pretrained(name)
    model.embeddings.load_state_dict(bert.bert.embeddings.state_dict())
    for layer, theirs in zip(model.stack.layers, bert.bert.encoder.layer, strict=False):
        layer.load_state_dict(theirs.state_dict(), strict=False)  # a control's module is not in it
    head = bert.cls.predictions
    model.head.transform.load_state_dict(head.transform.state_dict())
    model.head.decoder.load_state_dict(head.decoder.state_dict())
