"""Mirrors the folders that it tests."""
