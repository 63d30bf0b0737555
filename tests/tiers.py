"""Which tests run always, and which only with `make test-all`.

Slow is what takes minutes or gigabytes, and of several whole runs that differ in one setting those whose setting faster
tests have too.
"""

import pytest


def slow(*values: object):
    """One set of parameters that only the slow tier runs."""
    return pytest.param(*values, marks=pytest.mark.slow)
