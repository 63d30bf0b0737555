"""Generators of small data sets: real handwriting and real or synthesised sounds, in the formats of the real data."""
