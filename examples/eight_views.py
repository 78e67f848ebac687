"""Draw one H→bb jet of a campaign under all of its variations.

usage: python examples/eight_views.py CAMPAIGN_FOLDER FIGURE.png
"""

import sys
from pathlib import Path

import numpy as np

import hepfm
from hepfm.cards.figures import draw_views, frozen_prongs
from hepfm.errors import HepfmError


def choose_jet(data: hepfm.Dataset) -> tuple[int, int]:
    """Find the event and jet index present in all views where two prongs show most: of smallest mean tau21."""
    jets = data.read(["event_id", "jet_index", "jet_tau1", "jet_tau2"], process="Hbb")
    keys = np.stack([jets.event_id.to_numpy(), jets.jet_index.to_numpy()], axis=1)
    found, row, n_views = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    tau21 = np.bincount(row.ravel(), (jets.jet_tau2 / jets.jet_tau1).to_numpy()) / n_views
    tau21[n_views < n_views.max()] = np.inf
    event_id, jet_index = found[np.argmin(tau21)].tolist()
    return event_id, jet_index


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit((__doc__ or "").strip())
    folder, out = sys.argv[1:]
    try:
        data = hepfm.open(folder)
        event_id, jet_index = choose_jet(data)
        figure = draw_views(data, event_id, jet_index, prongs=frozen_prongs(folder, event_id, jet_index))
    except HepfmError as error:
        sys.exit(f"eight_views: {error}")
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=160)
    print(f"event {event_id}, jet {jet_index} in {len(data.variations)} views: {out}")


if __name__ == "__main__":
    main()
