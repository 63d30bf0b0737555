"""Moments that a sentence describes, and the highlights of a video: QVHighlights with QD-DETR."""
