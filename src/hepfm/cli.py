"""The command line: parse, call one function, print. Heavy imports live inside the commands."""

import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hepfm import __version__
from hepfm.arguments import Positive, Whole
from hepfm.commands.evaluate import evaluate
from hepfm.commands.finetune import finetune
from hepfm.commands.predict import predict
from hepfm.commands.pretrain import pretrain
from hepfm.commands.study import study
from hepfm.commands.tokenizer import tokenizer
from hepfm.errors import HepfmError, InputError

if TYPE_CHECKING:
    from hepfm.resim.campaign import Campaign

_MAX_COUNT = 10**15
_MAX_SEED = 2**63 - 1
_MAX_WORKERS = 4096
_MAX_SHOWN = 10_000


def main() -> None:
    """Run the command line: exit status 0 done, 1 failed, 2 wrong usage."""
    # Whoever wants the traceback of a command that failed adds --debug at its end, not in its middle.
    arguments = [word for word in sys.argv[1:] if word != "--debug"]
    try:
        # Without standalone_mode click hands errors on, so that each gets one line.
        status = cli.main(arguments, prog_name="hepfm-data", standalone_mode=False)
    except (Exception, KeyboardInterrupt) as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        message, status = _explain(error)
        click.echo(message, err=True)
    sys.exit(status if isinstance(status, int) else 0)


def _explain(error: BaseException) -> tuple[str, int]:
    """The line to print for an error, and the exit status."""
    if _was_interrupted(error):
        return "hepfm-data: interrupted. What is finished stays; run the same command again to go on.", 1
    match error:
        case click.exceptions.NoArgsIsHelpError():
            return error.format_message(), 2
        case click.UsageError(ctx=click.Context() as ctx):
            return f"hepfm-data: {error.format_message()} See `{ctx.command_path} --help`.", 2
        case click.ClickException():
            return f"hepfm-data: {error.format_message()}", error.exit_code
        case InputError():
            return f"hepfm-data: {error}", 2
        case HepfmError():
            return f"hepfm-data: {error}", 1
        case OSError(filename=str() | bytes() as name):
            return f"hepfm-data: {name!s}: {error.strerror}.", 1
        case _:
            return f"hepfm-data: {type(error).__name__}: {error}. --debug shows where; please report it.", 1


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error; a library that is just being imported turns it into an ImportError."""
    while error is not None and not isinstance(error, click.Abort | KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _examples(*lines: str) -> str:
    """A command's examples, for the end of its help."""
    # Click keeps the lines of a paragraph as they are if it begins with this character.
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


_json_option = click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
# A folder is text, not a path: it may be a URL such as s3://bucket/resim-jets.
_folder_argument = click.argument("folder", default="resim-jets")


