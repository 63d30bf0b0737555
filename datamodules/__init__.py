"""LightningDataModules, one a data set; `mini` writes small data sets in the same on-disk formats."""
