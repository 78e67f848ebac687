"""Figures of what a tagger is worth, from the JSON that evaluations and studies write. They need the `plots` extra."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hepfm.cards.style import FAINT, INK, figure_class
from hepfm.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

# Petroff's ten colours, told apart with any kind of colour vision (arXiv:2107.02270).
_COLOURS = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#832db6",
    "#94a4a2",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)
# Kept for what others are compared with.
_GREYS = ("#717581", "#94a4a2")
_DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.2, 1.2, 1.2)))
_MOST_CURVES, _MOST_NUMBERS, _MOST_PANELS, _MOST_OVERLAID, _N_COLUMNS = 12, 12, 10, 4, 5
_BACKGROUND = "#e6e6e6"
_RATIO_HALF_HEIGHT = 0.5
_FEWEST_IN_BIN = 100
# Fonts and ticks of mplhep, at the size of a page instead of a slide.
_SETTINGS = {
    "font.size": 11,
    "axes.labelsize": 12,
    "axes.titlesize": 12,
    "legend.fontsize": 10,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "axes.linewidth": 0.9,
    "lines.linewidth": 1.6,
    "xtick.major.size": 6,
    "ytick.major.size": 6,
    "xtick.minor.size": 3,
    "ytick.minor.size": 3,
    "figure.facecolor": "white",
    "text.color": INK,
    "axes.labelcolor": INK,
}


def draw_roc(evaluation: Mapping[str, Any]) -> "Figure":
    """Draw background rejection over signal efficiency, a curve a signal class.

    Args:
        evaluation: of classes; of many, those with most jets are drawn.

    Raises:
        InputError: it has no curve.
        HepfmError: a part of the `plots` extra is not installed.
    """
    curves = evaluation.get("roc") or {}
    if not curves:
        msg = "the evaluation has no ROC curve: it needs jets of signal and of background."
        raise InputError(msg)
    drawn = sorted(curves, key=lambda name: -int(curves[name]["n_signal"]))[:_MOST_CURVES]
    with _style() as make_figure:
        figure = make_figure(figsize=(7.2, 4.6), layout="constrained")
        axes = figure.add_subplot()
        for number, name in enumerate(n for n in curves if n in drawn):
            signal, background = (np.array(curves[name][kind], float) for kind in ("signal", "background"))
            # Fewer than one jet of background is not known.
            known = background * curves[name]["n_background"] >= 1
            colour, dashes = _COLOURS[number % len(_COLOURS)], _DASHES[number // len(_COLOURS)]
            axes.plot(signal[known], 1 / background[known], color=colour, linestyle=dashes, label=name)
            points = [(float(e), r) for e, r in evaluation["rejection"][name].items() if r["value"] is not None]
            axes.errorbar(
                [e for e, _ in points],
                [r["value"] for _, r in points],
                # The lower end of a large error has no place on a logarithmic axis.
                yerr=[[min(r["error"], 0.9 * r["value"]) for _, r in points], [r["error"] for _, r in points]],
                fmt="o",
                markersize=3.5,
                color=colour,
                linewidth=1,
            )
        axes.set(xlim=(0, 1), yscale="log", xlabel="signal efficiency", ylabel="background rejection")
        axes.set_ylim(bottom=1)
        figure.legend(
            *axes.get_legend_handles_labels(),
            title=f"against {_joined(evaluation['background'])}",
            loc="outside right upper",
            frameon=False,
        )
        _say(axes, f"{evaluation['n_jets']:,} jets")
        return figure


def draw_confusion(evaluation: Mapping[str, Any]) -> "Figure":
    """Draw which classes are taken for which: shares of the jets of each true class.

    Raises:
        InputError: the evaluation has no classes.
        HepfmError: a part of the `plots` extra is not installed.
    """
    if "confusion" not in evaluation:
        msg = "the evaluation has no confusion matrix: it is of a number, or of one signal against one background."
        raise InputError(msg)
    counts, names = np.array(evaluation["confusion"], float), list(evaluation["classes"])
    present = np.flatnonzero(counts.sum(axis=0) + counts.sum(axis=1))
    counts, names = counts[np.ix_(present, present)], [names[i] for i in present]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    with _style() as make_figure:
        size = 1.9 + max(2.4, min(0.52 * len(names), 9))
        figure = make_figure(figsize=(size + 0.7, size), layout="constrained")
        axes = figure.add_subplot()
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        font = 10 if len(names) <= 14 else max(4.0, 150 / len(names))
        axes.set_xticks(range(len(names)), names, rotation=90 if len(names) > 6 else 0, fontsize=font)
        axes.set_yticks(range(len(names)), names, fontsize=font)
        axes.tick_params(which="both", length=0)
        axes.minorticks_off()
        axes.set(xlabel="predicted class", ylabel="true class")
        if len(names) <= _MOST_NUMBERS:
            for row, column in np.ndindex(*shares.shape):
                share = shares[row, column]
                text = f"{100 * share:.0f}" if share >= 0.005 else ""
                axes.text(
                    column, row, text, ha="center", va="center", fontsize=9, color="white" if share > 0.5 else INK
                )
        bar = figure.colorbar(image, ax=axes, shrink=0.85)
        bar.set_label("share of the true class [%]" if len(names) <= _MOST_NUMBERS else "share of the true class")
        bar.ax.set_yticks([0, 0.5, 1], ["0", "50", "100"] if len(names) <= _MOST_NUMBERS else ["0", "0.5", "1"])
        return figure


def draw_scores(evaluation: Mapping[str, Any]) -> "Figure":
    """Draw how scores of each class are distributed under each variation, and their ratio to the nominal one.

    Bars are statistical errors as if views were independent.

    Raises:
        InputError: the evaluation has one variation only.
        HepfmError: a part of the `plots` extra is not installed.
    """
    if "robustness" not in evaluation:
        msg = "the evaluation is of one variation: there is nothing to compare. Evaluate on data with several views."
        raise InputError(msg)
    robustness = evaluation["robustness"]
    by_variation, edges = robustness["histograms"]["counts"], np.array(robustness["histograms"]["edges"])
    total = {name: sum(by_variation[robustness["nominal"]][name]) for name in evaluation["classes"]}
    drawn = [name for name in total if total[name]][:_MOST_PANELS]
    what = "score of" if len(evaluation["classes"]) > 1 else "predicted"
    panels = [(name, f"{what} {name}", _counts_of(name, by_variation)) for name in drawn]
    with _style() as make_figure:
        return _draw_views(make_figure, panels, edges, min(len(drawn), _N_COLUMNS))


def draw_study_scores(study: Mapping[str, Any]) -> "Figure":
    """Draw the scores of each kind of tagger under each variation: a row a class, a column a network and mode.

    One kind alone has its classes side by side.

    Of several numbers of labels and shares of signal the largest are drawn. Counts are those of all seeds together, so
    that bars, which take views and seeds for independent, are too short.

    Args:
        study: what `hepfm-data study labels` writes; `histograms` is not empty.

    Raises:
        HepfmError: a part of the `plots` extra is not installed.
    """
    # Most labels, and of those most signal.
    points = ("n_labels", "signal_fraction")
    most = max(tuple(found[point] for point in points) for found in study["histograms"])
    kinds = [found for found in study["histograms"] if tuple(found[point] for point in points) == most][:_N_COLUMNS]
    classes = list(next(iter(kinds[0]["counts"].values())))[: _MOST_PANELS // 2]
    panels = [
        (_kind(found), f"score of {name}", _counts_of(name, found["counts"])) for name in classes for found in kinds
    ]
    with _style() as make_figure:
        n_columns = len(kinds) if len(kinds) > 1 else len(classes)
        return _draw_views(make_figure, panels, np.array(kinds[0]["edges"]), n_columns)


def _kind(row: Mapping[str, Any]) -> str:
    """What a study's tagger is called."""
    return f"{row['network']}, {row['mode']}".removeprefix(", ")


