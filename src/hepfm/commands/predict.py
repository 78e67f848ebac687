"""`hepfm-data predict`: scores beside jets."""

import json
from pathlib import Path

import click

from hepfm.arguments import LocalPath
from hepfm.commands.options import allow_missing_option, columns_option, examples, json_option


@click.command(
    epilog=examples(
        "hepfm-data predict runs/mpm-tiny-my_jets-full new_jets.root --out scores.root",
        "hepfm-data predict runs/mpm-tiny-my_jets-full resim-jets --out scored.parquet --constituents",
    )
)
@click.argument("checkpoint")
@click.argument("data")
@click.option(
    "--out",
    required=True,
    type=LocalPath(),
    help="File to write: its ending, .parquet, .h5 or .root, is its format.",
)
@click.option("--constituents", is_flag=True, help="Write the jets' constituents, too (.parquet and .root).")
@columns_option
@allow_missing_option
@json_option
def predict(
    checkpoint: str,
    data: str,
    out: Path,
    constituents: bool,
    columns: str | None,
    allow_missing: bool,
    as_json: bool,
) -> None:
    """Write the jets DATA with the scores of the tagger CHECKPOINT, as columns score_<class>.

    Of a regression it is predicted_<column>. All jets are scored, those that trained the tagger, too.
    """
    from hepfm import terminal
    from hepfm.formats.flat import check_suffix
    from hepfm.training.prediction import predict as write_scores
    from hepfm.training.scoring import Tagger
    from hepfm.training.source import Source, open_source

    check_suffix(out)
    tagger = Tagger.load(checkpoint, allow_missing=allow_missing)
    dataset = open_source(data, columns)
    with terminal.conversion_bar() as report:
        done = write_scores(
            tagger, Source(dataset, None), out, name=Path(checkpoint).name, constituents=constituents, report=report
        )
    if as_json:
        click.echo(json.dumps({"file": str(out), "n_jets": done.n_jets, "columns": list(done.columns)}))
    else:
        click.echo(f"{out}: {done.n_jets:,} jets, with {', '.join(done.columns)}")
