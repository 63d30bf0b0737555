"""What the paper and its reviewers said of masks, beside what runs say: `python -m scripts.studies.claims`."""
