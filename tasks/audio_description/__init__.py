"""What is seen and heard in a movie, in one sentence: MAD-v2 with a frozen LLaMA and a learned visual prefix."""
