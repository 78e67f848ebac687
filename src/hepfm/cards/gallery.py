"""Some jets of a dataset with all their views, for a page to show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepfm.cards.style import KINDS
from hepfm.dataset import Dataset
from hepfm.kinematics import pt_eta_phi, wrapped
from hepfm.table import JetTable

Key = tuple[int, int]
"""event_id and jet_index; where jets have none, the number of the jet and 0."""
_Prongs = Mapping[Key, tuple[NDArray[np.float64], NDArray[np.float64]]]

_NEEDED = ("jet_pt", "jet_eta", "jet_phi", "part_px", "part_py", "part_pz")
_WELCOME = (
    *("event_id", "jet_index", "jet_label", "variation", "process", "truth_eta", "truth_phi"),
    *("jet_sdmass", "part_charge", "part_d0val", *(f"part_is{kind}" for kind in KINDS)),
)
_KEY_JETS = 1 << 17
_MARGIN = 1.3  # half-width of a panel in jet radii
_INSIDE = 0.997  # share of constituents inside a panel where no radius is known


@dataclass(frozen=True)
class Frame:
    """What the panels of all jets share: variations in order, the radius of the jets, half the width of a panel."""

    variations: tuple[str, ...]
    radius: float | None
    reach: float


class Gallery:
    """Jets chosen from a dataset, and what was seen of their views when going through it."""

    def __init__(self, dataset: Dataset, n_events: int) -> None:
        """Choose jets, about as many of each class; always the same of the same dataset.

        Args:
            dataset: gone through once here, for its keys alone.
            n_events: how many to choose, at most.
        """
        present = set(dataset.columns)
        self.is_possible = present.issuperset(_NEEDED)
        """Whether the dataset has what a picture of a jet needs."""
        self.has_views = bool(dataset.variations) and present.issuperset(("event_id", "jet_index", "variation"))
        """Whether jets are known to be views of the same event."""
        self.variations = dataset.variations if self.has_views else ("",)
        self.columns = (*_NEEDED, *(name for name in _WELCOME if name in present)) if self.is_possible else ()
        self.classes = dataset.classes
        self._n_seen = 0
        self._views: dict[Key, dict[str, dict[str, Any]]] = {}
        if self.is_possible and n_events:
            self._views = {key: {} for key in self._choose(dataset, n_events)}
        self._facts: dict[Key, dict[str, Any]] = {}

    @property
    def keys(self) -> Sequence[Key]:
        """Of the jets chosen."""
        return tuple(self._views)

    def add(self, table: JetTable) -> None:
        """Keep the views of the chosen jets among some jets.

        Args:
            table: with at least `columns`; the dataset's tables in their order.
        """
        keys = self._keys_of(table)
        self._n_seen += table.n_jets
        events = np.array([event for event, _ in self._views], np.int64)
        for row in np.flatnonzero(np.isin(keys[:, 0], events)).tolist():
            key = int(keys[row, 0]), int(keys[row, 1])
            if key in self._views:
                self._keep(key, table.slice(row, row + 1))

    def frame(self, radius: float | None) -> Frame:
        """What the panels share.

        Args:
            radius: of the jets, if it is known.
        """
        if radius is not None:
            return Frame(self.variations, radius, _MARGIN * radius)
        particles = [view["particles"] for views in self._views.values() for view in views.values()]
        places = np.abs([place for found in particles for place in (*found["x"], *found["y"])])
        return Frame(self.variations, None, float(np.quantile(places, _INSIDE)) if len(places) else 1.0)

    def entries(self, prongs: _Prongs) -> list[dict[str, Any]]:
        """The chosen jets for JSON, those of which no view was seen left out.

        Args:
            prongs: directions of frozen particles, as far as they are known.
        """
        found = []
        for key, views in self._views.items():
            if not views:
                continue
            facts = self._facts[key]
            eta, phi = prongs.get(key, (np.empty(0), np.empty(0)))
            marks = [_rounded(eta - facts["eta"], 4), _rounded(wrapped(phi - facts["phi"]), 4)]
            found.append({"event": key[0], "jet": key[1], **facts["shown"], "prongs": marks, "views": views})
        return found

    def _choose(self, dataset: Dataset, n_events: int) -> list[Key]:
        names = [name for name in ("event_id", "jet_index") if self.has_views]
        labels = [name for name in ("jet_label",) if name in self.columns]
        tables = (
            dataset.tables(_KEY_JETS, [*names, *labels], variation=self.variations[0])
            if self.has_views
            else dataset.tables(_KEY_JETS, labels or ["jet_pt"])
        )
        draw = np.random.default_rng(0)
        first: dict[int, list[tuple[float, Key]]] = {}
        for table in tables:
            keys, priority = self._keys_of(table), draw.random(table.n_jets)
            self._n_seen += table.n_jets
            label = table.columns.get("jet_label", np.zeros(table.n_jets, np.int16))
            for number in np.unique(label).tolist():
                rows = np.flatnonzero(label == number)
                rows = rows[np.argsort(priority[rows])[:n_events]]
                mine = [(float(priority[row]), (int(keys[row, 0]), int(keys[row, 1]))) for row in rows]
                first[number] = sorted([*first.get(number, []), *mine])[:n_events]
        self._n_seen = 0
        # The first of every class, then the second of every class, ...
        turns = [(turn, number, key) for number, found in first.items() for turn, (_, key) in enumerate(found)]
        return sorted({key for _, _, key in sorted(turns)[:n_events]})

    def _keys_of(self, table: JetTable) -> NDArray[np.int64]:
        """Keys of jets, shape (N, 2)."""
        if self.has_views:
            return np.stack([table.columns[name].astype(np.int64) for name in ("event_id", "jet_index")], axis=1)
        return np.stack([self._n_seen + np.arange(table.n_jets), np.zeros(table.n_jets, np.int64)], axis=1)

    def _keep(self, key: Key, jet: JetTable) -> None:
        """Keep the only jet of a table as a view."""
        columns = {name: values[0].item() for name, values in jet.columns.items()}
        if key not in self._facts:
            label = columns.get("jet_label", -1)
            self._facts[key] = {
                "eta": columns.get("truth_eta", columns["jet_eta"]),
                "phi": columns.get("truth_phi", columns["jet_phi"]),
                "shown": {
                    "class": self.classes[label] if 0 <= label < len(self.classes) else "",
                    "process": columns.get("process", ""),
                    "frozen": "truth_eta" in columns,
                    "numbered": not self.has_views,
                },
            }
        facts = self._facts[key]
        variation = columns["variation"] if self.has_views else ""
        self._views[key][variation] = {
            "pt": _rounded(columns["jet_pt"], 1),
            "mass": _rounded(columns.get("jet_sdmass", np.nan), 1),
            "axis": [
                _rounded(columns["jet_eta"] - facts["eta"], 4),
                _rounded(wrapped(columns["jet_phi"] - facts["phi"]), 4),
            ],
            "particles": _particles(jet, facts["eta"], facts["phi"]),
        }


def _particles(jet: JetTable, eta: float, phi: float) -> dict[str, Any]:
    """Constituents as lists, around a direction: place, pt in GeV, number of the kind (-1: none), charge, d0 in mm."""
    px, py, pz = (jet.constituents[f"part_{name}"].astype(np.float64) for name in ("px", "py", "pz"))
    pt, particle_eta, particle_phi = pt_eta_phi(px, py, pz)
    # One without transverse momentum is nowhere in the plane.
    seen = np.flatnonzero((pt > 0) & np.isfinite(pt + pz))
    kind = np.full(len(seen), -1)
    for number, name in enumerate(KINDS):
        if f"part_is{name}" in jet.constituents:
            kind[jet.constituents[f"part_is{name}"][seen] > 0] = number
    optional = {
        name: _rounded(jet.constituents[column][seen].astype(np.float64), digits)
        for name, column, digits in (("charge", "part_charge", 0), ("d0", "part_d0val", 4))
        if column in jet.constituents
    }
    return {
        "x": _rounded(particle_eta[seen] - eta, 4),
        "y": _rounded(wrapped(particle_phi[seen] - phi), 4),
        "pt": _rounded(pt[seen], 2),
        "kind": kind.tolist(),
        **optional,
    }


def _rounded(values: Any, digits: int) -> Any:  # noqa: ANN401 - a number or an array of them
    """A number or list for JSON, with None where it is not finite."""
    rounded = np.round(np.asarray(values, np.float64), digits)
    # 0 is added to make -0 positive.
    found = (rounded + 0.0).astype(object)
    return np.where(np.isfinite(rounded), found, np.array(None)).tolist()
