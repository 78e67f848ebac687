import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.patches import Circle
from PIL import Image
from toy_jets import toys, write_toys

import hepfm
from hepfm.cards.figures import draw_views, frozen_prongs
from hepfm.errors import HepfmError, InputError
from hepfm.resim.frozen import hard_events
from hepfm.schema import COLUMNS
from hepfm.table import JetTable

EXAMPLE = Path(__file__).parents[2] / "examples" / "eight_views.py"


@pytest.fixture(scope="module")
def data(small_campaign) -> hepfm.Dataset:
    return hepfm.open(small_campaign[1])


def jets_of(data: hepfm.Dataset, *, n_views: int, backward: bool | None = None) -> list[tuple[int, int]]:
    """Event and index of the jets that as many views have; `backward`: all of them at negative eta, or none."""
    jets = data.read(["event_id", "jet_index", "jet_eta"])
    keys = list(zip(jets.event_id.to_list(), jets.jet_index.to_list(), strict=True))
    is_backward = {key: [] for key in keys}
    for key, eta in zip(keys, jets.jet_eta.to_list(), strict=True):
        is_backward[key].append(eta < 0)
    found = [k for k, signs in is_backward.items() if len(signs) == n_views and backward in (None, signs[0])]
    assert found, "the small campaign has no such jet"
    return found


def a_jet_in_view(variation: str, process: str) -> JetTable:
    """A toy jet with what is drawn of jets."""
    jet = toys(1, variation=variation)
    known = {"jet_pt": 500.0, "jet_eta": 0.0, "jet_phi": 0.0, "jet_nparticles": 9.0, "truth_eta": 0.0, "truth_phi": 0.0}
    columns = {name: np.array([value]).astype(COLUMNS[name].dtype) for name, value in known.items()}
    return replace(jet, columns={**jet.columns, **columns, "process": np.array([process])})


def discs(panel):
    """Positions, areas and colours of the constituents, which are drawn before the marks."""
    drawn = panel.collections[0]
    return drawn.get_offsets(), drawn.get_sizes(), drawn.get_facecolors()


def test_every_variation_has_a_panel_in_the_order_of_the_campaign(data):
    figure = draw_views(data, *jets_of(data, n_views=2)[0])
    assert [panel.get_title(loc="left") for panel in figure.axes] == ["quick", "quick-fsr-up"]


@pytest.mark.parametrize("n_views", [1, 2, 4, 8])
@pytest.mark.parametrize("process", ["Hbb", "the-long-name-of-a-file-of-events-that-somebody-made-with-powheg"])
def test_title_and_legend_are_whole_and_panels_in_the_middle(n_views, process, tmp_path):
    jets = [a_jet_in_view(f"view-{number}", process) for number in range(n_views)]
    figure = draw_views(hepfm.open(write_toys(tmp_path / "toys.parquet", *jets)), 1000)
    figure.savefig(tmp_path / "views.png", dpi=110)
    with Image.open(tmp_path / "views.png") as image:
        is_ink = np.asarray(image.convert("L")) < 250
    assert not is_ink[:, [0, 1, -2, -1]].any(), "nothing reaches the edge"
    for panel in figure.axes:
        width, height = panel.get_window_extent().size
        assert width == pytest.approx(height)
    left, right = figure.axes[0].get_position().x0, figure.axes[-1].get_position().x1
    # The first panel has its labels on the left.
    assert left + right - 1 == pytest.approx(0.46 / figure.get_figwidth(), abs=0.01)


