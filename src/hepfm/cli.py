"""The command line: parse, call one function, print. Heavy imports live inside the commands."""

import json
import math
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hepfm import __version__
from hepfm.errors import HepfmError, InputError

if TYPE_CHECKING:
    from hepfm.resim.campaign import Campaign

_MAX_COUNT = 10**15
_MAX_SEED = 2**63 - 1
_MAX_WORKERS = 4096


class Whole(click.ParamType):  # type: ignore[type-arg]
    """A whole number within limits, which may be written as 1e6 or 10_000."""

    name = "integer"

    def __init__(self, low: int, high: int) -> None:
        """Accept numbers from `low` to `high`."""
        self.low, self.high = low, high

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401
        """Turn text into an integer."""
        try:
            number = int(value)
        except ValueError:
            number = self._from_float(value)
        if not self.low <= number <= self.high:
            expected = f"expected a whole number from {self.low} to {self.high:g}, such as {max(self.low, 1)} or 1e3"
            self.fail(f"{value!r} given, {expected}.", param, ctx)
        return number

    def _from_float(self, text: str) -> int:
        """The number that 1e6 is, or one outside the limits."""
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        return int(number) if number.is_integer() else self.low - 1


class Positive(click.ParamType):  # type: ignore[type-arg]
    """A finite, positive number."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401
        """Turn text into a positive float."""
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or number <= 0:
            self.fail(f"{value!r} given, expected a positive number.", param, ctx)
        return number


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
_folder_argument = click.argument("folder", type=click.Path(path_type=Path), default="resim-jets")


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
    )
)
@click.argument("out_argument", metavar="[OUT]", required=False, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Campaign folder.  [default: ./resim-jets]")
@click.option(
    "--n-events", type=Whole(1, _MAX_COUNT), help="Frozen events in all.  [default: 10000, or all of the files]"
)
@click.option("--variations", default="8", show_default=True, help="A number, names, or TOML files; commas between.")
@click.option("--processes", help="rs3l, jetclass, or names; see `list processes`.  [default: rs3l]")
@click.option(
    "--lhe", multiple=True, type=click.Path(path_type=Path), help="Les Houches file of frozen events; may be repeated."
)
@click.option("--detector", default="cms", show_default=True, help="none, cms or jetclass; see `list detectors`.")
@click.option("--freeze", default="hard", show_default=True, help="Freeze point of the variations.")
@click.option("--jet-pt-min", type=Positive(), help="Least jet pt in GeV.  [default: the preset's; 20 for files]")
@click.option("--jet-pt-max", type=Positive(), help="Largest jet pt in GeV.  [default: the preset's]")
@click.option("--seed", default=1, show_default=True, type=Whole(0, _MAX_SEED), help="Of all random numbers.")
@click.option("--workers", type=Whole(1, _MAX_WORKERS), help="Local processes.  [default: one a core]")
@click.option("--executor", default="local", show_default=True, help="Where tasks run: local or dask.")
@click.option("--scheduler", help="Address of a Dask scheduler.  [default: a cluster on this machine]")
@click.option("--chunk-events", type=Whole(1, _MAX_COUNT), help="Events a task.  [default: from --n-events]")
@click.option(
    "--config", type=click.Path(path_type=Path), help="Repeat a campaign.toml; no other setting goes with it."
)
@click.option(
    "--extend",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Add --variations to the campaign in DIR; no other setting goes with it.",
)
@click.option("--dry-run", is_flag=True, help="Print the plan, with time and disk measured on a few events.")
@_json_option
@click.pass_context
def resim(
    ctx: click.Context,
    /,
    out_argument: Path | None,
    out: Path | None,
    workers: int | None,
    executor: str,
    scheduler: str | None,
    config: Path | None,
    extend: Path | None,
    dry_run: bool,
    as_json: bool,
    **settings: Any,  # noqa: ANN401 (the options that make a campaign)
) -> None:
    """Re-simulate frozen events under several variations.

    Running the same command again finishes what an interruption left.
    """
    if out_argument and out and out_argument != out:
        msg = f"the folder is given twice: '{out_argument}' and --out '{out}'. Give one."
        raise click.UsageError(msg)
    folder = out or out_argument or extend or Path("resim-jets")
    campaign = _campaign(ctx, config, extend, settings)
    from hepfm import terminal

    for note in campaign.notes:
        click.echo(f"note: {note}", err=True)
    if dry_run:
        from hepfm.resim.estimate import estimate

        plan = terminal.plan(campaign, folder, estimate(campaign), workers)
        click.echo(json.dumps(plan)) if as_json else terminal.print_plan(plan, campaign)
        return
    from hepfm.resim.executors import executor_named
    from hepfm.resim.run import run
    from hepfm.resim.summary import summarise

    with (
        executor_named(executor, scheduler, workers) as (pool, size),
        terminal.progress_bar(campaign.n_events, len(campaign.variations)) as report,
    ):
        records = run(campaign, folder, pool, workers=size, report=report)
    summary = {"folder": str(folder), **summarise(records, [v.name for v in campaign.variations])}
    click.echo(json.dumps(summary)) if as_json else terminal.print_summary(summary)


def _campaign(ctx: click.Context, config: Path | None, extend: Path | None, settings: dict[str, Any]) -> "Campaign":
    """The campaign that the options of `resim` ask for."""
    from hepfm.resim.campaign import Campaign, plan
    from hepfm.resim.folder import extend as extended
    from hepfm.resim.variations import FREEZE_POINTS, resolve_variations
    from hepfm.schema import unknown_name

    names = (*settings, "out", "out_argument", "config", "extend", "dry_run")
    given = [name for name in names if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE]
    if extend is not None:
        if set(given) != {"extend", "variations"}:
            msg = "--extend takes --variations, and no other setting of a campaign. Give these two."
            raise click.UsageError(msg)
        return extended(extend, resolve_variations(settings["variations"]))
    if config is not None:
        if given := [name for name in given if name in settings]:
            msg = f"--config already says --{given[0].replace('_', '-')}. Leave one of the two out."
            raise click.UsageError(msg)
        return Campaign.from_toml(config)
    if settings["lhe"] and settings["processes"] is not None:
        msg = "--lhe and --processes exclude each other: the files hold the hard processes."
        raise click.UsageError(msg)
    freeze, processes = settings.pop("freeze"), settings.pop("processes")
    if freeze not in FREEZE_POINTS:
        raise InputError(unknown_name("freeze point", freeze, FREEZE_POINTS))
    jet_pt = settings.pop("jet_pt_min"), settings.pop("jet_pt_max")
    return plan(processes="rs3l" if processes is None else processes, jet_pt=jet_pt, **settings)


@cli.command(epilog=_examples("hepfm-data info resim-jets", "hepfm-data info resim-jets --json"))
@_folder_argument
@_json_option
def info(folder: Path, as_json: bool) -> None:
    """Say what is in a campaign folder: events, views, jets, cross-sections, time and size."""
    from hepfm import manifest, terminal
    from hepfm.resim.summary import summarise

    records, header = manifest.read(folder), manifest.read_header(folder)
    order = header.get("variations")
    summary = summarise(records, order if isinstance(order, list) else [])
    summary = {"folder": str(folder), **summary, "campaign": header}
    click.echo(json.dumps(summary)) if as_json else terminal.print_summary(summary)


@cli.command(epilog=_examples("hepfm-data check resim-jets"))
@_folder_argument
@_json_option
def check(folder: Path, as_json: bool) -> None:
    """Check a campaign: digests, format, physics, views aligned, splits disjoint."""
    from hepfm.resim.check import check_campaign

    findings = check_campaign(folder)
    if as_json:
        click.echo(json.dumps({"folder": str(folder), "problems": findings.problems, "checked": findings.checked}))
    else:
        for problem in findings.problems:
            click.echo(problem)
        checked = ", ".join(f"{n:,} {what}" for what, n in findings.checked.items())
        click.echo(f"{len(findings.problems)} problems in {checked or '0 shards'}.")
    if findings.problems:
        sys.exit(1)


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


if __name__ == "__main__":
    main()
