"""The command line: parse, call one function, print. Heavy imports live inside the commands."""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hepfm import __version__
from hepfm.errors import HepfmError, InputError

if TYPE_CHECKING:
    from rich.table import Table

    from hepfm.resim.campaign import Campaign


class Count(click.ParamType):
    """A whole number that may be written as 1e6 or 10_000."""

    name = "count"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401
        """Turn text into a positive integer."""
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or number != int(number) or number < 1:
            self.fail(f"{value!r} is not a count: expected a whole number from 1, such as 500 or 1e6.", param, ctx)
        return int(number)


class Positive(click.ParamType):
    """A finite, positive number."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401
        """Turn text into a positive float."""
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or number <= 0:
            self.fail(f"{value!r} is not a positive number.", param, ctx)
        return number


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hepfm-data")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Freeze a collision, re-simulate the rest, publish the views, pre-train on them."""


def main() -> None:
    """Run the command line: exit status 0 done, 1 failed, 2 wrong usage."""
    try:
        # standalone_mode off, so that our own errors get one line and not a traceback.
        status = cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("hepfm-data: interrupted. What is finished stays; run the same command again to go on.", err=True)
        status = 1
    except HepfmError as error:
        if "--debug" in sys.argv:
            raise
        click.echo(f"hepfm-data: {error}", err=True)
        # What the user gave is wrong usage; what happened on the way is a failure.
        status = 2 if isinstance(error, InputError) else 1
    except OSError as error:
        if "--debug" in sys.argv:
            raise
        click.echo(f"hepfm-data: {error.filename or ''}: {error.strerror or error}", err=True)
        status = 1
    sys.exit(status if isinstance(status, int) else 0)


@cli.command()
@click.argument("out_argument", metavar="[OUT]", required=False, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Campaign folder.  [default: ./resim-jets]")
@click.option("--n-events", type=Count(), help="Frozen events in all.  [default: 10000, or all of the files]")
@click.option("--variations", default="8", show_default=True, help="A number, names, or TOML files; commas between.")
@click.option("--processes", help="rs3l, jetclass, or names; see `list processes`.  [default: rs3l]")
@click.option(
    "--lhe",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Les Houches file of frozen events; may be repeated.",
)
@click.option("--detector", default="cms", show_default=True, help="none, cms or jetclass; see `list detectors`.")
@click.option("--freeze", default="hard", show_default=True, help="Freeze point of the variations.")
@click.option("--jet-pt-min", type=Positive(), help="Least jet pt in GeV.  [default: the preset's; 20 for files]")
@click.option("--jet-pt-max", type=Positive(), help="Largest jet pt in GeV.  [default: the preset's]")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0, 2**63 - 1), help="Of all random numbers.")
@click.option("--workers", type=click.IntRange(1, 4096), help="Local processes.  [default: one a core]")
@click.option("--chunk-events", type=Count(), help="Events a task.  [default: from --n-events]")
@click.option(
    "--config", type=click.Path(path_type=Path), help="Repeat a campaign.toml; no other setting goes with it."
)
@click.option("--dry-run", is_flag=True, help="Print the plan, with time and disk measured on a few events.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def resim(
    ctx: click.Context,
    out_argument: Path | None,
    out: Path | None,
    workers: int | None,
    config: Path | None,
    dry_run: bool,
    as_json: bool,
    **settings: Any,  # noqa: ANN401 (the options that make a campaign)
) -> None:
    """Re-simulate frozen events under several variations.

    Running the same command again finishes what an interruption left.

    \b
    Examples:
      hepfm-data resim --n-events 1e6 --variations 8
      hepfm-data resim ten-classes --processes jetclass --detector jetclass --n-events 1e5 --variations 1
      hepfm-data resim --lhe events.lhe.gz --variations nominal,vincia,mine.toml
      hepfm-data resim again --config resim-jets/campaign.toml
    """
    if out_argument and out and out_argument != out:
        msg = f"the folder is given twice: '{out_argument}' and --out '{out}'. Give one."
        raise click.UsageError(msg)
    folder = out or out_argument or Path("resim-jets")
    campaign = _campaign(ctx, config, settings)
    if dry_run:
        from hepfm.resim.estimate import estimate

        _print_plan(campaign, folder, estimate(campaign), workers, as_json)
        return
    records = _run_with_progress(campaign, folder, workers)
    from hepfm.resim.summary import summarise

    _print_summary(summarise(records, [v.name for v in campaign.variations]), folder, as_json)


