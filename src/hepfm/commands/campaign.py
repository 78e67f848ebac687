"""`hepfm-data info` and `check`: what is in a campaign, and whether it is sound."""

import json
import sys

import click

from hepfm.commands.options import examples, folder_argument, json_option


@click.command(
    epilog=examples(
        "hepfm-data info resim-jets", "hepfm-data info resim-jets --json", "hepfm-data info resim-jets --watch"
    )
)
@folder_argument
@click.option("--watch", is_flag=True, help="Show how a running campaign proceeds, until it is finished.")
@json_option
def info(folder: str, watch: bool, as_json: bool) -> None:
    """Say what is in a campaign folder: events, views, jets, cross-sections, time and size."""
    from hepfm import manifest, terminal
    from hepfm.atomic import location
    from hepfm.summary import summarise_campaign

    if watch:
        terminal.watch(folder)
    place = location(folder)
    records, header = manifest.read(place), manifest.read_header(place)
    summary = {"folder": folder, **summarise_campaign(records, header), "campaign": header}
    click.echo(json.dumps(summary)) if as_json else terminal.print_summary(summary)


@click.command(epilog=examples("hepfm-data check resim-jets"))
@folder_argument
@json_option
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
