"""Kinds of numbers and paths that the command line takes."""

import math
from pathlib import Path
from typing import Any

import click


class Whole(click.ParamType):  # type: ignore[type-arg]
    """A whole number within limits, which may be written as 1e6 or 10_000."""

    name = "integer"

    def __init__(self, low: int, high: int) -> None:
        """Accept numbers from `low` to `high`."""
        self.low, self.high = low, high

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401
        """Turn text into an integer."""
        try:
            number = int(value)
        except ValueError:
            number = self._from_float(value)
        if not self.low <= number <= self.high:
            expected = f"expected a whole number from {self.low} to {self.high:g}, such as {max(self.low, 1)} or 1e3"
            self.fail(f"{value!r} given, {expected}.", param, ctx)
        return number

    def _from_float(self, text: str) -> int:
        """The number that 1e6 is, or one outside the limits."""
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        return int(number) if number.is_integer() else self.low - 1


class Positive(click.ParamType):  # type: ignore[type-arg]
    """A finite, positive number."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401
        """Turn text into a positive float."""
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or number <= 0:
            self.fail(f"{value!r} given, expected a positive number.", param, ctx)
        return number


class LocalPath(click.Path):
    """A path of the file system, for files that are written there and nowhere else."""

    def __init__(self, **more: Any) -> None:  # noqa: ANN401
        """Give a `pathlib.Path`; takes the other arguments of `click.Path`."""
        super().__init__(path_type=Path, **more)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401
        """Refuse a URL, of which a path would make a folder here."""
        if "://" in str(value):
            self.fail(f"{value!r} given, expected a local path. Write there, then copy.", param, ctx)
        return super().convert(value, param, ctx)
