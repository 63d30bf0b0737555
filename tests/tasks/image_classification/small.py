"""A small classifier and images that it can memorise."""

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from tasks.image_classification.module import ImageClassification

CLASSES, SIZE = 7, 12
SIZES = dict(patch_size=4, embed_dim=12, depth=2, num_heads=3, mlp_ratio=2.0)  # 9 patches and the class token
QUIET = dict(logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu")
FACTS = {"classes": CLASSES, "image_size": SIZE, "class_names": None, "train_counts": [3, 2, 2, 2, 9, 2, 1]}


def mask_node(scope="none", fusion="mul", **changes):
    """The configuration's mask node."""
    node = {"scope": scope, "kind": "context", "fusion": fusion if scope != "none" else "none", "depth": 3, "hidden": 5}
    node |= {"rank": None, "groups": 1, "residual": False, "init": "identity", "length": "fixed", "num_keys": None}
    return node | {"hard": False, "sparsity": 0.0, "control": "none", "control_residual": True} | changes


def build(scope="none", fusion="mul", seed=0, mask_changes=None, facts=None, **changes):
    torch.manual_seed(seed)
    options = dict(model_name="vit_tiny_patch16_224", model_options=dict(SIZES), lr=2e-3)
    mask = mask_node(scope, fusion, **(mask_changes or {}))
    return ImageClassification(mask=mask, facts={**FACTS, **(facts or {})}, **{**options, **changes})


def pictures(count=21, seed=0, classes=CLASSES):
    """A batch of random images, of every class in turn."""
    image = torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    return {"image": image, "label": torch.arange(count) % classes, "name": [f"{i:03}.png" for i in range(count)]}


class Pictures(pl.LightningDataModule):
    """The same batch in training, validation and test, `steps` times per epoch."""

    def __init__(self, steps=100, count=21):
        super().__init__()
        self.steps, self.count = steps, count

    def train_dataloader(self):
        return DataLoader([pictures(self.count)] * self.steps, batch_size=None)

    def val_dataloader(self):
        """Batches of unequal sizes."""
        whole = pictures(self.count)
        cuts = [{name: value[:8] for name, value in whole.items()}, {name: value[8:] for name, value in whole.items()}]
        return DataLoader(cuts, batch_size=None)

    test_dataloader = val_dataloader

    def facts(self):
        return FACTS

    def linear_floor(self):
        return 0.25

    def oracle(self):
        whole = pictures(self.count)
        return {
            name: label if label != 2 else 0 for name, label in zip(whole["name"], whole["label"].tolist(), strict=True)
        }


def fit(module, folder, steps=100, data=None, ckpt_path=None, **options):
    trainer = pl.Trainer(max_steps=steps, default_root_dir=folder, num_sanity_val_steps=0, **{**QUIET, **options})
    trainer.fit(module, data or Pictures(), ckpt_path=ckpt_path)
    return trainer
