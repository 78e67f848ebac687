"""`hepfm-data export`, `publish` and `report`: jets for other tools, for the Hub, and to look at."""

import json
from pathlib import Path
from typing import Any

import click

from hepfm.arguments import LocalPath, Whole
from hepfm.commands.options import columns_option, examples, folder_argument, json_option

_MAX_SHOWN = 10_000


@click.command(
    epilog=examples(
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
@click.option("--out", type=LocalPath(), help="Where the files go.  [default: SOURCE-FORMAT]")
@columns_option
@json_option
def export(source: str, to: str, out: Path | None, columns: str | None, as_json: bool) -> None:
    """Convert jets to a format that other tools read.

    SOURCE is whatever hepfm.open opens. There is a file a variation; parquet of a campaign is the Hub's layout for
    load_dataset, in which files that are up to date stay as they are.
    """
    from hepfm import terminal
    from hepfm.atomic import location
    from hepfm.exporting import export as export_jets
    from hepfm.publishing import stage
    from hepfm.resim.folder import is_campaign

    target = out or Path(f"{Path(source).name}-{to}")
    if to != "parquet" or columns or not is_campaign(location(source)):
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


@click.command(
    epilog=examples(
        "hepfm-data publish resim-jets --repo hepfm/resim-jets",
        "hepfm-data publish resim-jets --repo me/jets --private --tag v1",
        "hepfm-data publish resim-jets --repo me/jets --dry-run",
    )
)
@folder_argument
@click.option("--repo", required=True, metavar="OWNER/NAME", help="Dataset on the Hub; made if there is none.")
@click.option("--tag", help="Name of this version, never to change.  [default: made of the content's digest]")
@click.option("--private", is_flag=True, help="Only you may see it.")
@click.option("--license", default="cc-by-4.0", show_default=True, help="The Hub's name of the licence.")
@click.option("--out", type=LocalPath(), help="Where converted files go.  [default: FOLDER-parquet]")
@click.option("--dry-run", is_flag=True, help="Check, convert, list what would be sent and deleted, and send nothing.")
@json_option
def publish(folder: str, out: Path | None, dry_run: bool, as_json: bool, **how: Any) -> None:  # noqa: ANN401
    """Publish a campaign as a dataset on the Hugging Face Hub.

    Checks it, converts it as `export` does, and sends what has changed in one commit. Log in once: hf auth login
    """
    from hepfm import terminal
    from hepfm.publishing import Publication, preview
    from hepfm.publishing import publish as publish_campaign

    target, publication = out or Path(f"{Path(folder).name}-parquet"), Publication(**how)
    with terminal.conversion_bar() as report:
        if dry_run:
            upload, where = preview(folder, target, publication, report=report), {}
        else:
            done = publish_campaign(folder, target, publication, report=report)
            upload, where = done.upload, {"url": done.url, "commit": done.commit}
    if as_json:
        answer = {"new": dict(upload.new), "unchanged": dict(upload.unchanged), "deleted": list(upload.deleted)}
        click.echo(json.dumps(where | answer))
        return
    for name, size in upload.new.items() if dry_run else ():
        click.echo(f"{size / 1e6:10.3f} MB  {name}")
    for name in upload.deleted:
        click.echo(f"{'to delete' if dry_run else 'deleted':>13}  {name}")
    sent = f"{len(upload.new)} files {'to send' if dry_run else 'sent'}, {sum(upload.new.values()) / 1e6:.1f} MB"
    click.echo(f"{sent}; {len(upload.unchanged)} unchanged.")
    if where:
        click.echo(f'{where["url"]}\nload_dataset("{publication.repo}") and hepfm.open("{publication.repo}") read it.')


@click.command(
    epilog=examples(
        "hepfm-data report resim-jets",
        "hepfm-data report resim-jets --out report.html --events 200",
        "hepfm-data report JetClass/HToBB_100.root",
    )
)
@click.argument("source", default="resim-jets")
@click.option("--out", type=LocalPath(), help="The page.  [default: SOURCE-report.html]")
@click.option(
    "--events", type=Whole(0, _MAX_SHOWN), default=60, show_default=True, help="Jets to look at in the page, at most."
)
@columns_option
@json_option
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
