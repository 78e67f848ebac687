"""The campaign folder: made, checked, extended and locked."""

import fcntl
import json
import logging
import os
import platform
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from hepfm import manifest
from hepfm.atomic import create, exists, is_local, location, names, remove, write_whole
from hepfm.errors import CampaignError, InputError
from hepfm.resim.campaign import Campaign, check, check_files, what_decides
from hepfm.resim.external import check_program
from hepfm.resim.ingest import check_block_files
from hepfm.resim.lease import lease
from hepfm.resim.variations import Variation
from hepfm.schema import FORMAT_VERSION, SPLIT_RULE

CAMPAIGN_FILE = "campaign.toml"
_LOCK = "running.json"
_VERSIONED = ("hepfm", "pythia8mc", "fastjet", "numpy", "numba", "awkward", "h5py", "pylhe")
# Those of which another version may make other views.
_DECIDING = ("hepfm", "pythia8mc", "fastjet", "numpy")

_log = logging.getLogger("hepfm.resim")


def prepare(campaign: Campaign, folder: Path) -> None:
    """Make the campaign folder, or check that it holds this very campaign; `describe` follows, in the folder's lock.

    Of several processes that begin at once one makes the folder, and the others find it. An extension that was killed
    before it had made a view is taken back.

    Raises:
        CampaignError: the folder holds something else, or another process runs the extension.
        HepfmError: the folder cannot be written, or the campaign makes no sense.
    """
    settings = folder / CAMPAIGN_FILE
    if exists(settings):
        theirs = Campaign.from_toml(settings)
        further = theirs.variations[len(campaign.variations) :]
        ours = replace(theirs, variations=theirs.variations[: len(campaign.variations)])
        if further and ours.digest == campaign.digest:
            withdraw(folder, {v.name for v in further}, wanted=campaign)
        check_holds(campaign, folder)
        return
    check(campaign)
    _check_programs(campaign.variations)
    check_files(campaign)
    if (is_local(folder) and folder.is_file()) or not all(map(_is_unfinished, names(folder))):
        msg = f"{folder} exists and is not a campaign folder. Choose another name."
        raise CampaignError(msg)
    try:
        # Never replaced while there may be somebody who locks it.
        create(settings, campaign.to_toml().encode())
    except FileExistsError:
        prepare(campaign, folder)


def check_holds(campaign: Campaign, folder: Path) -> None:
    """Check that a folder holds this very campaign, and no other.

    Raises:
        CampaignError: it holds another.
    """
    theirs = read_campaign(folder)
    if theirs.digest == campaign.digest:
        return
    differing = campaign.differences(theirs)
    grow = ""
    is_larger = campaign.n_events > theirs.n_events and not campaign.from_files
    if {*differing} <= {"n_events", "chunk_events"} and is_larger:
        grow = f"make that one larger with `--extend {folder} --n-events {campaign.n_events}`, "
    msg = (
        f"{folder} holds another campaign: {', '.join(differing)} differ. Choose another folder, {grow}or repeat that "
        f"one with `--config {folder / CAMPAIGN_FILE}`."
    )
    raise CampaignError(msg)


def is_campaign(folder: Path) -> bool:
    """Whether a folder is that of a campaign."""
    return exists(folder / CAMPAIGN_FILE)


def read_campaign(folder: Path) -> Campaign:
    """The campaign that a folder holds.

    Raises:
        CampaignError: it holds none.
        InputError: its settings are damaged.
    """
    if not is_campaign(folder):
        msg = f"{folder} is not a campaign folder: it has no {CAMPAIGN_FILE}. Give the folder of a campaign."
        raise CampaignError(msg)
    return Campaign.from_toml(folder / CAMPAIGN_FILE)


