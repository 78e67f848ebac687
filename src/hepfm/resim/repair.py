"""Repairing a campaign: damaged shards are forgotten, so that the next run makes them again."""

from pathlib import Path

from hepfm import manifest
from hepfm.atomic import location, remove
from hepfm.resim.campaign import Campaign, check_files
from hepfm.resim.check import check_campaign
from hepfm.resim.folder import locked, read_campaign
from hepfm.resim.frozen import hard_events, tasks_with_frozen_events


def repair(folder: Path | str) -> tuple[Campaign, list[str]]:
    """Remove the damaged shards of a campaign and their records, and make damaged frozen events again.

    `run` then makes the shards again.

    Returns:
        The campaign, and the paths of the shards and frozen events that were damaged or gone.

    Raises:
        CampaignError: the folder is not a campaign, or another process runs it.
        InputError: frozen events are damaged that came from a file, and that file is not there any more.
    """
    place = location(folder)
    campaign = read_campaign(place)
    with locked(place):
        findings = check_campaign(place)
        if findings.damaged_blocks:
            check_files(campaign)
        manifest.forget(place, findings.damaged_shards)
        damaged = [*findings.damaged_blocks, *findings.damaged_shards]
        for path in damaged:
            remove(place / path)
        if findings.damaged_blocks:
            _freeze_again(campaign, place, frozenset(findings.damaged_blocks))
    return campaign, damaged


def _freeze_again(campaign: Campaign, folder: Path, blocks: frozenset[str]) -> None:
    # Going through the tasks freezes what files hold; what Pythia makes, it makes for whoever asks for it.
    for task in tasks_with_frozen_events(campaign, folder):
        chunk = task.chunk
        if blocks & campaign.blocks_of(chunk).keys():
            hard_events(campaign, folder, chunk.process, chunk.start, chunk.stop)
