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


def row_of(one: dict[str, Any]) -> dict[str, str | float]:
    """The robust sigmas and other figures of one tokenizer, for a table."""
    sigmas = {name: round(values["sigma"], 5) for name, values in {**one["constituents"], **one["jets"]}.items()}
    row: dict[str, str | float] = {
        "tokenizer": Path(str(one.get("checkpoint", ""))).name or "-",
        "kind": f"{one['quantiser']}/{one['context']}",
        "bits": round(one["bits"], 2),
        **sigmas,
        "mass bias": round(one["jets"]["jet_mass"]["median"], 3),
        "used": round(one["codes"]["used"], 4),
    }
    if "two_sample" in one:
        row["auc"] = round(one["two_sample"]["auc"], 4)
    return row
