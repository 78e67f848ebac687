"""`hepfm-data resim` and `ingest`: make a campaign, go on with it, extend or repair it."""

import json
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hepfm.arguments import Positive, Whole
from hepfm.commands.options import examples, json_option

if TYPE_CHECKING:
    from hepfm.resim.campaign import Campaign
    from hepfm.resim.variations import Variation

_MAX_COUNT = 10**15
_MAX_SEED = 2**63 - 1
_MAX_WORKERS = 4096

_log = logging.getLogger("hepfm.resim")


def _running(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say where and how a campaign runs."""
    options = (
        click.option("--workers", type=Whole(1, _MAX_WORKERS), help="Local processes.  [default: one a core]"),
        click.option("--executor", default="local", show_default=True, help="Where tasks run: local or dask."),
        click.option("--scheduler", help="Address of a Dask scheduler.  [default: a cluster on this machine]"),
        click.option(
            "--log-json", is_flag=True, help="Log to standard error, one JSON object a line; no progress bar."
        ),
        json_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command(
    epilog=examples(
        "hepfm-data resim --n-events 1e6 --variations 8",
        "hepfm-data resim ten-classes --processes jetclass --detector jetclass --n-events 1e5 --variations 1",
        "hepfm-data resim --lhe events.lhe.gz --variations nominal,vincia,mine.toml",
        "hepfm-data resim again --config resim-jets/campaign.toml",
        "hepfm-data resim --extend resim-jets --variations isr-up,a14",
        "hepfm-data resim --extend resim-jets --n-events 2e6",
        'hepfm-data resim --extend jets --variation-name mine --external "./shower.sh {lhe} {hepmc} {seed}"',
        "hepfm-data resim --repair resim-jets",
    )
)
@click.argument("out_argument", metavar="[OUT]", required=False)
@click.option("--out", help="Campaign folder, or its URL (s3://...).  [default: ./resim-jets]")
@click.option(
    "--n-events", type=Whole(1, _MAX_COUNT), help="Frozen events in all.  [default: 10000, or all of the files]"
)
@click.option("--variations", default="8", show_default=True, help="A number, names, or TOML files; commas between.")
@click.option(
    "--processes", help="rs3l, jetclass, or names, with rs3l's selection; see `list processes`.  [default: rs3l]"
)
@click.option(
    "--lhe", multiple=True, type=click.Path(path_type=Path), help="Les Houches file of frozen events; may be repeated."
)
@click.option("--detector", default="cms", show_default=True, help="none, cms or jetclass; see `list detectors`.")
@click.option(
    "--freeze",
    default="hard",
    show_default=True,
    help="What the variations keep of the first one: hard (the hard process), shower, or hadron.",
)
@click.option(
    "--external",
    metavar="COMMAND",
    help="Another generator, for one more view: runs with {lhe} {hepmc} {seed} {n_events} filled in.",
)
@click.option("--variation-name", help="Name of the views that --external makes.")
@click.option(
    "--jet-pt-min",
    type=Positive(),
    help="Least jet pt in GeV; that of the hard process follows.  [default: the preset's; 20 for files]",
)
@click.option("--jet-pt-max", type=Positive(), help="Largest jet pt in GeV.  [default: the preset's]")
@click.option("--seed", default=1, show_default=True, type=Whole(0, _MAX_SEED), help="Of all random numbers.")
@click.option("--chunk-events", type=Whole(1, _MAX_COUNT), help="Events a task.  [default: from --n-events]")
@click.option(
    "--config", metavar="FILE", help="Repeat a campaign.toml (a file or its URL); no other setting goes with it."
)
@click.option(
    "--extend",
    metavar="DIR",
    help="Add --variations, an --external one, or events up to --n-events, to the campaign in DIR; no other setting "
    "goes with it.",
)
@click.option(
    "--repair",
    metavar="DIR",
    help="Check the campaign in DIR and make again what is damaged; no other setting goes with it.",
)
@click.option("--dry-run", is_flag=True, help="Print the plan, with time and disk measured on a few events.")
@_running
@click.pass_context
def resim(
    ctx: click.Context,
    /,
    out_argument: str | None,
    out: str | None,
    config: str | None,
    extend: str | None,
    repair: str | None,
    dry_run: bool,
    workers: int | None,
    executor: str,
    scheduler: str | None,
    log_json: bool,
    as_json: bool,
    **settings: Any,  # noqa: ANN401 (the options that make a campaign)
) -> None:
    """Re-simulate frozen events under several variations.

    Running the same command again finishes what an interruption left.
    """
    if out_argument and out and out_argument != out:
        msg = f"the folder is given twice: '{out_argument}' and --out '{out}'. Give one."
        raise click.UsageError(msg)
    from hepfm import terminal
    from hepfm.resim.executors import check_executor

    check_executor(executor, scheduler, workers)  # before anything is planned, extended or written
    folder = out or out_argument or extend or repair or "resim-jets"
    with terminal.log_to_stderr(as_json=log_json):
        campaign, added = _campaign(ctx, config, extend, repair, settings)
    if dry_run:
        from hepfm.resim.estimate import estimate

        _log_notes(campaign, as_json=log_json)
        plan = terminal.plan(campaign, folder, estimate(campaign), workers)
        click.echo(json.dumps(plan)) if as_json else terminal.print_plan(plan, campaign)
        return
    _run(campaign, folder, workers, executor, scheduler, log_json, as_json, added)


def _campaign(
    ctx: click.Context, config: str | None, extend: str | None, repair: str | None, settings: dict[str, Any]
) -> "tuple[Campaign, list[str]]":
    """The campaign that the options of `resim` ask for, and the variations that they add to one."""
    from hepfm.atomic import location
    from hepfm.resim.campaign import Campaign
    from hepfm.resim.planning import plan
    from hepfm.resim.repair import repair as repaired
    from hepfm.resim.variations import Variation, freeze_at, resolve_variations

    names = (*settings, "out", "out_argument", "config", "extend", "repair", "dry_run")
    given = {name for name in names if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE}
    external, name = settings.pop("external"), settings.pop("variation_name")
    if (external is None) != (name is None):
        msg = "--external and --variation-name go together. Give both, or none."
        raise click.UsageError(msg)
    further = () if external is None else (Variation(name, external=external),)
    if repair is not None:
        if given != {"repair"}:
            msg = "--repair takes no setting of a campaign. Leave the others out."
            raise click.UsageError(msg)
        campaign, damaged = repaired(repair)
        for path in damaged:
            _log.info("damaged, made again: %s", path, extra={"data": {"path": path}})
        return campaign, []
    if extend is not None:
        if not given <= {"extend", "variations", "external", "variation_name", "n_events"} or given == {"extend"}:
            msg = "--extend takes --variations, --external or --n-events, and no other setting of a campaign. Give one."
            raise click.UsageError(msg)
        wanted = (*(resolve_variations(settings["variations"]) if "variations" in given else ()), *further)
        return _extended(extend, wanted, n_events=settings["n_events"])
    if config is not None:
        if given := given & {*settings, "external"}:
            msg = f"--config already says --{min(given).replace('_', '-')}. Leave one of the two out."
            raise click.UsageError(msg)
        return Campaign.from_toml(location(config)), []
    if settings["lhe"] and settings["processes"] is not None:
        msg = "--lhe and --processes exclude each other: the files hold the hard processes."
        raise click.UsageError(msg)
    processes, variations = settings.pop("processes"), resolve_variations(settings.pop("variations"))
    campaign = plan(
        processes="rs3l" if processes is None else processes,
        variations=(*freeze_at(settings.pop("freeze"), variations), *further),
        jet_pt=(settings.pop("jet_pt_min"), settings.pop("jet_pt_max")),
        **settings,
    )
    return campaign, []


@click.command(
    epilog=examples(
        "hepfm-data ingest ttbar.hepmc.gz --out ttbar-jets",
        "hepfm-data ingest herwig/*.hepmc.gz --campaign resim-jets --variation-name herwig7",
    )
)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", help="Campaign folder, or its URL.  [default: ./ingested-jets]")
@click.option("--campaign", "campaign_folder", metavar="DIR", help="The campaign whose frozen events the files show.")
@click.option("--variation-name", default="nominal", show_default=True, help="Name of the views that the files hold.")
@click.option("--detector", default="cms", show_default=True, help="none, cms or jetclass; see `list detectors`.")
@click.option("--jet-pt-min", type=Positive(), help="Least jet pt in GeV.  [default: 20]")
@click.option("--jet-pt-max", type=Positive(), help="Largest jet pt in GeV.")
@click.option(
    "--seed", default=1, show_default=True, type=Whole(0, _MAX_SEED), help="Of the detector's random numbers."
)
@click.option("--chunk-events", type=Whole(1, _MAX_COUNT), help="Events a task.  [default: from their number]")
@_running
@click.pass_context
def ingest(
    ctx: click.Context,
    /,
    files: tuple[Path, ...],
    out: str | None,
    campaign_folder: str | None,
    variation_name: str,
    jet_pt_min: float | None,
    jet_pt_max: float | None,
    workers: int | None,
    executor: str,
    scheduler: str | None,
    log_json: bool,
    as_json: bool,
    **settings: Any,  # noqa: ANN401 (the options that make a campaign)
) -> None:
    """Take in finished events from HepMC files: detector and jets, but no shower of ours.

    With --campaign each file holds the showered events of one block of that campaign's frozen events and is
    named after it (hard/QCD-000012.lhe.gz, QCD-000012.hepmc.gz); they become one more view. Without it the files
    make a campaign of their own.
    """
    from hepfm import terminal
    from hepfm.atomic import location
    from hepfm.resim.executors import check_executor
    from hepfm.resim.folder import read_campaign
    from hepfm.resim.ingest import check_named
    from hepfm.resim.planning import plan
    from hepfm.resim.variations import Variation

    check_executor(executor, scheduler, workers)
    if campaign_folder is None:
        campaign = plan(
            hepmc=files,
            variations=(Variation(variation_name, description="as in the files"),),
            jet_pt=(jet_pt_min, jet_pt_max),
            **settings,
        )
        _run(campaign, out or "ingested-jets", workers, executor, scheduler, log_json, as_json)
        return
    given = ("out", "jet_pt_min", "jet_pt_max", *settings)
    if any(ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE for name in given):
        msg = "--campaign takes --variation-name, and no other setting: the campaign has them. Leave the others out."
        raise click.UsageError(msg)
    folders = {str(path.resolve().parent) for path in files}
    if len(folders) > 1:
        msg = f"the files lie in {len(folders)} folders. Put all files of a campaign's blocks into one."
        raise click.UsageError(msg)
    variation = Variation(variation_name, hepmc=folders.pop())
    check_named(read_campaign(location(campaign_folder)), files)
    with terminal.log_to_stderr(as_json=log_json):
        campaign, added = _extended(campaign_folder, (variation,))
    _run(campaign, campaign_folder, workers, executor, scheduler, log_json, as_json, added)


def _extended(
    folder: str, variations: "tuple[Variation, ...]", n_events: int | None = None
) -> "tuple[Campaign, list[str]]":
    """Extend the campaign of a folder; give it, and the names of the variations that it did not have."""
    from hepfm.atomic import location
    from hepfm.resim.folder import extend, read_campaign

    before = {variation.name for variation in read_campaign(location(folder)).variations}
    campaign = extend(folder, variations, n_events=n_events)
    return campaign, [v.name for v in campaign.variations if v.name not in before]


def _run(
    campaign: "Campaign",
    folder: str,
    workers: int | None,
    executor: str,
    scheduler: str | None,
    log_json: bool,
    as_json: bool,
    added: Sequence[str] = (),
) -> None:
    """Run a campaign where the options say, and print what is in it.

    Where that fails, `added` variations of which there is no view yet leave the campaign again.
    """
    from hepfm import terminal
    from hepfm.errors import HepfmError
    from hepfm.resim.executors import executor_named
    from hepfm.resim.folder import withdraw
    from hepfm.resim.run import run
    from hepfm.summary import summarise

    _log_notes(campaign, as_json=log_json)
    try:
        with (
            terminal.progress_bar(campaign.n_events, len(campaign.variations), shown=not log_json) as report,
            terminal.log_to_stderr(as_json=log_json),
            executor_named(executor, scheduler, workers) as (pool, size),
        ):
            records = run(campaign, folder, pool, workers=size, report=report)
    except HepfmError:
        # Whether or not that works, the user is to learn why the run failed.
        with suppress(HepfmError, OSError):
            if added:
                withdraw(folder, added)
        raise
    summary = {"folder": folder, **summarise(records, [v.name for v in campaign.variations])}
    click.echo(json.dumps(summary)) if as_json else terminal.print_summary(summary)


def _log_notes(campaign: "Campaign", *, as_json: bool) -> None:
    from hepfm import terminal

    with terminal.log_to_stderr(as_json=as_json):
        for note in campaign.notes:
            _log.info("%s", note)
