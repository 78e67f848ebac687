"""Figures of what a tokenizer keeps of jets; they need the `plots` extra."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hepfm.cards.style import FAINT, INK, figure_class, write_png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TRUE, _DECODED = "#0072B2", "#D55E00"
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_DPI = 110
_QUANTISERS = MappingProxyType(
    {
        "kmeans": "K-means",
        "ema": "VQ-VAE",
        "cosine": "VQ-VAE, cosine",
        "residual": "VQ-VAE, residual",
        "fsq": "VQ-VAE, grid",
    }
)

_LABELS = MappingProxyType(
    {
        "part_pt": r"constituent $p_\mathrm{T}$ (relative)",
        "part_deta": r"constituent $\Delta\eta$",
        "part_dphi": r"constituent $\Delta\phi$ [rad]",
        "part_d0val": r"$d_0$ [mm]",
        "part_dzval": r"$d_z$ [mm]",
        "part_d0err": r"error of $d_0$ [mm]",
        "part_dzerr": r"error of $d_z$ [mm]",
        "jet_pt": r"jet $p_\mathrm{T}$ (relative)",
        "jet_mass": "jet mass [GeV]",
        "jet_sdmass": "soft-drop mass [GeV]",
        "jet_tau21": r"$\tau_{21}$",
        "jet_tau32": r"$\tau_{32}$",
    }
)


class JetsBeforeAndAfter(Protocol):
    """What figures need of jets and their decoded copies: see `hepfm.training.reconstruction.Reconstruction`."""

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Jet i owns constituents offsets[i]:offsets[i + 1]."""

    @property
    def true(self) -> NDArray[np.float32]:
        """Pt, deta, dphi and more, shape (M, F)."""

    @property
    def decoded(self) -> NDArray[np.float32]:
        """The same of the decoded constituents."""

    @property
    def ids(self) -> NDArray[np.int64]:
        """Codes, shape (M,)."""

    @property
    def n_codes(self) -> int:
        """How many different codes there are."""


def write_figures(made: JetsBeforeAndAfter, errors: Mapping[str, NDArray[Any]], out: Path) -> tuple[Path, ...]:
    """Write residuals.png, jet.png and codes.png.

    Args:
        made: jets before and after.
        errors: of constituents and jets by their names, NaN where there is none.
        out: an existing folder.

    Raises:
        HepfmError: matplotlib is not installed.
    """
    drawn = {"residuals": draw_residuals(errors), "jet": draw_jet(made), "codes": draw_codes(made)}
    return tuple(write_png(figure, out / f"{name}.png", dpi=_DPI) for name, figure in drawn.items())


