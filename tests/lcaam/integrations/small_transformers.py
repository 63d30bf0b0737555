"""transformers models that are small, have random weights and attend sharply; what to call each with."""

from collections.abc import Callable
from typing import Any

import torch
import transformers as hf
from torch import Tensor, nn

from lcaam import LayerMasks
from lcaam.integrations.transformers import attach

WIDTH, LAYERS, HEADS, WORDS, LENGTH = 24, 2, 4, 37, 7
TEXT = dict(
    vocab_size=WORDS,
    hidden_size=WIDTH,
    intermediate_size=32,
    num_hidden_layers=LAYERS,
    num_attention_heads=HEADS,
    initializer_range=0.3,
)
SPECIAL = dict(pad_token_id=0, bos_token_id=1, eos_token_id=2)
IMAGE = dict(
    hidden_size=WIDTH,
    intermediate_size=32,
    num_hidden_layers=LAYERS,
    num_attention_heads=3,
    image_size=12,
    patch_size=4,
    initializer_range=0.3,
)
KEY_HEADS = dict(num_key_value_heads=2)
BART = dict(
    vocab_size=WORDS,
    d_model=WIDTH,
    encoder_layers=LAYERS,
    decoder_layers=LAYERS,
    encoder_attention_heads=HEADS,
    decoder_attention_heads=HEADS,
    encoder_ffn_dim=32,
    decoder_ffn_dim=32,
    init_std=0.3,
    max_position_embeddings=32,
    forced_eos_token_id=None,
    **SPECIAL,
)

MODELS: dict[str, Callable[[], nn.Module]] = {
    "Bert": lambda: hf.BertModel(hf.BertConfig(**TEXT)),
    "Roberta": lambda: hf.RobertaModel(hf.RobertaConfig(**TEXT, **SPECIAL)),
    "Electra": lambda: hf.ElectraModel(hf.ElectraConfig(**TEXT, embedding_size=WIDTH)),
    "DistilBert": lambda: hf.DistilBertModel(
        hf.DistilBertConfig(
            vocab_size=WORDS, dim=WIDTH, hidden_dim=32, n_layers=LAYERS, n_heads=HEADS, initializer_range=0.3
        )
    ),
    "ModernBert": lambda: hf.ModernBertModel(
        hf.ModernBertConfig(**TEXT, **SPECIAL, cls_token_id=1, sep_token_id=2, local_attention=4)
    ),
    "Llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**TEXT, **SPECIAL, **KEY_HEADS)),
    "Qwen3": lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**TEXT, **SPECIAL, **KEY_HEADS, head_dim=6)),
    "Mistral": lambda: hf.MistralForCausalLM(hf.MistralConfig(**TEXT, **SPECIAL, **KEY_HEADS, sliding_window=4)),
    "GPT2": lambda: hf.GPT2LMHeadModel(
        hf.GPT2Config(
            vocab_size=WORDS,
            n_embd=WIDTH,
            n_layer=LAYERS,
            n_head=HEADS,
            n_positions=32,
            initializer_range=0.3,
            **SPECIAL,
        )
    ),
    "OPT": lambda: hf.OPTForCausalLM(
        hf.OPTConfig(
            vocab_size=WORDS,
            hidden_size=WIDTH,
            ffn_dim=32,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            word_embed_proj_dim=WIDTH,
            max_position_embeddings=32,
            init_std=0.3,
            **SPECIAL,
        )
    ),
    "GPTNeoX": lambda: hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**TEXT, **SPECIAL)),
    "ViT": lambda: hf.ViTModel(hf.ViTConfig(**IMAGE)),
    "CLIP": lambda: hf.CLIPVisionModel(hf.CLIPVisionConfig(**IMAGE, initializer_factor=2.0)),
    "CLIPText": lambda: hf.CLIPTextModel(
        hf.CLIPTextConfig(**TEXT, **SPECIAL, max_position_embeddings=16, initializer_factor=2.0)
    ),
    "DINOv2": lambda: hf.Dinov2Model(
        hf.Dinov2Config(
            **{name: IMAGE[name] for name in IMAGE if name != "intermediate_size"}, layerscale_value=1.0, mlp_ratio=2
        )
    ),
    "DINOv3": lambda: hf.DINOv3ViTModel(hf.DINOv3ViTConfig(**IMAGE)),
    "Beit": lambda: hf.BeitModel(hf.BeitConfig(**IMAGE, layer_scale_init_value=1.0)),
    "Bart": lambda: hf.BartForConditionalGeneration(hf.BartConfig(**BART)),
}
DECODERS = ("Llama", "Qwen3", "Mistral", "GPT2", "OPT", "GPTNeoX", "Bart")
REFUSED: dict[str, Callable[[], nn.Module]] = {
    "Bloom": lambda: hf.BloomModel(hf.BloomConfig(vocab_size=WORDS, hidden_size=WIDTH, n_layer=LAYERS, n_head=HEADS)),
    "DebertaV2": lambda: hf.DebertaV2Model(hf.DebertaV2Config(**TEXT)),
    "VideoMAE": lambda: hf.VideoMAEModel(hf.VideoMAEConfig(**IMAGE, num_frames=2)),
    "Gemma2": lambda: hf.Gemma2ForCausalLM(hf.Gemma2Config(**TEXT, **SPECIAL, **KEY_HEADS, head_dim=6)),
    "GptOss": lambda: hf.GptOssForCausalLM(
        hf.GptOssConfig(**TEXT, **SPECIAL, **KEY_HEADS, head_dim=6, num_local_experts=4, num_experts_per_tok=2)
    ),
    "T5": lambda: hf.T5Model(
        hf.T5Config(vocab_size=WORDS, d_model=WIDTH, d_kv=6, d_ff=32, num_layers=LAYERS, num_heads=HEADS)
    ),
    "Swin": lambda: hf.SwinModel(
        hf.SwinConfig(image_size=16, patch_size=2, embed_dim=12, depths=[2, 2], num_heads=[2, 4], window_size=2)
    ),
}