def _running(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say where and how a campaign runs."""
    options = (
        click.option("--workers", type=Whole(1, _MAX_WORKERS), help="Local processes.  [default: one a core]"),
        click.option("--executor", default="local", show_default=True, help="Where tasks run: local or dask."),
        click.option("--scheduler", help="Address of a Dask scheduler.  [default: a cluster on this machine]"),
        click.option(
            "--log-json", is_flag=True, help="Log to standard error, one JSON object a line; no progress bar."
        ),
        _json_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_examples("hepfm-data resim --n-events 1e6 --variations 8", "hepfm-data info resim-jets"),
)
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error; may stand anywhere.")
def cli() -> None:
    """Freeze a collision, re-simulate the rest, publish the views, pre-train on them."""


@cli.command(
    epilog=_examples(
        "hepfm-data resim --n-events 1e6 --variations 8",
        "hepfm-data resim ten-classes --processes jetclass --detector jetclass --n-events 1e5 --variations 1",
        "hepfm-data resim --lhe events.lhe.gz --variations nominal,vincia,mine.toml",
        "hepfm-data resim again --config resim-jets/campaign.toml",
        "hepfm-data resim --extend resim-jets --variations isr-up,a14",
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
@click.option("--processes", help="rs3l, jetclass, or names; see `list processes`.  [default: rs3l]")
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
    "--external", metavar="COMMAND", help="Another generator: runs with {lhe} {hepmc} {seed} {n_events} filled in."
)
@click.option("--variation-name", help="Name of the views that --external makes.")
@click.option("--jet-pt-min", type=Positive(), help="Least jet pt in GeV.  [default: the preset's; 20 for files]")
@click.option("--jet-pt-max", type=Positive(), help="Largest jet pt in GeV.  [default: the preset's]")
@click.option("--seed", default=1, show_default=True, type=Whole(0, _MAX_SEED), help="Of all random numbers.")
@click.option("--chunk-events", type=Whole(1, _MAX_COUNT), help="Events a task.  [default: from --n-events]")
@click.option(
    "--config", type=click.Path(path_type=Path), help="Repeat a campaign.toml; no other setting goes with it."
)
@click.option(
    "--extend",
    metavar="DIR",
    help="Add --variations, or an --external one, to the campaign in DIR; no other setting goes with it.",
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
    config: Path | None,
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
    folder = out or out_argument or extend or repair or "resim-jets"
    campaign = _campaign(ctx, config, extend, repair, settings)
    if dry_run:
        from hepfm import terminal
        from hepfm.resim.estimate import estimate

        _print_notes(campaign)
        plan = terminal.plan(campaign, folder, estimate(campaign), workers)
        click.echo(json.dumps(plan)) if as_json else terminal.print_plan(plan, campaign)
        return
    _run(campaign, folder, workers, executor, scheduler, log_json, as_json)


def _campaign(
    ctx: click.Context, config: Path | None, extend: str | None, repair: str | None, settings: dict[str, Any]
) -> "Campaign":
    """The campaign that the options of `resim` ask for."""
    from hepfm.resim.campaign import Campaign
    from hepfm.resim.folder import extend as extended
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
            click.echo(f"damaged, made again: {path}", err=True)
        return campaign
    if extend is not None:
        if not given <= {"extend", "variations", "external", "variation_name"} or given == {"extend"}:
            msg = "--extend takes --variations or --external, and no other setting of a campaign. Give one of these."
            raise click.UsageError(msg)
        named = resolve_variations(settings["variations"]) if "variations" in given else ()
        return extended(extend, (*named, *further))
    if config is not None:
        if given := given & {*settings, "external"}:
            msg = f"--config already says --{min(given).replace('_', '-')}. Leave one of the two out."
            raise click.UsageError(msg)
        return Campaign.from_toml(config)
    if settings["lhe"] and settings["processes"] is not None:
        msg = "--lhe and --processes exclude each other: the files hold the hard processes."
        raise click.UsageError(msg)
    processes, variations = settings.pop("processes"), resolve_variations(settings.pop("variations"))
    return plan(
        processes="rs3l" if processes is None else processes,
        variations=(*freeze_at(settings.pop("freeze"), variations), *further),
        jet_pt=(settings.pop("jet_pt_min"), settings.pop("jet_pt_max")),
        **settings,
    )


@cli.command(
    epilog=_examples(
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
    from hepfm.resim.folder import extend
    from hepfm.resim.planning import plan
    from hepfm.resim.variations import Variation

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
    campaign = extend(campaign_folder, (Variation(variation_name, hepmc=folders.pop()),))
    _run(campaign, campaign_folder, workers, executor, scheduler, log_json, as_json)


def _run(
    campaign: "Campaign",
    folder: str,
    workers: int | None,
    executor: str,
    scheduler: str | None,
    log_json: bool,
    as_json: bool,
) -> None:
    """Run a campaign where the options say, and print what is in it."""
    from hepfm import terminal
    from hepfm.resim.executors import executor_named
    from hepfm.resim.run import run
    from hepfm.summary import summarise

    _print_notes(campaign)
    with (
        terminal.progress_bar(campaign.n_events, len(campaign.variations), shown=not log_json) as report,
        terminal.log_to_stderr(as_json=log_json),
        executor_named(executor, scheduler, workers) as (pool, size),
    ):
        records = run(campaign, folder, pool, workers=size, report=report)
    summary = {"folder": folder, **summarise(records, [v.name for v in campaign.variations])}
    click.echo(json.dumps(summary)) if as_json else terminal.print_summary(summary)


def _print_notes(campaign: "Campaign") -> None:
    for note in campaign.notes:
        click.echo(f"note: {note}", err=True)


@cli.command(
    epilog=_examples(
        "hepfm-data info resim-jets", "hepfm-data info resim-jets --json", "hepfm-data info resim-jets --watch"
    )
)
@_folder_argument
@click.option("--watch", is_flag=True, help="Show how a running campaign proceeds, until it is finished.")
@_json_option
def info(folder: str, watch: bool, as_json: bool) -> None:
    """Say what is in a campaign folder: events, views, jets, cross-sections, time and size."""
    from hepfm import manifest, terminal
    from hepfm.atomic import location
    from hepfm.summary import summarise

    if watch:
        terminal.watch(folder)
    place = location(folder)
    records, header = manifest.read(place), manifest.read_header(place)
    order = header.get("variations")
    summary = {"folder": folder, **summarise(records, order if isinstance(order, list) else []), "campaign": header}
    click.echo(json.dumps(summary)) if as_json else terminal.print_summary(summary)


@cli.command(epilog=_examples("hepfm-data check resim-jets"))
@_folder_argument
@_json_option
def check(folder: str, as_json: bool) -> None:
    """Check a campaign: digests, format, physics, views aligned, splits disjoint."""
    from hepfm.resim.check import check_campaign

    findings = check_campaign(folder)
    if as_json:
        click.echo(json.dumps({"folder": folder, "problems": findings.problems, "checked": findings.checked}))
    else:
        for problem in findings.problems:
            click.echo(problem)
        checked = ", ".join(f"{n:,} {what}" for what, n in findings.checked.items())
        click.echo(f"{len(findings.problems)} problems in {checked or '0 shards'}.")
    if findings.problems:
        sys.exit(1)


@cli.command(
    epilog=_examples(
        "hepfm-data export resim-jets",
        "hepfm-data export resim-jets --to root --out jetclass-like",
        "hepfm-data export my_jets.root --to omnilearned",
        "hepfm-data export train.h5 --columns top-tagging --to root",
    )
)
@click.argument("source", default="resim-jets")
@click.option(
    "--to", default="parquet", show_default=True, help="parquet, root (JetClass), rs3l, omnilearned or padded."
)
@click.option("--out", type=click.Path(path_type=Path), help="Where the files go.  [default: SOURCE-FORMAT]")
@click.option("--columns", metavar="MAP", help="Column map of a table: a TOML file, or top-tagging, jetnet, ...")
@_json_option
def export(source: str, to: str, out: Path | None, columns: str | None, as_json: bool) -> None:
    """Convert jets to a format that other tools read.

    SOURCE is whatever hepfm.open opens. There is a file a variation; parquet of a campaign is the Hub's layout for
    load_dataset, in which files that are up to date stay as they are.
    """
    from hepfm import terminal
    from hepfm.atomic import is_folder, location
    from hepfm.exporting import export as export_jets
    from hepfm.publishing import stage

    target = out or Path(f"{Path(source).name}-{to}")
    if to != "parquet" or not is_folder(location(source)):
        exported = export_jets(source, target, to, columns=columns)
        for note in exported.left_out:
            click.echo(f"note: {note}", err=True)
        n_bytes = sum(path.stat().st_size for path in exported.paths)
        answer = {"folder": str(target), "n_files": len(exported.paths), "n_jets": exported.n_jets, "n_bytes": n_bytes}
        where = f"{target}: {exported.n_jets:,} jets in {len(exported.paths):,} files, {n_bytes / 1e6:.1f} MB"
        click.echo(json.dumps(answer) if as_json else where)
        return
    with terminal.conversion_bar() as report:
        files = stage(source, target, report=report)
    n_jets, n_bytes = sum(f.n_jets for f in files), sum((target / f.path).stat().st_size for f in files)
    if as_json:
        click.echo(json.dumps({"folder": str(target), "n_files": len(files), "n_jets": n_jets, "n_bytes": n_bytes}))
    else:
        click.echo(f"{target}: {n_jets:,} jets in {len(files):,} files, {n_bytes / 1e6:.1f} MB")
        click.echo(f'load_dataset("{target}") and hepfm.open("{target}") read it.')


@cli.command(
    epilog=_examples(
        "hepfm-data publish resim-jets --repo hepfm/resim-jets",
        "hepfm-data publish resim-jets --repo me/jets --private --tag v1",
        "hepfm-data publish resim-jets --repo me/jets --dry-run",
    )
)
@_folder_argument
@click.option("--repo", required=True, metavar="OWNER/NAME", help="Dataset on the Hub; made if there is none.")
@click.option("--tag", help="Name of this version, never to change.  [default: made of the content's digest]")
@click.option("--private", is_flag=True, help="Only you may see it.")
@click.option("--license", default="cc-by-4.0", show_default=True, help="The Hub's name of the licence.")
@click.option("--out", type=click.Path(path_type=Path), help="Where converted files go.  [default: FOLDER-parquet]")
@click.option("--dry-run", is_flag=True, help="Convert, list what would be sent, and send nothing.")
@_json_option
def publish(folder: str, out: Path | None, dry_run: bool, as_json: bool, **how: Any) -> None:  # noqa: ANN401
    """Publish a campaign as a dataset on the Hugging Face Hub.

    Checks it, converts it as `export` does, and sends what has changed in one commit. Log in once: hf auth login
    """
    from hepfm import terminal
    from hepfm.hub import compare
    from hepfm.publishing import Publication, stage
    from hepfm.publishing import publish as publish_campaign

    target, publication = out or Path(f"{Path(folder).name}-parquet"), Publication(**how)
    with terminal.conversion_bar() as report:
        if dry_run:
            stage(folder, target, report=report, repo=publication.repo, license=publication.license)
            upload, where = compare(target, publication.repo), {}
        else:
            done = publish_campaign(folder, target, publication, report=report)
            upload, where = done.upload, {"url": done.url, "commit": done.commit}
    if as_json:
        answer = {"new": dict(upload.new), "unchanged": dict(upload.unchanged), "deleted": list(upload.deleted)}
        click.echo(json.dumps(where | answer))
        return
    for name, size in upload.new.items() if dry_run else ():
        click.echo(f"{size / 1e6:10.3f} MB  {name}")
    sent = f"{len(upload.new)} files {'to send' if dry_run else 'sent'}, {sum(upload.new.values()) / 1e6:.1f} MB"
    click.echo(f"{sent}; {len(upload.unchanged)} unchanged.")
    if where:
        click.echo(f'{where["url"]}\nload_dataset("{publication.repo}") and hepfm.open("{publication.repo}") read it.')


@cli.command(
    epilog=_examples(
        "hepfm-data report resim-jets",
        "hepfm-data report resim-jets --out report.html --events 200",
        "hepfm-data report JetClass/HToBB_100.root",
    )
)
@click.argument("source", default="resim-jets")
@click.option("--out", type=click.Path(path_type=Path), help="The page.  [default: SOURCE-report.html]")
@click.option(
    "--events", type=Whole(0, _MAX_SHOWN), default=60, show_default=True, help="Jets to look at in the page, at most."
)
@click.option("--columns", metavar="MAP", help="Column map of a table: a TOML file, or top-tagging, jetnet, ...")
@_json_option
def report(source: str, out: Path | None, events: int, columns: str | None, as_json: bool) -> None:
    """Write a page to look at: facts, distributions, and a viewer of jets in all their views.

    SOURCE is whatever hepfm.open opens. The page is one HTML file that needs no network.
    """
    from hepfm import terminal
    from hepfm.cards.report import write_report

    target = out or Path(f"{Path(source).name}-report.html")
    with terminal.conversion_bar() as progress:
        written = write_report(source, target, n_events=events, columns=columns, report=progress)
    for sentence in written.left_out:
        click.echo(f"note: {sentence}", err=True)
    n_bytes = target.stat().st_size
    if as_json:
        answer = {"path": str(target), "n_jets": written.n_jets, "n_shown": written.n_shown, "n_bytes": n_bytes}
        click.echo(json.dumps(answer | {"left_out": list(written.left_out)}))
    else:
        click.echo(f"{target}: {written.n_jets:,} jets, {written.n_shown} of them to look at, {n_bytes / 1e6:.1f} MB")


@cli.group(name="list")
def list_() -> None:
    """Explain the processes, variations and detectors that there are."""


def _catalogue(name: str, entries: Callable[[], list[dict[str, Any]]]) -> None:
    """Add `hepfm-data list NAME`."""

    @list_.command(name=name, help=f"The {name} that there are.")
    @_json_option
    def command(as_json: bool) -> None:
        from hepfm import terminal

        click.echo(json.dumps(entries(), ensure_ascii=False)) if as_json else terminal.print_catalogue(entries())


def _processes() -> list[dict[str, Any]]:
    from hepfm.resim.processes import PRESETS, PROCESSES

    presets = [_entry(name, p.description, p.citation, processes=p.processes) for name, p in PRESETS.items()]
    return presets + [_entry(p.name, p.description, p.citation, settings=p.settings) for p in PROCESSES.values()]


def _variations() -> list[dict[str, Any]]:
    from hepfm.resim.variations import VARIATIONS

    return [_entry(v.name, v.description, v.citation, settings=v.settings) for v in VARIATIONS.values()]


def _detectors() -> list[dict[str, Any]]:
    from hepfm.resim.detector import DETECTORS

    return [_entry(name, d.description) for name, d in DETECTORS.items()]


def _entry(name: str, description: str, source: str = "", **lists: tuple[str, ...]) -> dict[str, Any]:
    return {"name": name, "description": description, "source": source, **lists}


_catalogue("processes", _processes)
_catalogue("variations", _variations)
_catalogue("detectors", _detectors)

for _command in (pretrain, finetune, predict, evaluate, study, tokenizer):
    cli.add_command(_command)


if __name__ == "__main__":
    main()
