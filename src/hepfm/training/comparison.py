"""Evaluations of tokenizers side by side, from the JSON that they write."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hepfm.errors import InputError

_NEEDED = ("context", "quantiser", "bits", "n_codes", "constituents", "jets", "codes")


def read_evaluations(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Read what `tokenizer evaluate --out` wrote, ordered by bits.

    Raises:
        InputError: a file is missing, or no such evaluation.
    """
    found = []
    for path in paths:
        try:
            one = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            msg = f"{path}: no such file; expected the evaluation.json that `tokenizer evaluate --out` writes."
            raise InputError(msg) from None
        except ValueError as error:
            msg = f"{path}: is not JSON. Run `hepfm-data tokenizer evaluate ... --out` again."
            raise InputError(msg) from error
        missing = [key for key in _NEEDED if not isinstance(one, dict) or key not in one]
        if missing:
            msg = f"{path}: lacks {missing[0]!r}; expected the evaluation.json that `tokenizer evaluate --out` writes."
            raise InputError(msg)
        found.append(one)
    return sorted(found, key=lambda one: (one["bits"], one["context"]))


def row_of(one: dict[str, Any]) -> dict[str, str | float | None]:
    """The robust sigmas and other figures of one tokenizer, for a table; None for what was not measured."""
    errors = {**one["constituents"], **one["jets"]}
    sigmas = {name: _rounded(values["sigma"], 5) for name, values in errors.items()}
    return {
        "tokenizer": Path(str(one.get("checkpoint", ""))).name or "-",
        "kind": f"{one['quantiser']}/{one['context']}",
        "bits": round(one["bits"], 2),
        **sigmas,
        "mass bias": _rounded(one["jets"]["jet_mass"]["median"], 3),
        "used": round(one["codes"]["used"], 4),
        "auc": _rounded(one.get("two_sample", {}).get("auc"), 4),
    }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
