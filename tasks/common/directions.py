"""Which way a metric is better, by its name: the table, the report and W&B ask here."""

LOWER = ("loss", "nats", "perplexity", "bits_per_character")  # ends of names; less is better


def higher_is_better(metric: str) -> bool:
    return not metric.endswith(LOWER)