def _counts_of(name: str, by_variation: Mapping[str, Mapping[str, Any]]) -> dict[str, NDArray[np.float64]]:
    """The histogram of one class under each variation."""
    return {variation: np.array(by_class[name], float) for variation, by_class in by_variation.items()}


def _draw_views(
    make_figure: "type[Figure]",
    panels: Sequence[tuple[str, str, Mapping[str, NDArray[np.float64]]]],
    edges: NDArray[np.float64],
    n_columns: int,
) -> "Figure":
    """Draw panels: their titles, what is on their axis, and counts by variation, the nominal one first."""
    n_rows = math.ceil(len(panels) / n_columns)
    figure = make_figure(figsize=(0.4 + 3.0 * n_columns, 0.6 + 3.4 * n_rows), layout="constrained")
    grid = figure.add_gridspec(2 * n_rows, n_columns, height_ratios=[2.4, 1] * n_rows)
    for number, (title, axis, counts) in enumerate(panels):
        row, column = divmod(number, n_columns)
        main = figure.add_subplot(grid[2 * row, column])
        ratio = figure.add_subplot(grid[2 * row + 1, column], sharex=main)
        _draw_class(main, ratio, counts, edges)
        main.set_title(title, loc="left", fontweight="bold")
        main.tick_params(labelbottom=False)
        ratio.set_xlabel(axis)
        if not column:
            main.set_ylabel("density")
            ratio.set_ylabel(f"to {next(iter(counts))}", fontsize=10)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    for n_legend_columns in range(min(5, len(labels)), 0, -1):
        legend = figure.legend(handles, labels, loc="outside upper center", ncols=n_legend_columns, frameon=False)
        if legend.get_window_extent().width <= figure.bbox.width or n_legend_columns == 1:
            break
        legend.remove()
    return figure


