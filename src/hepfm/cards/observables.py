"""What one looks at first in jets."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepfm.table import JetTable


@dataclass(frozen=True)
class Observable:
    """A quantity of jets or of their constituents, and how it is binned.

    Attributes:
        name: for files and lookup.
        title: what it is called in a sentence.
        label: of the axis, in matplotlib's mathematics.
        unit: empty where there is none.
        columns: what `values` needs.
        values: one number a jet, or a constituent; what is not finite is left out.
        bins: how many, from where to where.
        is_log: whether bins are equal on a logarithmic scale.
        falls: whether it falls over decades, so that its density is drawn on a logarithmic scale.
        of_constituents: whether there is a value a constituent.
    """

    name: str
    title: str
    label: str
    unit: str
    columns: tuple[str, ...]
    values: Callable[[JetTable], NDArray[Any]]
    bins: tuple[int, float, float]
    is_log: bool = False
    falls: bool = False
    of_constituents: bool = False


def _column(name: str) -> Callable[[JetTable], NDArray[Any]]:
    return lambda table: table.columns[name]


def _tau_ratio(upper: int) -> Callable[[JetTable], NDArray[Any]]:
    def ratio(table: JetTable) -> NDArray[Any]:
        # A jet of few constituents has no ratio: 0/0.
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(table.columns[f"jet_tau{upper}"] / table.columns[f"jet_tau{upper - 1}"])

    return ratio


def _constituent_pt(table: JetTable) -> NDArray[Any]:
    return np.asarray(np.hypot(table.constituents["part_px"], table.constituents["part_py"]))


def _distance(table: JetTable) -> NDArray[Any]:
    return np.asarray(np.hypot(table.constituents["part_deta"], table.constituents["part_dphi"]))


def _impact(table: JetTable) -> NDArray[Any]:
    d0 = np.abs(table.constituents["part_d0val"]).astype(float)
    return np.where(d0 > 0, d0, np.nan)


OBSERVABLES = (
    Observable(
        "jet-pt",
        "jet's transverse momentum",
        r"jet $p_T$",
        "GeV",
        ("jet_pt",),
        _column("jet_pt"),
        (480, 10, 10_000),
        is_log=True,
        falls=True,
    ),
    Observable(
        "soft-drop-mass",
        "soft-drop mass",
        "soft-drop mass",
        "GeV",
        ("jet_sdmass",),
        _column("jet_sdmass"),
        (200, 0, 500),
    ),
    Observable(
        "n-constituents",
        "number of constituents",
        "constituents",
        "",
        ("jet_nparticles",),
        _column("jet_nparticles"),
        (300, -0.5, 299.5),
    ),
    Observable(
        "tau21",
        "ratio of 2- to 1-subjettiness",
        r"$\tau_{21}$",
        "",
        ("jet_tau1", "jet_tau2"),
        _tau_ratio(2),
        (120, 0, 1.2),
    ),
    Observable(
        "tau32",
        "ratio of 3- to 2-subjettiness",
        r"$\tau_{32}$",
        "",
        ("jet_tau2", "jet_tau3"),
        _tau_ratio(3),
        (120, 0, 1.2),
    ),
    Observable(
        "constituent-pt",
        "constituents' transverse momentum",
        r"constituent $p_T$",
        "GeV",
        ("part_px", "part_py"),
        _constituent_pt,
        (32, 0.1, 1000),
        is_log=True,
        falls=True,
        of_constituents=True,
    ),
    Observable(
        "constituent-distance",
        "constituents' distance from the jet's axis",
        r"constituent $\Delta R$ from the axis",
        "",
        ("part_deta", "part_dphi"),
        _distance,
        (30, 0, 1.2),
        falls=True,
        of_constituents=True,
    ),
    Observable(
        "constituent-d0",
        "tracks' transverse impact parameter",
        r"constituent $|d_0|$, of tracks",
        "mm",
        ("part_d0val",),
        _impact,
        (28, 1e-4, 1e3),
        is_log=True,
        falls=True,
        of_constituents=True,
    ),
)
"""In the order in which they are drawn."""