def small(name: str) -> Any:
    """A model of that name, the same every time, for evaluation."""
    torch.manual_seed(0)
    return (MODELS | REFUSED)[name]().eval()


def inputs(name: str, batch: int = 3, seed: int = 0) -> dict[str, Tensor]:
    """What to call a model with."""
    generator = torch.Generator().manual_seed(seed)
    if name in ("ViT", "CLIP", "DINOv2", "DINOv3", "Beit"):
        return {"pixel_values": torch.randn(batch, 3, 12, 12, generator=generator)}
    ids = torch.randint(3, WORDS, (batch, LENGTH), generator=generator)
    return {"input_ids": ids, "decoder_input_ids": ids.flip(0, 1)[:, :5]} if name == "Bart" else {"input_ids": ids}


def random_masks(model: Any, seed: int = 2) -> None:
    """Masks that are anything but the identity: values around 0, of either sign."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.lcaam.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)


def layer_masks(scope: str = "per_layer", **options: Any) -> LayerMasks:
    """Masks for one stack of such a model, with room for 20 keys."""
    return LayerMasks(scope, LAYERS, **dict(dim=WIDTH, num_keys=20, depth=2) | options)


def with_masks(name: str, scope: str = "per_layer", where: str | None = None, **options: Any) -> Any:
    """A model with random masks, in double precision."""
    model = attach(small(name), layer_masks(scope, **options), where).double()
    random_masks(model)
    return model


def padded(*lengths: int) -> dict[str, Tensor]:
    """Texts of that many tokens with padding at the left, and their attention mask."""
    keep = torch.arange(LENGTH) >= LENGTH - torch.tensor(lengths)[:, None]
    return {
        "input_ids": torch.where(keep, inputs("Llama", len(lengths))["input_ids"], 0),
        "attention_mask": keep.long(),
    }
