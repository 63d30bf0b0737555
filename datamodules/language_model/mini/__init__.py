"""Generates a small data set of this task in the files of the real one."""
