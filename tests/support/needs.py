"""What a test needs and the machine lacks: a visible skip at home, a failure in CI, where everything must be there."""

import os
from typing import NoReturn

import pytest

__all__ = ["lacking"]


def lacking(what: str) -> NoReturn:
    """Leave the test, saying what is missing."""
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)