def describe(campaign: Campaign, folder: Path) -> None:
    """Write what readers of the folder go by, unless it is there; its lock must be held.

    Where the software is not what older shards were made with, the log says so, and the versions of both are kept.

    Raises:
        StorageError: it cannot be written.
    """
    known = manifest.read_header(folder)
    before = known.get("versions")
    before = before if isinstance(before, dict) else {}
    versions = _versions(before)
    if before and versions != before and len(manifest.read(folder)) == campaign.n_shards:
        versions = before  # there is nothing left to make
    if (known.get("digest"), before) == (campaign.digest, versions):
        return
    _warn_of_mixture(before, versions)
    header = {
        "format_version": FORMAT_VERSION,
        "digest": campaign.digest,
        "n_events": campaign.n_events,
        "seed": campaign.seed,
        "detector": campaign.detector,
        "processes": [p.name for p in campaign.processes],
        "variations": [v.name for v in campaign.variations],
        "shares": {v.name: {"keeps": v.kept, "of": v.base} for v in campaign.variations if not v.is_independent},
        "n_shards": campaign.n_shards,
        "split": SPLIT_RULE,
        "versions": versions,
    }
    write_whole(folder / manifest.HEADER, (json.dumps(header, indent=2) + "\n").encode())


def _versions(before: dict[str, str]) -> dict[str, str]:
    """The versions that a campaign has been made with, and those installed now: "8.316.0, 8.317.2"."""
    versions = dict(before)
    for name, now in ({name: version(name) for name in _VERSIONED} | {"python": platform.python_version()}).items():
        if now not in versions.get(name, "").split(", "):
            versions[name] = f"{versions[name]}, {now}" if name in versions else now
    return versions


def _warn_of_mixture(before: dict[str, str], versions: dict[str, str]) -> None:
    changed = [name for name in _DECIDING if name in before and versions[name] != before[name]]
    if changed:
        older = ", ".join(f"{name} {before[name]}" for name in changed)
        newer = ", ".join(f"{name} {version(name)}" for name in changed)
        _log.warning(
            "the campaign was made with %s until now and goes on with %s: its shards may differ for that alone",
            older,
            newer,
            extra={"data": {"before": older, "now": newer}},
        )


def extend(folder: Path | str, variations: tuple[Variation, ...] = (), *, n_events: int | None = None) -> Campaign:
    """Add variations to a campaign, for the same frozen events, or events; `run` then simulates what is missing.

    Variations that the campaign has already stay as they are, so that an interrupted extension can be repeated;
    one of which no view was made yet may still change, such as the command of a generator that did not work.
    Shards that the campaign ended with, because there were no more events, are made again. Nothing is changed before
    it is clear that what the extension needs is there: programs, and files of other generators.

    Args:
        folder: the campaign folder, or its fsspec URL.
        variations: what to add.
        n_events: frozen events in all, afterwards; by default as many as now.

    Returns:
        The larger campaign: the same as if it had had the variations and the events from the start.

    Raises:
        CampaignError: there is no campaign, another process runs it, or it has a variation of the same name
            with other settings.
        InputError: Pythia refuses a setting; the campaign has more events, or events or views from files, which do not
            grow; a program or a file of another generator is not there.
    """
    folder = location(folder)
    read_campaign(folder)
    with locked(folder):
        campaign = read_campaign(folder)
        together = {v.name: v for v in campaign.variations}
        simulated = _simulated(folder)
        for variation in variations:
            theirs = together.get(variation.name, variation)
            if variation.name in simulated and what_decides(theirs) != what_decides(variation):
                msg = f"{folder} has a variation '{variation.name}' with other settings. Give the new one another name."
                raise CampaignError(msg)
            together[variation.name] = theirs if variation.name in simulated else variation
        n_events = n_events or campaign.n_events
        larger = replace(campaign, variations=tuple(together.values()), n_events=n_events)
        check(larger)
        grows = n_events != campaign.n_events
        added = [together[v.name] for v in variations if v.name not in simulated]
        if grows:
            _check_growth(campaign, larger, folder)
        _check_programs(larger.variations if grows else added)
        for variation in added:
            if variation.hepmc:
                check_block_files(larger, variation.hepmc)
        if grows:
            blocks, shards = campaign.outgrown(n_events)
            # Killed in between, the campaign is as it was, but for shards that either one makes.
            manifest.forget(folder, shards)
            for path in blocks:
                remove(folder / path)
        describe(larger, folder)
        # Last, for the lock is on this file, and goes with it.
        write_whole(folder / CAMPAIGN_FILE, larger.to_toml().encode())
    return larger


