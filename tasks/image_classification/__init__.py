"""Which of the classes an image shows: ImageNet-1K with a Vision Transformer from timm."""
