"""One folder per task: what is learned, how it is trained and how it is scored. `common/` is what all of them share."""
