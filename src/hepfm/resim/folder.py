"""The campaign folder: made, checked, extended and locked."""

import fcntl
import json
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from hepfm import manifest
from hepfm.atomic import atomic_path
from hepfm.errors import CampaignError
from hepfm.resim.campaign import Campaign, check, check_files
from hepfm.resim.variations import Variation
from hepfm.schema import FORMAT_VERSION, SPLIT_RULE

CAMPAIGN_FILE = "campaign.toml"
_VERSIONED = ("hepfm", "pythia8mc", "fastjet", "numpy", "numba", "awkward", "h5py", "pylhe")


def prepare(campaign: Campaign, folder: Path) -> None:
    """Make the campaign folder, or check that it holds this very campaign.

    Raises:
        CampaignError: the folder holds something else.
        HepfmError: the folder cannot be written, or the campaign makes no sense.
    """
    settings = folder / CAMPAIGN_FILE
    if settings.exists():
        theirs = Campaign.from_toml(settings)
        if theirs.digest != campaign.digest:
            names = ", ".join(campaign.differences(theirs))
            msg = (
                f"{folder} holds another campaign: {names} differ. Choose another folder, or repeat that one "
                f"with `--config {settings}`."
            )
            raise CampaignError(msg)
        return
    check(campaign)
    check_files(campaign)
    if folder.exists() and (not folder.is_dir() or not all(map(_is_unfinished, folder.iterdir()))):
        msg = f"{folder} exists and is not a campaign folder. Choose another name."
        raise CampaignError(msg)
    _write_settings(campaign, folder)


def extend(folder: Path | str, variations: tuple[Variation, ...]) -> Campaign:
    """Add variations to a campaign, for the same frozen events; `run` then simulates what is missing.

    Variations that the campaign has already stay as they are, so that an interrupted extension can be repeated.

    Returns:
        The larger campaign: the same as if it had had the variations from the start.

    Raises:
        CampaignError: there is no campaign, another process runs it, or it has a variation of the same name
            with other settings.
        InputError: Pythia refuses a setting.
    """
    folder = Path(folder)
    if not (folder / CAMPAIGN_FILE).exists():
        msg = f"{folder} is not a campaign folder: it has no {CAMPAIGN_FILE}. Give the folder of a campaign."
        raise CampaignError(msg)
    campaign = Campaign.from_toml(folder / CAMPAIGN_FILE)
    present = {v.name: v for v in campaign.variations}
    for variation in variations:
        theirs = present.get(variation.name, variation)
        if (theirs.settings, theirs.freeze) != (variation.settings, variation.freeze):
            msg = f"{folder} has a variation '{variation.name}' with other settings. Give the new one another name."
            raise CampaignError(msg)
    new = tuple(v for v in variations if v.name not in present)
    larger = replace(campaign, variations=(*campaign.variations, *new))
    check(larger)
    with locked(folder):
        _write_settings(larger, folder)
    return larger


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a campaign folder to this process; the lock ends with the process, however it ends.

    Raises:
        CampaignError: another process has the folder.
    """
    with (folder / CAMPAIGN_FILE).open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            msg = f"another process is running the campaign in {folder}. Wait for it, or choose another folder."
            raise CampaignError(msg) from error
        yield


def _write_settings(campaign: Campaign, folder: Path) -> None:
    header = {
        "format_version": FORMAT_VERSION,
        "digest": campaign.digest,
        "n_events": campaign.n_events,
        "seed": campaign.seed,
        "detector": campaign.detector,
        "processes": [p.name for p in campaign.processes],
        "variations": [v.name for v in campaign.variations],
        "split": SPLIT_RULE,
        "versions": {name: version(name) for name in _VERSIONED} | {"python": platform.python_version()},
    }
    # campaign.toml comes last: a folder that has it is complete.
    with atomic_path(folder / manifest.HEADER) as path:
        path.write_text(json.dumps(header, indent=2) + "\n", encoding="utf-8")
    with atomic_path(folder / CAMPAIGN_FILE) as path:
        path.write_text(campaign.to_toml(), encoding="utf-8")


def _is_unfinished(path: Path) -> bool:
    """Whether a file is what a run leaves that was killed while it made its folder."""
    return path.name == manifest.HEADER or path.name.endswith(".tmp")
