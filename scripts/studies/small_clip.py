"""A CLIP small enough to be trained in a minute or two: pictures and sentences, contrasted with each other.

    clip = train_clip(frames, sentences, kinds, steps=800, seed=0)     # a ClipExtractor
    save(clip, Path("small_clip"))                                     # a folder that --clip takes

It is transformers' CLIPModel with a small configuration, CLIP's tokenizer trained on these sentences, and CLIP's image
processor. The loss is CLIP's, but pictures and sentences of one kind count as right answers to each other.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from tasks.common.clip_extractor import ClipExtractor

WIDTH, PROJECTION, LAYERS, HEADS, PATCH = 64, 64, 2, 4, 12
VOCABULARY, TOKENS = 400, 16  # pieces of words, tokens of a sentence at most


def new_clip(sentences: Sequence[str], size: int, seed: int) -> ClipExtractor:
    """Untrained. sentences: what the tokenizer is made of; size: side of a picture in pixels, a multiple of PATCH."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

    tokenizer = CLIPTokenizer().train_new_from_iterator(sentences, VOCABULARY)
    shared = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_hidden_layers": LAYERS}
    shared |= {"num_attention_heads": HEADS, "projection_dim": PROJECTION}
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    config = CLIPConfig(
        text_config={**shared, **ids, "vocab_size": len(tokenizer), "max_position_embeddings": TOKENS},
        vision_config={**shared, "image_size": size, "patch_size": PATCH},
        projection_dim=PROJECTION,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = CLIPModel(config)
    pixels = CLIPImageProcessor(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
    return ClipExtractor(model, tokenizer, pixels)


def train_clip(
    frames: np.ndarray, sentences: Sequence[str], kinds: Sequence[int], *, steps: int, seed: int, batch_size: int = 128,
    lr: float = 2e-3,
) -> ClipExtractor:  # fmt: skip
    """frames: (N, S, S, 3) uint8; sentences: N; kinds: N numbers, equal where picture and sentence mean the same."""
    clip = new_clip(sentences, frames.shape[1], seed)
    rng, model = np.random.default_rng(seed), clip.model.train()
    pixels = torch.cat([clip.prepared(list(part)) for part in np.array_split(frames, 1 + len(frames) // 256)])
    tokens = clip.tokenizer(list(sentences), padding=True, return_tensors="pt")
    kind = torch.as_tensor(kinds)
    optimiser = torch.optim.AdamW(model.parameters(), lr, betas=(0.9, 0.98), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps, pct_start=0.15)
    for _ in range(steps):
        chosen = torch.from_numpy(rng.integers(len(kind), size=batch_size))
        found = model(pixel_values=pixels[chosen], **{name: values[chosen] for name, values in tokens.items()})
        same = (kind[chosen][:, None] == kind[chosen]).float()
        target = same / same.sum(1, keepdim=True)
        loss = F.cross_entropy(found.logits_per_image, target) + F.cross_entropy(found.logits_per_text, target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    model.eval()
    return clip


def save(clip: ClipExtractor, folder: Path) -> None:
    """Weights, tokenizer and image processor, as `ClipExtractor.load` reads them."""
    for part in (clip.model, clip.tokenizer, clip.pixels):
        part.save_pretrained(folder)