def _campaign(ctx: click.Context, config: Path | None, settings: dict[str, Any]) -> "Campaign":
    from hepfm.resim.campaign import Campaign, plan
    from hepfm.resim.variations import FREEZE_POINTS
    from hepfm.schema import unknown_name

    if config is not None:
        given = [name for name in settings if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE]
        if given:
            msg = f"--config already says --{given[0].replace('_', '-')}. Leave one of the two out."
            raise click.UsageError(msg)
        return Campaign.from_toml(config)
    if settings["lhe"] and settings["processes"]:
        msg = "--lhe and --processes exclude each other: the files hold the hard processes."
        raise click.UsageError(msg)
    freeze = settings.pop("freeze")
    if freeze not in FREEZE_POINTS:
        raise InputError(unknown_name("freeze point", freeze, FREEZE_POINTS))
    jet_pt = settings.pop("jet_pt_min"), settings.pop("jet_pt_max")
    return plan(**{**settings, "processes": settings["processes"] or "rs3l", "jet_pt": jet_pt})


def _run_with_progress(campaign: "Campaign", folder: Path, workers: int | None) -> list[Any]:
    from rich.console import Console
    from rich import progress as rich_progress

    from hepfm.resim.run import Progress, run

    console = Console(stderr=True)
    n_views = campaign.n_events * len(campaign.variations)
    for note in campaign.notes:
        console.print(f"note: {note}", highlight=False)
    with rich_progress.Progress(
        rich_progress.TextColumn("{task.fields[events]} of {task.fields[all_events]} events"),
        rich_progress.BarColumn(),
        rich_progress.TextColumn("{task.fields[rate]} views/s"),
        rich_progress.TimeRemainingColumn(),
        rich_progress.TextColumn("{task.fields[jets]} jets, {task.fields[rejected]} rejected"),
        console=console,
        disable=not console.is_terminal,
    ) as bar:
        row = bar.add_task(
            "",
            total=n_views,
            events="0",
            all_events=f"{campaign.n_events:,}",
            rate="-",
            jets="0",
            rejected="0",
        )
        first_views: int | None = None

        def report(progress: Progress) -> None:
            nonlocal first_views
            if first_views is None:
                first_views = progress.n_views
            elapsed = bar.tasks[0].elapsed or 0.0
            # What a run before this one has done does not count for the rate.
            rate = (progress.n_views - first_views) / elapsed if elapsed > 0 else 0.0
            bar.update(
                row,
                completed=progress.n_views,
                events=f"{progress.n_views // len(campaign.variations):,}",
                rate=f"{rate:.0f}" if rate else "-",
                jets=f"{progress.n_jets:,}",
                rejected=f"{progress.n_missing:,}",
            )

        return run(campaign, folder, workers=workers, report=report)


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path), default="resim-jets")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def info(folder: Path, as_json: bool) -> None:
    """Say what is in a campaign folder: events, views, jets, cross-sections, time and size.

    \b
    Example:
      hepfm-data info resim-jets
    """
    from hepfm import manifest
    from hepfm.resim.summary import summarise

    records = manifest.read(folder)
    header = manifest.read_header(folder)
    order = header.get("variations", [])
    _print_summary({**summarise(records, order), "campaign": header}, folder, as_json)


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path), default="resim-jets")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def check(folder: Path, as_json: bool) -> None:
    """Check a campaign: digests, format, physics, views aligned, splits disjoint.

    \b
    Example:
      hepfm-data check resim-jets
    """
    from hepfm.resim.check import check_campaign

    findings = check_campaign(folder)
    if as_json:
        click.echo(json.dumps({"folder": str(folder), "problems": findings.problems, "checked": findings.checked}))
    else:
        for problem in findings.problems:
            click.echo(problem)
        checked = ", ".join(f"{n:,} {what}" for what, n in findings.checked.items())
        click.echo(f"{len(findings.problems)} problems in {checked}.")
    if findings.problems:
        sys.exit(1)


@cli.group(name="list")
def list_() -> None:
    """Explain the processes, variations and detectors that there are."""


