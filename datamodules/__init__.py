"""One folder per task: its LightningDataModule, readers, and `mini/`, which generates small data in the same files."""