@pytest.mark.parametrize("backward", [False, True])
def test_constituents_lie_where_their_momenta_point(data, backward):
    """Whatever JetClass's sign flip does to part_deta: eta and phi are computed from the momenta here."""
    event_id, jet_index = jets_of(data, n_views=2, backward=backward)[0]
    views = data.views(event_id)
    views = views[views.jet_index == jet_index]
    figure = draw_views(data, event_id, jet_index)
    for panel, jet in zip(figure.axes, views, strict=True):
        p = jet.particles
        expected = np.stack(
            [
                p.eta.to_numpy() - jet.truth_eta,
                (p.phi.to_numpy() - jet.truth_phi + np.pi) % (2 * np.pi) - np.pi,
            ],
            axis=1,
        )
        positions, areas, _ = discs(panel)
        np.testing.assert_allclose(positions, expected, atol=1e-3)
        np.testing.assert_allclose(areas / areas.sum(), p.pt.to_numpy() / p.pt.to_numpy().sum(), rtol=1e-4)
        (circle,) = (patch for patch in panel.patches if isinstance(patch, Circle))
        assert circle.radius == 0.8
        # Most of the jet is around its own axis.
        distance = np.hypot(*(positions - np.array(circle.center)).T)
        assert np.average(distance, weights=areas) < 0.5


def test_colours_tell_the_kinds_of_particles(data):
    event_id, jet_index = jets_of(data, n_views=2)[0]
    jet = data.views(event_id)[0]
    _, _, colours = discs(draw_views(data, event_id, jet_index).axes[0])
    kinds = ("ChargedHadron", "NeutralHadron", "Photon", "Electron", "Muon")
    kind = np.argmax([jet[f"part_is{name}"].to_numpy() for name in kinds], axis=0)
    by_kind = {k: np.unique(colours[kind == k], axis=0) for k in np.unique(kind)}
    assert len(by_kind) >= 3
    assert all(len(found) == 1 for found in by_kind.values())
    assert len(np.unique(np.concatenate(list(by_kind.values())), axis=0)) == len(by_kind)


def test_a_view_without_the_jet_says_so(data):
    figure = draw_views(data, *jets_of(data, n_views=1)[0])
    texts = [" ".join(text.get_text() for text in panel.texts) for panel in figure.axes]
    assert sum("no jet passed" in text for text in texts) == 1


def test_frozen_quarks_are_those_that_the_resonance_decays_to(small_campaign, data):
    campaign, folder = small_campaign
    (process,) = (i for i, p in enumerate(campaign.processes) if p.name == "Hbb")
    jets = data.read(["event_id", "jet_index", "truth_eta"], process="Hbb")
    event_id = int(jets.event_id[0])
    row = campaign.event_ids(process, 0, campaign.events_of(process)).tolist().index(event_id)
    event = hard_events(campaign, folder, process, row, row + 1)
    b = np.flatnonzero(np.abs(event.pdg_id) == 5)
    b = b[event.status[b] == 1]
    assert len(b) == 2
    eta, phi = frozen_prongs(folder, event_id, int(jets.jet_index[0]))
    np.testing.assert_allclose(np.sinh(eta), event.pz[b] / np.hypot(event.px[b], event.py[b]))
    np.testing.assert_allclose(phi, np.arctan2(event.py[b], event.px[b]))
    assert eta.min() < jets.truth_eta[0] < eta.max()


def test_a_jet_that_does_not_exist_is_one_clear_line(small_campaign, data):
    with pytest.raises(InputError, match="no view of event 999 has a jet 0"):
        draw_views(data, 999)
    with pytest.raises(InputError, match="no frozen event 999"):
        frozen_prongs(small_campaign[1], 999)
    with pytest.raises(InputError, match="with a jet 5"):
        frozen_prongs(small_campaign[1], 0, 5)


def test_without_matplotlib_the_error_names_the_command_that_installs_it(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(HepfmError, match=r'pip install "hepfm\[plots\]"'):
        draw_views(data, 0)


def test_the_example_draws_a_figure(small_campaign, tmp_path):
    out = tmp_path / "new" / "views.png"
    command = [sys.executable, EXAMPLE, small_campaign[1], out]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 0, result.stderr
    assert str(out) in result.stdout
    with Image.open(out) as image:
        assert image.width > 600
    result = subprocess.run([*command[:2], tmp_path, out], capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 1
    assert result.stderr.startswith("eight_views: not a campaign folder")
    assert result.stderr.count("\n") == 1