def _catalogue(name: str, columns: tuple[str, ...], rows: Callable[[], list[tuple[str, ...]]]) -> None:
    """Add `hepfm-data list NAME`."""

    @list_.command(name=name, help=f"The {name} that there are.")
    @click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
    def command(as_json: bool) -> None:
        if as_json:
            click.echo(json.dumps([dict(zip(columns, row, strict=True)) for row in rows()], ensure_ascii=False))
        else:
            _print_table(_table(columns, rows()))


def _processes() -> list[tuple[str, ...]]:
    from hepfm.resim.processes import PRESETS, PROCESSES

    presets = [(name, p.description, ", ".join(p.processes), p.citation) for name, p in PRESETS.items()]
    return presets + [(p.name, p.description, "\n".join(p.settings), p.citation) for p in PROCESSES.values()]


def _variations() -> list[tuple[str, ...]]:
    from hepfm.resim.variations import VARIATIONS

    return [(v.name, v.description, "\n".join(v.settings), v.citation) for v in VARIATIONS.values()]


def _detectors() -> list[tuple[str, ...]]:
    from hepfm.resim.detector import DETECTORS

    return [(name, d.description) for name, d in DETECTORS.items()]


_catalogue("processes", ("name", "description", "settings", "source"), _processes)
_catalogue("variations", ("name", "description", "settings", "source"), _variations)
_catalogue("detectors", ("name", "description"), _detectors)


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]], numbers_from: int = 99) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i >= numbers_from else "left", no_wrap=i == 0)
    for row in rows:
        table.add_row(*row)
    return table


def _print_table(table: "Table") -> None:
    from rich.console import Console

    # A pipe has no width: give it enough for every column.
    console = Console() if sys.stdout.isatty() else Console(width=160)
    console.print(table, highlight=False)


def _print_plan(campaign: "Campaign", folder: Path, estimates: list[Any], workers: int | None, as_json: bool) -> None:
    import os

    workers = workers or len(os.sched_getaffinity(0))
    seconds = sum(e.seconds for e in estimates) / workers
    n_bytes = sum(e.n_bytes for e in estimates)
    if as_json:
        answer = {
            "folder": str(folder),
            "digest": campaign.digest,
            "n_events": campaign.n_events,
            "n_tasks": campaign.n_tasks,
            "workers": workers,
            "seconds": seconds,
            "bytes": n_bytes,
            "variations": [vars(e) for e in estimates],
        }
        click.echo(json.dumps(answer))
        return
    click.echo(f"{folder}: {campaign.n_events:,} events of {', '.join(p.name for p in campaign.processes)}")
    click.echo(f"{len(campaign.variations)} variations, detector {campaign.detector}, seed {campaign.seed}")
    rows = [
        (
            e.variation,
            f"{1000 * e.seconds_a_view:.1f}",
            f"{e.jets_a_view:.2f}",
            _duration(e.seconds),
            _size(e.n_bytes),
        )
        for e in estimates
    ]
    _print_table(_table(("variation", "ms/view", "jets/view", "core time", "disk"), rows, numbers_from=1))
    click.echo(f"{campaign.n_tasks:,} tasks on {workers} workers: about {_duration(seconds)}, {_size(n_bytes)}.")


def _print_summary(summary: dict[str, Any], folder: Path, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"folder": str(folder), **summary}))
        return
    rows = [
        (
            name,
            f"{v['n_events']:,}",
            f"{v['n_jets']:,}",
            f"{v['n_missing']:,}",
            f"{v['n_without_jet']:,}",
            f"{v['ms_a_view']:.1f}",
            _size(v["n_bytes"]),
        )
        for name, v in summary["variations"].items()
    ]
    columns = ("variation", "views", "jets", "rejected", "without jet", "ms/view", "size")
    _print_table(_table(columns, rows, numbers_from=1))
    click.echo()
    rows = [
        (
            name,
            f"{p['n_events']:,}",
            f"{p['cross_section']:.4g} ± {p['cross_section_error']:.2g}",
            f"{p['n_jets']:,}",
        )
        for name, p in summary["processes"].items()
    ]
    _print_table(_table(("process", "events", "cross-section [pb]", "jets"), rows, numbers_from=1))
    click.echo()
    stages = ", ".join(f"{name} {100 * share:.1f} %" for name, share in summary["time_shares"].items())
    click.echo(
        f"{folder}: {summary['n_shards']:,} shards, {_size(summary['n_bytes'])}, "
        f"{_duration(summary['core_seconds'])} of core time ({stages})"
    )


def _size(n_bytes: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