def draw_residuals(errors: Mapping[str, NDArray[Any]]) -> "Figure":
    """Draw a histogram of each quantity's errors with their median and middle 68 %."""
    names = [name for name in _LABELS if name in errors and np.isfinite(errors[name]).any()]
    n_rows = -(-len(names) // 4)
    figure = figure_class()(figsize=(12, 2.7 * n_rows), layout="constrained")
    for place, name in enumerate(names):
        axes = figure.add_subplot(n_rows, 4, place + 1)
        values = errors[name][np.isfinite(errors[name])]
        low, median, high = np.percentile(values, [15.865, 50, 84.135])
        half = max(4 * (high - low) / 2, 1e-9)
        axes.hist(np.clip(values, median - half, median + half), bins=80, color=_TRUE, alpha=0.75)
        axes.axvspan(low, high, color=FAINT, alpha=0.25, lw=0)
        axes.axvline(0, color=INK, lw=0.8)
        axes.axvline(median, color=_DECODED, lw=1.2)
        axes.set_xlabel(f"error of {_LABELS[name]}", fontsize=9)
        axes.set_title(f"median {median:.2g}, robust $\\sigma$ {(high - low) / 2:.3g}", fontsize=9)
        axes.set_yticks([])
    return figure


def draw_jet(made: JetsBeforeAndAfter) -> "Figure":
    """Draw the jet of median number of constituents before and after; areas grow with pt."""
    counts = np.diff(made.offsets)
    jet = int(np.argsort(counts, kind="stable")[len(counts) // 2])
    rows = slice(made.offsets[jet], made.offsets[jet + 1])
    true, decoded = made.true[rows], made.decoded[rows]
    figure = figure_class()(figsize=(5.6, 5.2), layout="constrained")
    axes = figure.add_subplot()
    for one, other in zip(true, decoded, strict=True):
        axes.plot([one[1], other[1]], [one[2], other[2]], color=FAINT, lw=0.8, zorder=1)
    for values, colour, label in ((true, _TRUE, "true"), (decoded, _DECODED, "decoded")):
        axes.scatter(
            values[:, 1], values[:, 2], s=8 * np.sqrt(values[:, 0]) + 4, facecolors="none", edgecolors=colour,
            label=label, linewidths=1.3,
        )  # fmt: skip
    axes.set_xlabel(r"$\Delta\eta$")
    axes.set_ylabel(r"$\Delta\phi$ [rad]")
    axes.set_aspect("equal", adjustable="datalim")
    axes.legend(frameon=False)
    axes.set_title(f"a jet of {len(true)} constituents, {true[:, 0].sum():.0f} GeV", fontsize=10)
    return figure


def draw_codes(made: JetsBeforeAndAfter) -> "Figure":
    """Draw how often each code is used, from the most to the least used."""
    shares = np.sort(np.bincount(made.ids, minlength=made.n_codes))[::-1] / max(1, len(made.ids))
    figure = figure_class()(figsize=(5.6, 3.4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(np.arange(1, made.n_codes + 1), np.maximum(shares, 1e-9) * made.n_codes, color=_TRUE, lw=1.5)
    axes.axhline(1, color=FAINT, lw=0.8)
    axes.set_yscale("log")
    axes.set_ylim(bottom=max(1e-3, 0.5 * shares[shares > 0].min() * made.n_codes))
    axes.set_xlabel("codes, by falling use")
    axes.set_ylabel("use, as a multiple of even use")
    axes.set_title(f"{np.mean(shares > 0):.1%} of {made.n_codes:,} codes used", fontsize=10)
    return figure


def write_rate_distortion(evaluations: Sequence[Mapping[str, Any]], out: Path) -> Path:
    """Write rate-distortion.png, of what `tokenizer evaluate` writes."""
    return write_png(draw_rate_distortion(evaluations), out / "rate-distortion.png", dpi=_DPI)


def draw_rate_distortion(evaluations: Sequence[Mapping[str, Any]]) -> "Figure":
    """Draw errors against bits a particle, a line a kind of tokenizer."""
    panels = (
        ("constituents", "part_pt"),
        ("constituents", "part_deta"),
        ("constituents", "part_dphi"),
        ("jets", "jet_pt"),
        ("jets", "jet_mass"),
        ("jets", "jet_tau32"),
    )
    kinds: dict[str, list[Mapping[str, Any]]] = {}
    for one in evaluations:
        by_itself = ", each constituent by itself" * (one["context"] == "particle")
        kinds.setdefault(_QUANTISERS[one["quantiser"]] + by_itself, []).append(one)
    figure = figure_class()(figsize=(11, 6.2), layout="constrained")
    for place, (group, name) in enumerate(panels):
        axes = figure.add_subplot(2, 3, place + 1)
        for number, (kind, members) in enumerate(kinds.items()):
            measured = ((m["bits"], m[group][name]["sigma"]) for m in members)
            points = sorted(point for point in measured if point[1] is not None)
            colour, marker = _COLOURS[number % 6], _MARKERS[number % 6]
            axes.plot([p[0] for p in points], [p[1] for p in points], label=kind, color=colour, marker=marker)
        axes.set_yscale("log")
        axes.set_xlabel("bits a particle")
        axes.set_ylabel(f"robust $\\sigma$ of {_LABELS[name]}", fontsize=9)
        if not place:
            axes.legend(frameon=False, fontsize=8)
    return figure
