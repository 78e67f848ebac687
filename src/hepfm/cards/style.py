"""What all figures share: colours, and one clear line where matplotlib is missing."""

import io
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from hepfm.atomic import write_whole
from hepfm.errors import HepfmError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, FAINT, EDGE = "#222222", "#8a8a8a", "#c8c8c8"

KINDS = MappingProxyType(
    {
        "ChargedHadron": ("charged hadron", "#0072B2"),
        "NeutralHadron": ("neutral hadron", "#009E73"),
        "Photon": ("photon", "#E69F00"),
        "Electron": ("electron", "#D55E00"),
        "Muon": ("muon", "#CC79A7"),
    }
)
"""Names and colours of the kinds of constituents `part_is<KIND>`, in the order of drawing.

The colours are Okabe and Ito's, told apart with any kind of colour vision.
"""


def why_no_plots() -> str | None:
    """Why no figure can be drawn, in a sentence that names the command that helps; None if nothing is missing."""
    for module in ("matplotlib", "matplotlib.figure", "mplhep", "hist"):
        if find_spec(module) is None:
            return f'figures need {module.partition(".")[0]}, which is not installed: pip install "hepfm[plots]"'
    return None


def figure_class() -> "type[Figure]":
    """The class of matplotlib's figures; pyplot, which keeps every figure, is not used.

    Raises:
        HepfmError: a part of the `plots` extra is not installed.
    """
    if why := why_no_plots():
        raise HepfmError(why)
    from matplotlib.figure import Figure

    return Figure


def write_png(figure: "Figure", path: Path, **options: Any) -> Path:  # noqa: ANN401
    """Write a figure as PNG, whole or not at all, with options of `savefig`; give its path.

    Raises:
        StorageError: it cannot be written.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", **options)
    write_whole(path, buffer.getvalue())
    return path
