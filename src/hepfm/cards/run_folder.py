"""Reading the folder of a training, as `hepfm.training.run` describes it, without anything that trains."""

import json
from pathlib import Path
from typing import Any

from hepfm.errors import InputError

EVALUATION, METRICS = "evaluation.json", "metrics.jsonl"


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """What a training has logged, as far as it is whole."""
    path = folder / METRICS
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    # A line that a kill has cut off was logged again.
    return [json.loads(line) for line in lines if line.endswith("}")]


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
