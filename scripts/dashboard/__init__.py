"""A sweep's workspace and report of W&B, as code."""
