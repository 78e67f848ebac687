"""The pictures of a dataset's card, as files beside it."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hepfm.cards.observables import OBSERVABLES
from hepfm.cards.prongs import frozen_prongs_of
from hepfm.cards.style import why_no_plots, write_png
from hepfm.cards.survey import survey
from hepfm.dataset import Dataset

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = "figures"
_VIEWS = "views"
_DPI = 110
_CANDIDATES = 100  # jets of which the most telling is drawn
_BEST_DISTANCE = 0.5  # of two prongs that are seen as two in a jet of radius 0.8
_log = logging.getLogger("hepfm")


@dataclass(frozen=True)
class Picture:
    """A picture: `path` relative to the card, and what it shows in a sentence without its full stop."""

    path: str
    text: str


def write_pictures(folder: Path, campaign: Path, dataset: Dataset, digest: str) -> tuple[Picture, ...]:
    """Draw a jet in all its views and the distributions of the observables.

    Pictures that are there already, of the same digest, stay as they are. The same jets, drawn by the same version of
    matplotlib, give the same bytes.

    Args:
        folder: of the card.
        campaign: the campaign's folder.
        dataset: the campaign, opened.
        digest: of the jets; goes into the pictures.

    Returns:
        The pictures, that of the views first; none where the `plots` extra is not installed, which is logged.

    Raises:
        StorageError: a picture could not be written.
    """
    observables = [o for o in OBSERVABLES if set(dataset.columns).issuperset(o.columns)]
    n = len(dataset.variations)
    views = f"One frozen event, {f'simulated under {n} variations' if n > 1 else 'in one view'}: a jet in the η–φ plane"
    found = [
        Picture(f"{FOLDER}/{_VIEWS}.png", views),
        *(Picture(f"{FOLDER}/{o.name}.png", f"Distribution of the {o.title}") for o in observables),
    ]
    if all(_shows(folder / picture.path, digest) for picture in found):
        return tuple(found)
    why = why_no_plots()
    if why:
        _log.warning("the card has no pictures: %s", why)
    figures = {} if why else _draw(campaign, dataset)
    for name in (_VIEWS, *(o.name for o in OBSERVABLES)):
        path = folder / FOLDER / f"{name}.png"
        if name in figures:
            # matplotlib's version, which it writes by default, would make the bytes change with it.
            write_png(figures[name], path, dpi=_DPI, metadata={"Software": None, "Source": digest})
        else:
            path.unlink(missing_ok=True)
    return tuple(picture for picture in found if Path(picture.path).stem in figures)


def _draw(campaign: Path, dataset: Dataset) -> "dict[str, Figure]":
    """All figures by name, in one pass over the jets."""
    from hepfm.cards.distributions import draw_distribution
    from hepfm.cards.figures import draw_views

    found = survey(dataset, _CANDIDATES)
    gallery, histograms = found.gallery, found.histograms
    prongs = frozen_prongs_of(campaign, gallery.keys)
    best = max(gallery.entries(prongs), key=_merit)
    key = best["event"], best["jet"]
    figures = {_VIEWS: draw_views(dataset, *key, prongs=prongs.get(key))}
    if histograms is not None:
        figures |= {o.name: draw_distribution(histograms, o) for o in histograms.observables}
    return figures


def _merit(jet: dict[str, Any]) -> tuple[int, int, float]:
    """How well a jet shows what views have in common: made in many of them, of several prongs, well apart."""
    eta, phi = jet["prongs"]
    distance = max(abs(eta[0] - eta[-1]), abs(phi[0] - phi[-1])) if eta else 0.0
    return len(jet["views"]), min(len(eta), 2), -abs(distance - _BEST_DISTANCE)


def _shows(path: Path, digest: str) -> bool:
    """Whether a picture is there, and of the jets with this digest."""
    return path.is_file() and b"tEXtSource\0" + digest.encode() in path.read_bytes()
