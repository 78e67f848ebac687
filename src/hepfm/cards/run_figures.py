"""The figures that lie in the folder of a training, an evaluation or a study."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hepfm.cards.style import why_no_plots, write_png
from hepfm.run_folder import EVALUATION, read_metrics, read_object

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 150


def write_evaluation_figures(folder: Path) -> tuple[str, ...]:
    """Draw what the folder's evaluation.json holds: roc.png, confusion.png and scores.png, those that apply.

    Returns:
        Sentences that say why nothing was drawn.

    Raises:
        StorageError: a file cannot be written.
    """
    evaluation = read_object(folder / EVALUATION)
    if evaluation is None:
        return ()
    from hepfm.cards.model_figures import draw_confusion, draw_roc, draw_scores

    wanted: dict[str, Callable[[], Figure] | None] = {
        "roc.png": (lambda: draw_roc(evaluation)) if evaluation.get("roc") else None,
        "confusion.png": (lambda: draw_confusion(evaluation)) if "confusion" in evaluation else None,
        "scores.png": (lambda: draw_scores(evaluation)) if "robustness" in evaluation else None,
    }
    return _write_figures(folder, wanted)


def write_training_figure(folder: Path) -> tuple[str, ...]:
    """Draw the losses that a training has logged, training.png; returns and raises as `write_evaluation_figures`."""
    return _write_figures(folder, {"training.png": _training_figure(folder)})


def write_study_figures(folder: Path, study: Mapping[str, Any], measure: str = "") -> tuple[str, ...]:
    """Draw study.png and, where views were compared, scores.png; see `draw_study` and `draw_study_scores`.

    By default study.png shows accuracy, or the area under the ROC curve where there is none.

    Raises:
        InputError: no such measure.
        StorageError: the file cannot be written.
    """
    from hepfm.cards.model_figures import draw_study, draw_study_scores

    shown = measure or ("accuracy" if any("accuracy" in row for row in study["rows"]) else "auc")
    return _write_figures(
        folder,
        {
            "study.png": lambda: draw_study(study, shown),
            "scores.png": (lambda: draw_study_scores(study)) if study["histograms"] else None,
        },
    )


def write_map(
    folder: Path,
    points: NDArray[np.float64],
    explained: Sequence[float],
    colouring: Mapping[str, tuple[Sequence[str], NDArray[Any]]],
) -> tuple[str, ...]:
    """Draw map.png, arguments as of `draw_map`; returns and raises as `write_evaluation_figures`."""
    from hepfm.cards.model_figures import draw_map

    folder.mkdir(parents=True, exist_ok=True)
    return _write_figures(folder, {"map.png": lambda: draw_map(points, explained, colouring)})


def _write_figures(folder: Path, figures: Mapping[str, "Callable[[], Figure] | None"]) -> tuple[str, ...]:
    """Write figures; those that do not apply are deleted, for they would show another evaluation."""
    if why := why_no_plots():
        return (why,)
    for name, draw in figures.items():
        if draw is None:
            (folder / name).unlink(missing_ok=True)
        else:
            write_png(draw(), folder / name, dpi=_DPI)
    return ()


def _training_figure(folder: Path) -> "Callable[[], Figure] | None":
    metrics = read_metrics(folder)
    if not any("loss" in entry for entry in metrics):
        return None
    from hepfm.cards.model_figures import draw_training

    return lambda: draw_training(metrics)
