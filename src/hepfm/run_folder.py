"""The folder of a training, without anything that trains: what is logged and measured there is JSON."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hepfm.atomic import write_whole
from hepfm.errors import InputError

RECIPE, ORIGIN, METRICS, EVALUATION = "recipe.toml", "training.json", "metrics.jsonl", "evaluation.json"


def append_metrics(path: Path, entry: Mapping[str, float]) -> None:
    """Add what was logged at a step. A line that a kill has cut off stays one of its own."""
    with path.open("ab+") as file:
        if file.tell() and file.seek(-1, 2) and file.read() != b"\n":
            file.write(b"\n")
        file.write(json.dumps(finite(entry)).encode() + b"\n")


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Everything that was logged, in order of the steps; what was logged again after an interruption counts once."""
    path = folder / METRICS
    found: dict[tuple[int, tuple[str, ...]], dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # cut off by a kill
        found[entry["step"], tuple(sorted(entry))] = entry
    return sorted(found.values(), key=lambda entry: int(entry["step"]))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object, indented; null for what JSON has no number for. Raises StorageError as `write_whole`."""
    write_whole(path, (json.dumps(finite(content), indent=1) + "\n").encode())


def read_object(path: Path) -> dict[str, Any] | None:
    """A JSON object; None where there is no such file.

    Raises:
        InputError: the file is no JSON.
    """
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        msg = f"{path}: is not JSON ({error}). Train or evaluate again."
        raise InputError(msg) from error
    return found if isinstance(found, dict) else None


def finite(value: Any) -> Any:  # noqa: ANN401
    """The same with None for what JSON has no number for: NaN, which stands for what is not known, and infinities."""
    if isinstance(value, Mapping):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
