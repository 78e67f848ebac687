"""Views that share a shower, or hadrons: what is kept is kept to the last bit, and nothing else changes."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
from scipy import stats

import hepfm
from hepfm import manifest
from hepfm.errors import InputError
from hepfm.formats.hdf5 import read_attributes
from hepfm.resim import Campaign, extend, plan, run
from hepfm.resim.check import check_campaign
from hepfm.resim.folder import CAMPAIGN_FILE
from hepfm.resim.generator import EventFeed, PartonKeeper, make_pythia, pythia_seeds
from hepfm.resim.hard import HardEvents, feed_entries
from hepfm.resim.shower import _AS_FROZEN, Partons, Showered, _read, hadronise, shower
from hepfm.resim.variations import VARIATIONS, Variation, freeze_at, resolve_variations
from hepfm.resim.views import simulate_views

QUICK = ("PartonLevel:MPI = off",)
QUICK_BASE = Variation("quick", QUICK)
REHADRONISE = Variation("rehadronise", freeze="shower", base="quick")
SOFTER = Variation("softer", ("StringZ:aLund = 1.2",), freeze="shower", base="quick")
REDETECT = Variation("redetect", freeze="hadron", base="quick")
TWICE = Variation("twice", freeze="hadron", base="rehadronise")
RESEED = Variation("quick-reseed", QUICK)


def campaign_of(*variations: Variation, n_events: int = 40, detector: str = "cms", seed: int = 3) -> Campaign:
    return plan(n_events, variations, "Hbb", seed=seed, detector=detector, chunk_events=20)


def run_here(campaign: Campaign, folder: Path) -> dict[str, str]:
    """Run in this process; digests of the shards by path."""
    with ThreadPoolExecutor(1) as executor:
        return {r.path: r.sha256 for r in run(campaign, folder, executor, workers=1)}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Campaign, Path, dict[str, str]]:
    """Views that share the shower, views that share hadrons, and one that shares neither."""
    campaign = campaign_of(QUICK_BASE, REHADRONISE, RESEED, SOFTER, REDETECT, TWICE, n_events=60)
    folder = tmp_path_factory.mktemp("mixed") / "campaign"
    return campaign, folder, run_here(campaign, folder)


# The kept shower is the one that the base's hadrons come from.


class Reseeding(PartonKeeper):
    """Sets the random state before the hadronisation, so that it can be repeated."""

    def __init__(self, feed: EventFeed, seeds: list[int]) -> None:
        super().__init__(feed)
        self.seeds = seeds

    def doVetoPartonLevel(self, event: object) -> bool:  # noqa: N802
        super().doVetoPartonLevel(event)
        self.pythia.rndm.init(self.seeds[self._feed.place])
        return False


@pytest.mark.parametrize(
    "settings",
    [
        QUICK,
        (),
        (*VARIATIONS["vincia"].settings, *QUICK),
        ("ColourReconnection:mode = 1", "BeamRemnants:remnantMode = 1", "StringZ:aLund = 0.36"),
    ],
    ids=["quick", "nominal", "vincia", "colour-reconnection"],
)
def test_kept_shower_hadronised_with_the_same_random_numbers_gives_the_same_hadrons(
    frozen: Callable[..., HardEvents], settings: tuple[str, ...]
) -> None:
    n = 12
    events = frozen("Hbb", n)
    feed = EventFeed(events.beams)
    keeper = Reseeding(feed, pythia_seeds(1, "again", events.event_id).tolist())
    pythia = make_pythia((*_AS_FROZEN, *settings), feed, keeper)
    feed.load(feed_entries(events, pythia_seeds(1, "x", events.event_id)))
    keeper.wanted = True
    failed, direct, gluons = _read(pythia.nextBatch(n, "none"))
    assert not failed.any()
    partons = Partons(events, keeper.take(n), pythia)
    again = hadronise(partons, settings, 1, "again")
    assert again.rows.tolist() == list(range(n))
    for name in ("offsets", "pdg_id", "px", "py", "pz", "energy", "x", "z"):
        assert getattr(again.particles, name).tobytes() == getattr(direct, name).tobytes(), name
    assert again.gluons.flavour.tolist() == gluons.flavour.tolist()


def test_keeping_the_partons_changes_nothing(frozen: Callable[..., HardEvents]) -> None:
    events = frozen("QCD", 20)
    plain = shower(events, QUICK, 1, "quick")
    kept = shower(events, QUICK, 1, "quick", keep_partons=True)
    assert plain.partons is None
    assert kept.partons is not None and len(kept.partons.records) == len(kept.rows)
    assert plain.particles.px.tobytes() == kept.particles.px.tobytes()


def test_hadrons_of_an_event_alone_are_those_of_the_event_in_a_batch(frozen: Callable[..., HardEvents]) -> None:
    events = frozen("QCD", 60)
    kept = shower(events, QUICK, 1, "quick", keep_partons=True)
    batch = hadronise(kept.partons, QUICK, 1, "rehadronise")
    alone = shower(events.take(np.array([57])), QUICK, 1, "quick", keep_partons=True)
    one = hadronise(alone.partons, QUICK, 1, "rehadronise")
    assert one.particles.px.tobytes() == batch.particles.take(np.array([57])).px.tobytes()


def test_hadrons_have_the_momentum_and_charge_of_the_beams(frozen: Callable[..., HardEvents]) -> None:
    kept = shower(frozen("Tbqq", 30), (), 1, "nominal", keep_partons=True)
    made: Showered = hadronise(kept.partons, SOFTER.settings, 1, "softer")
    starts = made.particles.offsets[:-1]
    np.testing.assert_allclose(np.add.reduceat(made.particles.energy, starts), 13000, rtol=1e-6)
    for axis in ("px", "py", "pz"):
        np.testing.assert_allclose(np.add.reduceat(getattr(made.particles, axis), starts), 0, atol=0.1)
    assert set(np.add.reduceat(made.particles.charge.astype(int), starts)) == {2}


# What the views have in common, and what not.


def test_view_does_not_depend_on_those_that_share_its_shower(
    mixed: tuple[Campaign, Path, dict[str, str]], tmp_path: Path
) -> None:
    campaign, _, together = mixed
    alone = run_here(replace(campaign, variations=(QUICK_BASE,)), tmp_path / "alone")
    assert alone.items() <= together.items()


def test_extended_campaign_equals_one_that_had_the_views_from_the_start(
    mixed: tuple[Campaign, Path, dict[str, str]], tmp_path: Path
) -> None:
    campaign, _, together = mixed
    run_here(replace(campaign, variations=campaign.variations[:1]), tmp_path / "grown")
    for n in (2, 6):
        larger = extend(tmp_path / "grown", campaign.variations[:n])
        digests = run_here(larger, tmp_path / "grown")
    assert larger == campaign
    assert digests == together


def test_gluon_flavours_belong_to_the_shower(frozen: Callable[..., HardEvents]) -> None:
    events = frozen("QCD", 300)
    kept = shower(events, QUICK, 1, "quick", keep_partons=True)
    again, reseeded = hadronise(kept.partons, QUICK, 1, "rehadronise"), shower(events, QUICK, 1, "reseed")
    assert len(kept.gluons.flavour) > 20
    assert kept.gluons.flavour.tolist() == again.gluons.flavour.tolist()
    assert kept.gluons.flavour.tolist() != reseeded.gluons.flavour.tolist()


def test_jets_that_share_the_shower_differ_less_than_those_that_do_not(tmp_path: Path) -> None:
    # Without a detector, whose resolution would hide most of it.
    run_here(campaign_of(QUICK_BASE, REHADRONISE, RESEED, n_events=200, detector="none"), tmp_path / "c")
    data = hepfm.open(tmp_path / "c")

    def spread(other: str) -> float:
        first, second = data.pairs("quick", other, ["jet_pt"])
        assert len(first) > 50
        low, high = np.quantile(np.log(ak.to_numpy(second.jet_pt) / ak.to_numpy(first.jet_pt)), (0.16, 0.84))
        return float(high - low)

    assert 0 < spread("rehadronise") < 0.7 * spread("quick-reseed")


def test_hadronising_again_gives_the_same_distributions(frozen: Callable[..., HardEvents]) -> None:
    events = frozen("Hbb", 300)
    kept = shower(events, QUICK, 1, "quick", keep_partons=True)
    again = hadronise(kept.partons, QUICK, 1, "rehadronise")
    for name in ("counts", "hardest"):
        first, second = (
            p.counts if name == "counts" else np.maximum.reduceat(p.energy, p.offsets[:-1])
            for p in (kept.particles, again.particles)
        )
        assert stats.ks_2samp(first, second).pvalue > 0.01, name
    assert not np.array_equal(kept.particles.counts, again.particles.counts)


def test_string_parameters_act_on_a_kept_shower(frozen: Callable[..., HardEvents]) -> None:
    kept = shower(frozen("Hbb", 300), QUICK, 1, "quick", keep_partons=True)
    # A larger a makes hadrons softer and so more of them.
    nominal, softer = (hadronise(kept.partons, (*QUICK, *s), 1, "same") for s in ((), SOFTER.settings))
    gain = softer.particles.counts.mean() / nominal.particles.counts.mean()
    assert 1.01 < gain < 1.3


def test_detector_alone_changes_nothing_where_there_is_none(tmp_path: Path) -> None:
    run_here(campaign_of(QUICK_BASE, REDETECT, detector="none"), tmp_path / "c")
    first, second = hepfm.open(tmp_path / "c").pairs("quick", "redetect")
    assert len(first) > 10
    for name in first.fields:
        if name not in ("view", "variation"):
            assert ak.all(first[name] == second[name]), name


def test_variation_may_have_a_detector_of_its_own(tmp_path: Path) -> None:
    perfect = replace(REDETECT, name="perfect", detector="none")
    run_here(campaign_of(QUICK_BASE, perfect), tmp_path / "c")
    run_here(campaign_of(QUICK_BASE, detector="none"), tmp_path / "none")
    ours = hepfm.open(tmp_path / "c").read(variation="perfect")
    reference = hepfm.open(tmp_path / "none").read(variation="quick")
    assert ours.jet_pt.tolist() == reference.jet_pt.tolist()


def test_event_without_a_shower_is_missing_in_every_view_that_shares_it(frozen: Callable[..., HardEvents]) -> None:
    campaign = campaign_of(QUICK_BASE, REHADRONISE, REDETECT)
    events = frozen("Hbb", 20)
    coloured = events.offsets[7] + np.flatnonzero(events.colour1[events.offsets[7] : events.offsets[8]])[0]
    colours = events.colour1.copy()
    colours[coloured] += 77
    sound = simulate_views(events, campaign, 0, [0, 1, 2])
    broken = simulate_views(replace(events, colour1=colours), campaign, 0, [0, 1, 2])
    for ours, theirs in zip(broken, sound, strict=True):
        assert ours.counts.missing == [7]
        expected = theirs.table.select(theirs.table.columns["event_id"] != 7)
        assert ours.table.columns["jet_pt"].tolist() == expected.columns["jet_pt"].tolist()
    assert [made.counts.n_retried for made in broken] == [4, 0, 0]


def test_campaign_says_what_its_views_share(mixed: tuple[Campaign, Path, dict[str, str]]) -> None:
    campaign, folder, _ = mixed
    assert campaign.groups == ((0, 1, 3, 4, 5), (2,))
    assert manifest.read_header(folder)["shares"] == {
        "rehadronise": {"keeps": "shower", "of": "quick"},
        "softer": {"keeps": "shower", "of": "quick"},
        "redetect": {"keeps": "hadrons", "of": "quick"},
        "twice": {"keeps": "hadrons", "of": "rehadronise"},
    }
    chunk = next(iter(campaign.chunks()))
    attributes = read_attributes(folder / campaign.shard_path(chunk, 3))
    assert (attributes["freeze"], attributes["shares_with"]) == ("shower", "quick")
    assert attributes["settings"] == [*QUICK, *SOFTER.settings]
    assert read_attributes(folder / campaign.shard_path(chunk, 2))["shares_with"] == ""
    assert Campaign.from_toml(folder / CAMPAIGN_FILE) == campaign
    assert check_campaign(folder).problems == []


# Asking for it.


def test_freeze_lets_all_but_the_first_share_its_shower() -> None:
    frozen = freeze_at("shower", resolve_variations("nominal,reseed,hadronisation,redetect"))
    assert [(v.name, v.freeze, v.base) for v in frozen[1:]] == [
        ("reseed", "shower", "nominal"),
        ("hadronisation", "shower", "nominal"),
        ("redetect", "hadron", "nominal"),
    ]
    assert freeze_at("hard", frozen) == frozen


@pytest.mark.parametrize(
    ("variations", "words"),
    [
        ("rehadronise", "keeps the shower of 'nominal', which is not in the list. Add it"),
        ((Variation("a"), Variation("b", ("TimeShower:renormMultFac = 2",), freeze="shower", base="a")), "no effect"),
        ((Variation("a"), Variation("b", ("StringZ:aLund = 0.5",), freeze="hadron", base="a")), "no effect on kept"),
        (
            (Variation("a", ("Ropewalk:RopeHadronization = on",)), Variation("b", freeze="shower", base="a")),
            "cannot be",
        ),
        ((Variation("a", freeze="shower", base="a"),), "which is not made anew there either"),
        (
            (Variation("n"), Variation("a", freeze="shower", base="n"), Variation("b", freeze="shower", base="a")),
            "not made anew there either",
        ),
        ((Variation("a"), Variation("b", freeze="hadron", base="a", detector="cmss")), "Did you mean 'cms'?"),
    ],
)
def test_kept_part_that_cannot_be_is_one_clear_error(variations: str | tuple[Variation, ...], words: str) -> None:
    with pytest.raises(InputError, match=words) as raised:
        plan(10, variations)
    assert "\n" not in str(raised.value)
