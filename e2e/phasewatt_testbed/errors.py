"""The one error type of the testbed: a sentence for the person at the terminal, with what to change."""

from __future__ import annotations


class TestbedError(Exception):
    """Something the user can act on; the command line prints it without a traceback."""

    __test__ = False  # pytest would take the name for a test class
