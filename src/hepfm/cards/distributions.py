"""Figures of distributions, each variation with its ratio to the first. They need the `plots` extra."""

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hepfm.cards.histograms import ALL, Density, Histograms
from hepfm.cards.observables import Observable
from hepfm.cards.style import EDGE, FAINT, INK, figure_class

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_Floats = NDArray[np.float64]

MAX_CLASSES, MIN_JETS = 10, 10
"""Classes that are drawn: those of most jets, and of not too few."""

# Petroff's ten colours, told apart with any kind of colour vision (arXiv:2107.02270); the reference is drawn in ink.
_COLOURS = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#832db6",
    "#717581",
    "#92dadd",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#94a4a2",
)
_STYLES = ("-", (0, (4, 1.5)), (0, (1.2, 1.2)))
_N_COLUMNS = 5
_WIDTH, _MAIN, _RATIO, _SEAM = 2.8, 2.0, 1.25, 0.08  # inches, of one panel
_LEFT, _GAP, _RIGHT, _TOP, _BOTTOM, _TITLE = 0.72, 0.62, 0.12, 0.12, 0.55, 0.3
_ENTRY_WIDTH, _ENTRY_HEIGHT = 1.5, 0.2
_RATIO_LIMITS = 0.12, 0.65  # least and largest half-height of the ratio's panel
_HEADROOM = 2.5
_NARROW, _VERY_NARROW = 30, 8  # ratio of the ends of a logarithmic axis
_WELL_KNOWN = 0.3  # relative error of the ratios that decide on it


def drawn_classes(histograms: Histograms) -> tuple[str, ...]:
    """The classes that are drawn, in the dataset's order; `ALL` as one if those were less than half of the jets."""
    n_jets = histograms.n_jets.max(axis=1)
    most = sorted(np.argsort(-n_jets, kind="stable")[:MAX_CLASSES])
    drawn = [i for i in most if n_jets[i] >= MIN_JETS]
    return tuple(histograms.classes[i] for i in drawn) if 2 * n_jets[drawn].sum() > n_jets.sum() else (ALL,)


def draw_distribution(histograms: Histograms, observable: Observable) -> "Figure":
    """Draw the distribution of an observable.

    Several variations: a panel a class, all variations in it, and below it their ratios to the first. The band is the
    statistical error of the first alone, the bars that of the other alone, as if views were independent: they are
    not, so that bars and band must not be added up to a significance. One variation: all classes in one panel.

    Args:
        histograms: filled.
        observable: one of `histograms.observables`.

    Returns:
        A matplotlib figure.

    Raises:
        HepfmError: a part of the `plots` extra is not installed.
    """
    make_figure = figure_class()
    classes, variations = drawn_classes(histograms), histograms.variations
    edges = histograms.edges(observable, classes)
    has_ratio = len(variations) > 1
    # A panel's title and its lines: label, class, variation.
    contents = [(name, [(v, name, v) for v in variations]) for name in classes]
    if not has_ratio:
        contents = [("", [(name, name, variations[0]) for name in classes])]
    figure, panels = _panels(make_figure, len(contents), len(contents[0][1]), has_ratio=has_ratio)
    for number, ((title, lines), (main, ratio)) in enumerate(zip(contents, panels, strict=True)):
        found = [histograms.density(observable, jet_class, variation, edges) for _, jet_class, variation in lines]
        for row, ((label, _, _), density) in enumerate(zip(lines, found, strict=True)):
            _draw_steps(main, density, label, row - has_ratio, with_error=row == 0 or not has_ratio)
        main.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK, pad=5)
        _set_axes(main, observable, edges, found)
        if ratio is not None:
            _draw_ratios(ratio, found)
            _share_axis(main, ratio, observable, edges)
        if number % _N_COLUMNS:
            for panel in filter(None, (main, ratio)):
                panel.set_ylabel("")
    _draw_legend(figure, [main for main, _ in panels])
    return figure


def _draw_legend(figure: "Figure", panels: "list[Axes]") -> None:
    handles = {
        label: handle for panel in panels for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="upper left",
        bbox_to_anchor=(_LEFT / figure.get_figwidth(), 1 - _TOP / figure.get_figheight()),
        borderaxespad=0,
        borderpad=0,
        ncols=_legend_columns(figure.get_figwidth()),
        frameon=False,
        fontsize=10,
        labelcolor=INK,
        handlelength=1.6,
        columnspacing=1.4,
    )


def _panels(
    make_figure: "type[Figure]", n_panels: int, n_entries: int, *, has_ratio: bool
) -> "tuple[Figure, list[tuple[Axes, Axes | None]]]":
    """Panels at fixed places, so that those of different figures align too."""
    n_columns = min(n_panels, _N_COLUMNS)
    n_rows = math.ceil(n_panels / n_columns)
    panel_width = _WIDTH if has_ratio else 2 * _WIDTH + _GAP
    width = _LEFT + n_columns * panel_width + (n_columns - 1) * _GAP + _RIGHT
    legend = _ENTRY_HEIGHT * math.ceil(n_entries / _legend_columns(width))
    title = _TITLE if has_ratio else 0.1
    row_height = title + _MAIN + (_SEAM + _RATIO if has_ratio else _RATIO) + _BOTTOM
    height = _TOP + legend + n_rows * row_height
    figure = make_figure(figsize=(width, height), facecolor="white")

    def add(left: float, top: float, panel_height: float) -> "Axes":
        return figure.add_axes(
            (left / width, 1 - (top + panel_height) / height, panel_width / width, panel_height / height)
        )

    panels: list[tuple[Axes, Axes | None]] = []
    for number in range(n_panels):
        row, column = divmod(number, n_columns)
        left, top = _LEFT + column * (panel_width + _GAP), _TOP + legend + row * row_height + title
        if has_ratio:
            panels.append((add(left, top, _MAIN), add(left, top + _MAIN + _SEAM, _RATIO)))
        else:
            panels.append((add(left, top, _MAIN + _RATIO), None))
    return figure, panels


