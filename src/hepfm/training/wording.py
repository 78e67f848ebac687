"""What an evaluation found, in words for a terminal."""

import math
from typing import Any


def headline(found: dict[str, Any]) -> str:
    """An evaluation in one sentence."""
    where = f"{found['n_jets']:,} jets ({found['split']}): "
    if "bias" in found:
        return where + f"bias {_number(found['bias'])}, resolution {found['resolution']:.4g}"
    facts = [f"accuracy {_number(found['accuracy'])}"] if "accuracy" in found else []
    return where + ", ".join([*facts, *([f"AUC {found['auc']:.4f}"] if found["auc"] is not None else [])])


def report_lines(found: dict[str, Any]) -> list[str]:
    """An evaluation in lines for people."""
    lines = [headline(found)]
    if found["has_training_jets"]:
        lines.append("jets that trained the tagger are among them: it looks better than it is")
    if found["n_left_out"]:
        lines.append(f"left out: {found['n_left_out']:,} jets of no class of the tagger")
    if found["has_weights"]:
        lines.append("event weights are not used: every jet counts the same")
    for name, by_efficiency in found.get("rejection", {}).items():
        area = found["auc_against_background"][name]
        values = ", ".join(f"{_number(r)} at {e}" for e, r in by_efficiency.items())
        lines.append(f"{name} against {'+'.join(found['background'])}: AUC {_number(area)}, rejection {values}")
    robustness = found.get("robustness", {})
    for variation, by_class in robustness.get("variations", {}).items():
        known = {name: d for name, d in by_class.items() if d is not None}
        distances = ", ".join(
            f"{name} {_distance(d['wasserstein'])} / {_distance(d['jensen_shannon'])}" for name, d in known.items()
        )
        lines.append(
            f"{variation} to {robustness['nominal']}, Wasserstein / Jensen-Shannon: {distances or 'too few jets'}"
        )
    for name, spread in robustness.get("spread", {}).items():
        if spread is not None:
            lines.append(
                f"score of {name}: spread over the views of a jet {spread['value']:.3g}, "
                f"{spread['relative']:.2f} of that over jets"
            )
    return lines


def _distance(measured: dict[str, float | None]) -> str:
    by_chance = measured["by_chance"]
    return _number(measured) + ("" if by_chance is None else f" ({by_chance:.2g} by chance)")


def _number(measured: dict[str, float | None]) -> str:
    value, error = measured["value"], measured["error"]
    if value is None:
        return "no background left"
    if not error:
        return f"{value:.3g}"
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{digits}f} ± {error:.{digits}f}"