def _draw_class(main: "Axes", ratio: "Axes", counts: Mapping[str, Any], edges: Any) -> None:  # noqa: ANN401
    """One class: densities of each variation, and their ratios to the first."""
    # Where few jets are, bins become one: their ratios would be of statistics.
    starts = _merged(next(iter(counts.values())))
    edges = np.append(edges[starts], edges[-1])
    counts = {name: np.add.reduceat(c, starts) for name, c in counts.items()}
    width = np.diff(edges)
    first = next(iter(counts.values()))
    reference = first / max(first.sum(), 1) / width
    for number, (variation, own) in enumerate(counts.items()):
        colour = INK if not number else _COLOURS[(number - 1) % len(_COLOURS)]
        dashes = _DASHES[max(number - 1, 0) // len(_COLOURS)]
        density = own / max(own.sum(), 1) / width
        main.stairs(density, edges, label=variation, color=colour, linestyle=dashes, linewidth=1.4)
        if not number:
            error = np.divide(1, np.sqrt(first), out=np.zeros_like(first), where=first > 0)
            low, high = (np.append(1 + sign * error, 1 + sign * error[-1]) for sign in (-1, 1))
            ratio.fill_between(edges, low, high, step="post", color=_BACKGROUND)
            ratio.axhline(1, color=INK, linewidth=0.9)
            continue
        known = (first > 0) & (own > 0)
        value = density[known] / reference[known]
        ratio.errorbar(
            # Beside each other in their bin.
            edges[:-1][known] + width[known] * number / len(counts),
            value,
            yerr=value / np.sqrt(own[known]),
            fmt="o",
            markersize=2.2,
            color=colour,
            linewidth=0.8,
        )
    if edges[0] == 0 and edges[-1] == 1:
        main.set_yscale("log")
    main.set_xlim(edges[0], edges[-1])
    ratio.set_ylim(1 - _RATIO_HALF_HEIGHT, 1 + _RATIO_HALF_HEIGHT)


def _merged(counts: NDArray[np.float64]) -> NDArray[np.int64]:
    """First bins of groups of neighbours that have so many counts, or all of them, that ratios mean something."""
    needed = min(_FEWEST_IN_BIN, counts.sum() / 2)
    starts, held = [0], 0.0
    for number, count in enumerate(counts[:-1], start=1):
        held += count
        if held >= needed and counts[number:].sum() >= needed:
            starts.append(number)
            held = 0.0
    return np.array(starts)


def draw_training(metrics: Sequence[Mapping[str, Any]]) -> "Figure":
    """Draw the losses of a training: of each step's jets, and of those that trained nothing.

    Args:
        metrics: what a run has logged, as `hepfm.run_folder.read_metrics` gives it.

    Raises:
        InputError: nothing was logged.
        HepfmError: a part of the `plots` extra is not installed.
    """
    training = [(m["step"], m["loss"]) for m in metrics if "loss" in m]
    validation = [(m["step"], m["validation_loss"]) for m in metrics if "validation_loss" in m]
    if not training:
        msg = "the run has logged no loss to draw."
        raise InputError(msg)
    with _style() as make_figure:
        figure = make_figure(figsize=(6.4, 4.0), layout="constrained")
        axes = figure.add_subplot()
        axes.plot(*zip(*training, strict=True), color=_COLOURS[0], linewidth=1.0, label="training")
        if validation:
            axes.plot(*zip(*validation, strict=True), color=_COLOURS[2], label="validation")
            step, loss = min(validation, key=lambda point: point[1])
            axes.plot([step], [loss], "o", color=_COLOURS[2], label=f"best: {loss:.3f} at step {step:,}")
        axes.set(xlabel="step", ylabel="loss", xlim=(0, None))
        axes.legend(frameon=False)
        return figure


def draw_study(study: Mapping[str, Any], measure: str = "accuracy") -> "Figure":
    """Draw what taggers are worth by the number of labels, or by the share of signal in weak supervision.

    A line a network and mode: the mean over seeds. The band is their standard deviation.

    Args:
        study: what `hepfm-data study labels` writes.
        measure: name of a column of its rows.

    Raises:
        InputError: no row has that measure.
        HepfmError: a part of the `plots` extra is not installed.
    """
    rows = [row for row in study["rows"] if row.get(measure) is not None]
    if not rows:
        known = sorted({key for row in study["rows"] for key, value in row.items() if isinstance(value, dict)})
        msg = f"the study has no {measure!r} to draw; it has: {', '.join(known) or 'nothing yet'}."
        raise InputError(msg)
    x_name = "signal_fraction" if len({row["signal_fraction"] for row in rows}) > 1 else "n_labels"
    # Along the share of signal, each number of labels is a line.
    several = x_name == "signal_fraction" and len({row["n_labels"] for row in rows}) > 1
    lines: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        name = _kind(row) + f", {row['n_labels']:,} labels" * several
        lines.setdefault(name, []).append(row)
    with _style() as make_figure:
        figure = make_figure(figsize=(6.4, 4.6), layout="constrained")
        axes = figure.add_subplot()
        colours = cycle(colour for colour in _COLOURS if colour not in _GREYS)
        for name, points in lines.items():
            points.sort(key=lambda row: float(row[x_name]))
            x = np.array([row[x_name] for row in points], float)
            mean, spread = (np.array([row[measure][key] or 0.0 for row in points]) for key in ("mean", "spread"))
            colour = _GREYS[0] if points[0]["mode"] == "scratch" else next(colours)
            axes.plot(x, mean, "o-", color=colour, markersize=4.5, label=name)
            axes.fill_between(x, mean - spread, mean + spread, color=colour, alpha=0.2, linewidth=0)
        axes.set_xscale("log")
        ticks = sorted({float(row[x_name]) for row in rows})
        # Labels that would lie over each other: of two places so near the upper one is named.
        near = (ticks[-1] / ticks[0]) ** 0.09
        named = [b / a > near for a, b in pairwise(ticks)] + [True]
        axes.set_xticks(ticks, [f"{tick:,g}" * is_named for tick, is_named in zip(ticks, named, strict=True)])
        axes.minorticks_off()
        axes.margins(x=0.06)
        labels = {"n_labels": "labelled jets", "signal_fraction": "share of signal in the mixed sample"}
        axes.set(xlabel=labels[x_name], ylabel=measure.replace("_", " "))
        axes.grid(axis="y", color="#e8e8e8", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.legend(frameon=False)
        return figure


def draw_map(
    points: NDArray[np.float64], explained: Sequence[float], colouring: Mapping[str, tuple[Sequence[str], NDArray[Any]]]
) -> "Figure":
    """Draw jets where a backbone sees them, once for each way to colour them; large dots are medians.

    Up to four groups share a panel. Of more, which would hide each other, each has one, before all jets in grey.

    Args:
        points: places of the jets, shape (N, 2).
        explained: shares of the variance along the two axes.
        colouring: by what it shows, names and the number of each jet's name, -1 for none; shape (N,). Of many names the
            first ten are shown.

    Raises:
        HepfmError: a part of the `plots` extra is not installed.
    """
    low, high = np.quantile(points, [0.002, 0.998], axis=0)
    limits = np.stack([low, high]) + 0.05 * (high - low) * [[-1], [1]]
    apart = [len(names) > _MOST_OVERLAID for names, _ in colouring.values()]
    widths = [10.0 if each else 5.0 for each in apart]
    with _style() as make_figure:
        figure = make_figure(figsize=(0.6 + sum(widths), 5.4), layout="constrained")
        parts = figure.subfigures(1, len(widths), width_ratios=widths, squeeze=False)[0]
        for part, each, (what, (names, codes)) in zip(parts, apart, colouring.items(), strict=True):
            (_draw_groups_apart if each else _draw_groups)(part, points, names[: len(_COLOURS)], codes)
            for axes in part.axes:
                axes.set(xlim=limits[:, 0], ylim=limits[:, 1])
            part.suptitle(f"by {what}", x=0.02, ha="left", fontsize=12, fontweight="bold")
            for label, number in ((part.supxlabel, 0), (part.supylabel, 1)):
                label(f"principal component {number + 1} ({explained[number]:.0%} of the variance)", fontsize=12)
        return figure


def _draw_groups(part: "SubFigure", points: NDArray[np.float64], names: Sequence[str], codes: NDArray[Any]) -> None:
    """Groups of jets in one panel."""
    axes = part.subplots()
    # In random order, so that no group hides another.
    order = np.random.default_rng(1).permutation(len(points))
    shown = order[(codes[order] >= 0) & (codes[order] < len(names))]
    axes.scatter(points[shown, 0], points[shown, 1], c=np.array(_COLOURS)[codes[shown]], s=4, alpha=0.4, linewidths=0)
    for code, name in enumerate(names):
        _mark_median(axes, points[codes == code], _COLOURS[code], name)
    axes.legend(frameon=False, ncols=2, loc="best", handletextpad=0.2, columnspacing=0.8)


def _draw_groups_apart(
    part: "SubFigure", points: NDArray[np.float64], names: Sequence[str], codes: NDArray[Any]
) -> None:
    """Groups of jets, each in a panel of its own before all others."""
    n_rows = math.ceil(len(names) / _N_COLUMNS)
    panels = part.subplots(n_rows, _N_COLUMNS, sharex=True, sharey=True, squeeze=False).ravel()
    for code, (axes, name) in enumerate(zip(panels, names, strict=False)):
        mine = points[codes == code]
        axes.scatter(points[:, 0], points[:, 1], c=_BACKGROUND, s=2, linewidths=0)
        axes.scatter(mine[:, 0], mine[:, 1], c=_COLOURS[code], s=4, alpha=0.6, linewidths=0)
        _mark_median(axes, mine, _COLOURS[code], name)
        axes.set_title(name, fontsize=11)
    for axes in panels[len(names) :]:
        axes.remove()
    # The lowest of a column is not always in the last row.
    for axes in panels[max(0, len(names) - _N_COLUMNS) : len(names)]:
        axes.tick_params(labelbottom=True)


def _mark_median(axes: "Axes", points: NDArray[np.float64], colour: str, name: str) -> None:
    x, y = np.median(points, axis=0) if len(points) else (np.nan, np.nan)
    axes.scatter(x, y, c=colour, s=90, edgecolors="white", linewidths=1.5, label=name, zorder=3)


@contextmanager
def _style() -> "Iterator[type[Figure]]":
    """Draw in the style of mplhep; gives the class of figures."""
    make_figure = figure_class()
    import matplotlib as mpl
    import mplhep

    # Its fonts are made for mathematics that is not here, and not everywhere.
    known = {k: v for k, v in mplhep.style.CMS.items() if k.startswith(("axes.", "xtick.", "ytick.", "legend."))}
    settings: dict[Any, Any] = {**known, **_SETTINGS}
    with mpl.rc_context(settings):
        yield make_figure


def _say(axes: "Axes", text: str) -> None:
    axes.text(0.02, 0.03, text, transform=axes.transAxes, color=FAINT, fontsize=10)


def _joined(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{names[0]}, ... ({len(names)} classes)"