def withdraw(folder: Path | str, variations: Collection[str], *, wanted: Campaign | None = None) -> Campaign:
    """Take back an extension that failed, as far as no view was made: the campaign is then as it was before.

    Variations that have views stay, and so do those before them, for a view's number is its place in the list.

    Args:
        folder: the campaign folder, or its fsspec URL.
        variations: names of those that were added.
        wanted: take nothing back unless this campaign is what is left.

    Returns:
        The campaign that the folder holds then.

    Raises:
        CampaignError: another process runs it.
        StorageError: it cannot be written.
    """
    folder = location(folder)
    with locked(folder):
        campaign = read_campaign(folder)
        simulated = _simulated(folder)
        kept = list(campaign.variations)
        while len(kept) > 1 and kept[-1].name in variations and kept[-1].name not in simulated:
            kept.pop()
        smaller = replace(campaign, variations=tuple(kept))
        if smaller == campaign or (wanted is not None and smaller.digest != wanted.digest):
            return campaign
        describe(smaller, folder)
        write_whole(folder / CAMPAIGN_FILE, smaller.to_toml().encode())
        left_out = ", ".join(v.name for v in campaign.variations[len(kept) :])
        _log.info("taken back, for no view of it was made: %s", left_out, extra={"data": {"variations": left_out}})
    return smaller


def _simulated(folder: Path) -> set[str]:
    """Names of the variations of which there are views."""
    # A run that was killed at its very start has left neither records nor a header.
    return {record.variation for record in manifest.read(folder)} if names(folder, "shards*.jsonl") else set()


def _check_programs(variations: Iterable[Variation]) -> None:
    for variation in variations:
        if variation.external:
            check_program(variation.external, f"variation '{variation.name}'")


def _check_growth(campaign: Campaign, larger: Campaign, folder: Path) -> None:
    if campaign.from_files:
        msg = f"{folder}: its events come from files. Make a campaign of all their events, in another folder."
        raise InputError(msg)
    if larger.n_events < campaign.n_events:
        asked = larger.n_events
        msg = f"{folder}: expected more than its {campaign.n_events} events, got {asked}. A campaign only grows."
        raise InputError(msg)
    from_files = [v.name for v in larger.variations if v.hepmc]
    if from_files:
        msg = (
            f"{folder}: views of {', '.join(from_files)} come from files made of the smaller campaign, which hold no "
            f"further events. Make a new campaign of {larger.n_events} events in another folder, then files of those."
        )
        raise InputError(msg)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a campaign folder to this process.

    The lock ends with the process, however it ends; in an object store some 15 s after that.

    Raises:
        CampaignError: another process has the folder.
        StorageError: the store cannot be reached.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(_flock(folder / CAMPAIGN_FILE) if is_local(folder) else lease(folder / _LOCK))
        except BlockingIOError as error:
            msg = f"another process is running the campaign in {folder}. Wait for it, or choose another folder."
            raise CampaignError(msg) from error
        yield


def sweep(folder: Path) -> None:
    """Delete the temporary files of processes that were killed while they wrote; an object store has none."""
    if is_local(folder):
        for path in folder.rglob(".*.tmp"):
            path.unlink(missing_ok=True)


@contextmanager
def _flock(path: Path) -> Iterator[None]:
    while True:
        with path.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever had it before may have replaced the file: a lock of the old one keeps nobody out.
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                yield
                return


def _is_unfinished(name: str) -> bool:
    """Whether a file is what a run leaves that was killed while it made its folder."""
    return name == manifest.HEADER or name.endswith(".tmp")
