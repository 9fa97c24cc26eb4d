"""What a case says when the server did not do what it should."""

from __future__ import annotations

from typing import TypeVar

Value = TypeVar("Value")


class Failure(Exception):
    """A case failed; the text is the reason printed on its summary line."""


def check(holds: bool, otherwise: str) -> None:
    """Fail the case with the text `otherwise` unless the condition holds."""
    if not holds:
        raise Failure(otherwise)


def check_equal(expected: Value, actual: Value, what: str) -> None:
    """Fail the case unless two values are equal."""
    check(expected == actual, f"{what}: expected {expected!r}, got {actual!r}")
