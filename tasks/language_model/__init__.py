"""Which character comes next: a causal Transformer of characters, with masks."""
