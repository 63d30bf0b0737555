"""What happens in a video, in one sentence: MSR-VTT with SwinBERT."""
