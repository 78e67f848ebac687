"""`hepfm-data evaluate`: what a tagger is worth, and how much that depends on the simulation."""

import json
from pathlib import Path

import click

from hepfm.arguments import LocalPath, Whole
from hepfm.commands.options import Names, allow_missing_option, columns_option, examples, json_option


@click.command(
    epilog=examples(
        "hepfm-data evaluate runs/mpm-tiny-resim-jets-full resim-jets --out evaluation",
        "hepfm-data evaluate runs/weak resim-jets --signal Hbb --background QCD",
        "hepfm-data evaluate runs/mpm-tiny-resim-jets-full other-jets --split all --json",
    )
)
@click.argument("checkpoint")
@click.argument("data")
@click.option("--label", help="Column of the truth.  [default: the one that the tagger learned]")
@click.option("--signal", type=Names(), help="Classes that are signal; a tagger of mixed samples needs it.")
@click.option("--background", type=Names(), help="Classes that are background.  [default: QCD, or the first]")
@click.option(
    "--split",
    type=click.Choice(["train", "validation", "test", "all"]),
    help="Which jets.  [default: test, or all of data without events that trained nothing]",
)
@click.option("--variations", type=Names(), help="Which views; the first is the nominal one.  [default: all]")
@click.option("--n-jets", default=0, type=Whole(0, 10**12), help="About so many of each variation.  [default: all]")
@click.option(
    "--out",
    type=LocalPath(file_okay=False, writable=True),
    help="Folder for evaluation.json and figures; if CHECKPOINT itself, its model card follows.",
)
@columns_option
@allow_missing_option
@json_option
def evaluate(
    checkpoint: str,
    data: str,
    label: str | None,
    signal: tuple[str, ...] | None,
    background: tuple[str, ...] | None,
    split: str | None,
    variations: tuple[str, ...] | None,
    n_jets: int,
    out: Path | None,
    columns: str | None,
    allow_missing: bool,
    as_json: bool,
) -> None:
    """Measure the tagger CHECKPOINT on the labelled jets DATA.

    Accuracy, areas under ROC curves, background rejection; and where there are several views of the same events, how
    far scores move between them.
    """
    from hepfm import terminal
    from hepfm.cards.model_card import write_model_card
    from hepfm.cards.run_figures import write_evaluation_figures
    from hepfm.training.evaluation import Question, default_split, write_evaluation
    from hepfm.training.evaluation import evaluate as measure
    from hepfm.training.scoring import Tagger
    from hepfm.training.source import open_source
    from hepfm.training.wording import report_lines

    tagger = Tagger.load(checkpoint, allow_missing=allow_missing)
    dataset = open_source(data, columns)
    chosen = default_split(dataset, tagger.digests) if split is None else None if split == "all" else split
    question = Question(label or tagger.label, signal or (), background or (), chosen, variations or (), n_jets=n_jets)
    if out is not None:
        # Before the work: its result would be lost.
        out.mkdir(parents=True, exist_ok=True)
    with terminal.conversion_bar() as report:
        found = measure(tagger, dataset, question, report=report)
    if out is not None:
        write_evaluation(found, out)
        notes = write_evaluation_figures(out)
        if out.resolve() == Path(checkpoint).resolve():
            notes = write_model_card(out).notes
        for note in notes:
            click.echo(f"note: {note}", err=True)
    click.echo(json.dumps(found)) if as_json else click.echo("\n".join(report_lines(found)))
