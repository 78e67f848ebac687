"""Figures of jets, for the README, dataset cards and reports. They need the `plots` extra."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from hepfm.atomic import location
from hepfm.cards.prongs import frozen_prongs_of
from hepfm.cards.style import EDGE, FAINT, INK, KINDS, figure_class
from hepfm.dataset import Dataset
from hepfm.errors import InputError
from hepfm.kinematics import wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_Floats = NDArray[np.float64]

_N_COLUMNS = 4
_POINTS_A_GEV = 2.0  # disc area in square points: 100 GeV are 16 points across
_MARGIN = 1.3  # half-width of a panel in jet radii
_PANEL, _GAP, _TITLE, _LEFT, _TOP, _BOTTOM = 2.2, 0.16, 0.52, 0.62, 0.42, 1.05  # inches
_HINTING = 1.05  # letters are some per cent wider at some resolutions than at others


def draw_views(
    dataset: Dataset,
    event_id: int,
    jet_index: int = 0,
    *,
    prongs: tuple[_Floats, _Floats] | None = None,
    radius: float = 0.8,
) -> "Figure":
    """Draw one jet of a frozen event under every variation.

    A panel a variation, in the plane of pseudorapidity and azimuth around the frozen particle that the jet
    comes from. Constituents are discs whose area is their pt.

    Args:
        dataset: from `hepfm.open`.
        event_id: the frozen event.
        jet_index: which of its jets.
        prongs: eta and phi of the frozen partons to mark, as `frozen_prongs` gives them; by default the frozen
            particle itself is marked.
        radius: of the jets.

    Returns:
        A matplotlib figure; `figure.savefig("views.png")` writes it.

    Raises:
        InputError: the dataset has no such jet.
        HepfmError: a part of the `plots` extra is not installed.
    """
    make_figure = figure_class()
    jets = dataset.views(event_id)
    jets = jets[jets.jet_index == jet_index]
    if not len(jets):
        msg = f"{dataset.name}: no view of event {event_id} has a jet {jet_index}. Choose from the column event_id."
        raise InputError(msg)
    centre = float(jets.truth_eta[0]), float(jets.truth_phi[0])
    marks = (np.array(centre[:1]), np.array(centre[1:])) if prongs is None else prongs
    by_variation = {jet.variation: jet for jet in jets}
    n_columns = min(_N_COLUMNS, len(dataset.variations))
    figure, panels = _panels(make_figure, n_columns, math.ceil(len(dataset.variations) / n_columns))
    for panel, variation in zip(panels, dataset.variations, strict=False):
        _draw_jet(panel, by_variation.get(variation), variation, centre, radius)
        positions = marks[0] - centre[0], wrapped(marks[1] - centre[1])
        panel.scatter(*positions, marker="+", s=110.0, linewidths=1.6, color=INK, zorder=5)
    for panel in panels[len(dataset.variations) :]:
        panel.remove()
    name = "jet's frozen particle" if prongs is None else "frozen quarks" if len(marks[0]) > 1 else "frozen parton"
    _draw_legend(figure, name, radius)
    times = "once" if len(dataset.variations) == 1 else f"{len(dataset.variations)} times"
    figure.suptitle(
        f"One frozen {jets.process[0]} event, simulated {times}",
        fontsize=14,
        color=INK,
        y=1 - 0.18 / figure.get_figheight(),
        va="center",
    )
    _widen(figure)
    return figure


def frozen_prongs(folder: Path | str, event_id: int, jet_index: int = 0) -> tuple[_Floats, _Floats]:
    """Directions of the frozen quarks and charged leptons that a jet comes from.

    Args:
        folder: a campaign folder, which has the frozen events.
        event_id: the frozen event.
        jet_index: which of its jets.

    Returns:
        eta and phi of the decay products of a resonance; for a quark or gluon, its own.

    Raises:
        InputError: the campaign has no such event or jet.
    """
    found = frozen_prongs_of(location(folder), [(event_id, jet_index)])
    if (event_id, jet_index) not in found:
        msg = f"{folder}: no frozen event {event_id} with a jet {jet_index}."
        raise InputError(msg)
    return found[event_id, jet_index]


def _panels(make_figure: "type[Figure]", n_columns: int, n_rows: int) -> "tuple[Figure, list[Axes]]":
    """Square panels at fixed places: automatic layouts leave gaps between panels of equal aspect."""
    width = _LEFT + n_columns * (_PANEL + _GAP)
    height = _TOP + n_rows * (_PANEL + _TITLE) + _BOTTOM
    figure = make_figure(figsize=(width, height), facecolor="white")
    panels = []
    for number in range(n_rows * n_columns):
        row, column = divmod(number, n_columns)
        left, bottom = _LEFT + column * (_PANEL + _GAP), height - _TOP - (row + 1) * (_PANEL + _TITLE)
        panel = figure.add_axes((left / width, bottom / height, _PANEL / width, _PANEL / height))
        panel.tick_params(labelsize=9.5, color=FAINT, labelcolor=INK)
        if column:
            panel.tick_params(labelleft=False)
        else:
            panel.set_ylabel("Δφ [rad]", fontsize=10.5, labelpad=0)
        if row < n_rows - 1:
            panel.tick_params(labelbottom=False)
        else:
            panel.set_xlabel("Δη", fontsize=10.5, labelpad=1)
        panels.append(panel)
    return figure, panels


def _draw_jet(panel: "Axes", jet: ak.Record | None, variation: str, centre: tuple[float, float], radius: float) -> None:
    from matplotlib.patches import Circle

    half = _MARGIN * radius
    ticks = (-radius, 0, radius)
    panel.set(xlim=(-half, half), ylim=(-half, half), xticks=ticks, yticks=ticks)
    for side in panel.spines.values():
        side.set_color(EDGE)
    panel.set_title(variation, loc="left", fontsize=12, fontweight="bold", color=INK, pad=17)
    if jet is None:
        panel.text(0, 0, "no jet passed\nthe selection", ha="center", va="center", color=FAINT, fontsize=11)
        return
    panel.text(0, 1.025, _caption(jet), transform=panel.transAxes, fontsize=9.2, color="#555555")
    eta, phi = _positions(jet)
    pt = np.hypot(_column(jet, "part_px"), _column(jet, "part_py"))
    colours = np.full(len(pt), FAINT, dtype=object)
    for kind, (_, colour) in KINDS.items():
        colours[_column(jet, f"part_is{kind}") > 0] = colour
    # Constituents come by falling pt: small discs lie on large ones.
    panel.scatter(
        eta - centre[0],
        wrapped(phi - centre[1]),
        s=_POINTS_A_GEV * pt,
        c=colours.tolist(),
        alpha=0.75,
        edgecolors="white",
        linewidths=0.5,
        zorder=3,
    )
    axis = float(jet.jet_eta) - centre[0], float(wrapped(float(jet.jet_phi) - centre[1]))
    panel.add_patch(Circle(axis, radius, fill=False, edgecolor=FAINT, linestyle=(0, (4, 3)), linewidth=1.1, zorder=2))


def _positions(jet: ak.Record) -> tuple[_Floats, _Floats]:
    """Pseudorapidity and azimuth of a jet's constituents, the sign flip of JetClass undone."""
    mirror = -1.0 if jet.jet_eta < 0 else 1.0
    return jet.jet_eta + mirror * _column(jet, "part_deta"), jet.jet_phi + _column(jet, "part_dphi")