def _legend_columns(width: float) -> int:
    return max(1, int((width - _LEFT) / _ENTRY_WIDTH))


def _draw_steps(panel: "Axes", density: Density | None, label: str, number: int, *, with_error: bool) -> None:
    """One line of steps; number -1 is the reference, in ink and filled."""
    import mplhep

    if density is None:
        return
    heights, widths = density.mean / np.diff(density.edges), np.diff(density.edges)
    colour, style = _look(number)
    if number < 0:
        panel.stairs(heights, density.edges, fill=True, color=INK, alpha=0.08)
    mplhep.histplot(
        heights, density.edges, ax=panel, label=label, color=colour, linestyle=style, linewidth=1.3, flow=None
    )
    if with_error:
        centres = (density.edges[1:] + density.edges[:-1]) / 2
        seen = density.mean > 0
        bars = (centres[seen], heights[seen], (density.error / widths)[seen])
        panel.errorbar(*bars, fmt="none", ecolor=colour, elinewidth=0.8, alpha=0.8)


def _draw_ratios(panel: "Axes", densities: list[Density | None]) -> None:
    reference, *others = densities
    if reference is None:
        panel.text(
            0.5, 0.5, "no jets to compare with", transform=panel.transAxes, ha="center", va="center", color=FAINT
        )
        return
    with np.errstate(divide="ignore", invalid="ignore"):
        own = np.where(reference.mean > 0, reference.error / reference.mean, np.nan)
    panel.stairs(1 + own, reference.edges, baseline=1 - own, fill=True, color=INK, alpha=0.14)
    panel.axhline(1, color=INK, linewidth=0.8)
    reach = []
    for number, density in enumerate(others):
        if density is None:
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(reference.mean > 0, density.mean / reference.mean, np.nan)
            error = np.where(reference.mean > 0, density.error / reference.mean, np.nan)
            known = np.isfinite(ratio) & (density.mean > 0)
            sure = known & (own < _WELL_KNOWN) & (error < _WELL_KNOWN * ratio)
        reach += np.abs(ratio[sure] - 1).tolist()
        colour, style = _look(number)
        shown = np.where(known, ratio, np.nan)
        panel.stairs(shown, reference.edges, baseline=None, color=colour, linestyle=style, linewidth=1.1)
        # Beside each other within a bin, so that bars can be told apart.
        share = (number + 1) / (len(others) + 1)
        places = reference.edges[:-1] + share * np.diff(reference.edges)
        panel.errorbar(places[known], ratio[known], error[known], fmt="none", ecolor=colour, elinewidth=0.8, alpha=0.75)
    half = np.clip(1.15 * max(reach, default=np.inf), *_RATIO_LIMITS)
    panel.set_ylim(1 - half, 1 + half)


def _set_axes(panel: "Axes", observable: Observable, edges: _Floats, drawn: list[Density | None]) -> None:
    _set_colours(panel)
    panel.set_xlim(*edges[[0, -1]])
    if observable.is_log:
        _set_log_scale(panel, edges)
    heights = np.concatenate([np.empty(0), *(d.mean / np.diff(edges) for d in drawn if d is not None)])
    seen = heights[heights > 0]
    if observable.falls and len(seen):
        panel.set_yscale("log")
        panel.set_ylim(seen.min() / _HEADROOM, seen.max() * _HEADROOM)
    else:
        panel.set_ylim(bottom=0)
        panel.ticklabel_format(axis="y", style="plain", useOffset=False)
    unit = f" [{observable.unit}]" if observable.unit else ""
    panel.set_xlabel(f"{observable.label}{unit}", fontsize=10.5, color=INK)
    panel.set_ylabel(r"$(1/N_{\rm jet})\;{\rm d}N/{\rm d}x$", fontsize=10, color=INK)


def _share_axis(main: "Axes", ratio: "Axes", observable: Observable, edges: _Floats) -> None:
    """Let the panel of the ratio have the horizontal axis of the one above."""
    _set_colours(ratio)
    ratio.set_xlim(*edges[[0, -1]])
    if observable.is_log:
        _set_log_scale(ratio, edges)
    ratio.set_xlabel(main.get_xlabel(), fontsize=10.5, color=INK)
    ratio.set_ylabel("ratio", fontsize=10, color=INK)
    main.set_xlabel("")
    main.tick_params(labelbottom=False, which="both")


def _set_colours(panel: "Axes") -> None:
    panel.tick_params(labelsize=9, color=FAINT, labelcolor=INK, which="both", direction="in", top=True, right=True)
    for side in panel.spines.values():
        side.set_color(EDGE)


def _look(number: int) -> "tuple[str, str | tuple[int, tuple[float, float]]]":
    if number < 0:
        return INK, "-"
    turn, place = divmod(number, len(_COLOURS))
    return _COLOURS[place], _STYLES[turn % len(_STYLES)]


def _set_log_scale(panel: "Axes", edges: _Floats) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

    panel.set_xscale("log")
    if edges[-1] / edges[0] < _NARROW:
        # Powers of ten alone would leave such an axis with one number.
        powers = 10.0 ** np.arange(math.floor(np.log10(edges[0])), math.ceil(np.log10(edges[-1])) + 1)
        steps = (1, 1.5, 2, 3, 4, 6) if edges[-1] / edges[0] < _VERY_NARROW else (1, 2, 5)
        panel.xaxis.set_major_locator(FixedLocator(np.outer(powers, steps).ravel().tolist()))
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.xaxis.set_minor_formatter(NullFormatter())