def _caption(jet: ak.Record) -> str:
    return f"{jet.jet_pt:.0f} GeV, mass {jet.jet_sdmass:.0f} GeV, n = {jet.jet_nparticles}"


def _draw_legend(figure: "Figure", prong_name: str, radius: float) -> None:
    from matplotlib.lines import Line2D

    def disc(label: str, colour: str, area: float) -> Line2D:
        return Line2D(
            [], [], marker="o", linestyle="", color=colour, markeredgecolor="white", label=label, markersize=area**0.5
        )

    handles = (
        *(disc(label, colour, 81) for label, colour in KINDS.values()),
        Line2D([], [], marker="+", linestyle="", color=INK, markersize=11, markeredgewidth=1.6, label=prong_name),
        *(disc(f"{pt} GeV", "#a6a6a6", _POINTS_A_GEV * pt) for pt in (10, 80)),
        Line2D([], [], color=FAINT, linestyle=(0, (4, 3)), label=f"jet, R = {radius:g}"),
    )
    figure.legend(
        handles=handles,
        loc="lower center",
        ncols=math.ceil(len(handles) / 2),
        frameon=False,
        fontsize=11,
        labelcolor=INK,
        handletextpad=0.4,
        columnspacing=1.8,
    )


def _widen(figure: "Figure") -> None:
    """Make a figure as wide as its title and legend need; panels keep their size, in the middle."""
    width, height = figure.get_size_inches()
    written = (*figure.texts, *figure.legends)
    needed = _HINTING * max(artist.get_window_extent().width for artist in written) / figure.dpi + 2 * _GAP
    if needed <= width:
        return
    figure.set_size_inches(needed, height)
    for panel in figure.axes:
        place, share = panel.get_position(), width / needed
        panel.set_position((0.5 + (place.x0 - 0.5) * share, place.y0, place.width * share, place.height))


def _column(jet: ak.Record, name: str) -> _Floats:
    return np.asarray(ak.to_numpy(jet[name]), dtype=np.float64)
