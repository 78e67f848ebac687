"""`hepfm-data study`: comparisons that take many trainings."""

import json
from pathlib import Path
from typing import Any

import click

from hepfm.arguments import LocalPath, Whole
from hepfm.commands.options import (
    Names,
    allow_missing_option,
    backbone_rate_option,
    columns_option,
    examples,
    json_option,
    learning_rate_option,
)
from hepfm.schema import SPLITS


class _Numbers(Names):
    """Numbers with commas between."""

    name = "numbers"

    def __init__(self, *, whole: bool) -> None:
        self._whole = whole

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401
        """Take the numbers apart."""
        words = super().convert(value, param, ctx)
        if self._whole:
            return tuple(Whole(1, 10**12).convert(word, param, ctx) for word in words)
        try:
            numbers = tuple(float(word) for word in words)
        except ValueError:
            numbers = ()
        if not numbers or not all(0 < number <= 1 for number in numbers):
            self.fail(f"{value!r} given, expected shares above 0 and up to 1, such as 0.05,0.2.", param, ctx)
        return numbers


@click.group()
def study() -> None:
    """Comparisons that take many trainings."""


@study.command(
    epilog=examples(
        "hepfm-data study labels hepfm/mpm-tiny hepfm/rs3l-tiny --data resim-jets --labels 100,1e3,1e4",
        "hepfm-data study labels hepfm/mpm-tiny --data resim-jets --classes QCD,Tbl,Tbqq --out unseen-classes",
        "hepfm-data study labels hepfm/mpm-tiny --data resim-jets --test-data other-jets --out other-simulation",
        "hepfm-data study labels hepfm/mpm-tiny --data resim-jets --classes QCD,Hbb --labels 1e4 "
        "--fractions 0.01,0.05,0.2 --out weak",
        "hepfm-data study labels hepfm/rs3l-tiny --data resim-jets --classes QCD,Hbb --variations nominal,vincia",
    )
)
@click.argument("checkpoints", nargs=-1, required=True)
@click.option("--data", required=True, help="Labelled jets, whatever hepfm.open opens.")
@click.option(
    "--labels", type=_Numbers(whole=True), default="100,1000,10000", show_default=True, help="Numbers of labelled jets."
)
@click.option(
    "--validation-share", default=0.0, show_default=True, help="Of the labelled jets, which decide when to stop."
)
@click.option("--seeds", "n_seeds", default=3, show_default=True, type=Whole(1, 1000), help="Trainings of each kind.")
@click.option("--modes", type=Names(), default="scratch,frozen,full", show_default=True, help="Of fine-tuning.")
@click.option("--label", "column", default="jet_label", show_default=True, help="Column of the classes.")
@click.option("--classes", type=Names(), help="Classes to tell apart, such as those no backbone saw.  [default: all]")
@click.option("--test-data", help="Jets to test on.  [default: the test split of --data]")
@click.option(
    "--split",
    type=click.Choice([*SPLITS, "all"]),
    help="Which of the test jets.  [default: test, or all of data without events that trained nothing]",
)
@click.option("--variations", type=Names(), help="Views of the test jets to compare, the nominal one first.")
@click.option(
    "--fractions",
    "signal_fractions",
    type=_Numbers(whole=False),
    help="Weak supervision: shares of signal in a sample that is told from background; --classes BACKGROUND,SIGNAL.",
)
@click.option("--n-test", default=20_000, show_default=True, type=Whole(1, 10**12), help="Test jets, about.")
@click.option("--epochs", "n_epochs", type=Whole(1, 10**9), help="Times each jet is seen.  [default: 40, of many 10]")
@learning_rate_option
@backbone_rate_option
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), help="Of products.  [default: fp32]")
@click.option("--measure", default="", help="What the figure shows: accuracy, auc, rejection_at_0.5, ...")
@click.option("--out", type=LocalPath(), default="label-study", show_default=True, help="Folder.")
@columns_option
@allow_missing_option
@json_option
def labels(out: Path, measure: str, as_json: bool, **settings: Any) -> None:  # noqa: ANN401
    """How many labels do the pre-trained networks CHECKPOINTS save?

    Trains taggers from scratch, on frozen and on trained backbones, with few and many labels. Writes study.md,
    study.json, study.png and, of several views, scores.png. Running the same command again trains only what is
    missing.
    """
    from hepfm import terminal
    from hepfm.cards.run_figures import write_study_figures
    from hepfm.training.study import Study, run_study, study_table

    wanted = Study(**{name: value for name, value in settings.items() if value is not None})
    with terminal.conversion_bar() as report:
        result = run_study(wanted, out, report=report)
    for note in write_study_figures(out, result, measure):
        click.echo(f"note: {note}", err=True)
    click.echo(json.dumps(result) if as_json else study_table(result).rstrip())


@study.command(
    name="map",
    epilog=examples(
        "hepfm-data study map hepfm/mpm-tiny --data resim-jets",
        "hepfm-data study map hepfm/rs3l-tiny --data resim-jets --variations nominal,vincia --out rs3l-map",
    ),
)
@click.argument("checkpoint")
@click.option("--data", required=True, help="Labelled jets, whatever hepfm.open opens.")
@click.option("--variations", type=Names(), help="Views to show, the nominal one first.  [default: the first]")
@click.option("--label", "column", default="jet_label", show_default=True, help="Column of the classes.")
@click.option("--n-jets", default=4_000, show_default=True, type=Whole(3, 10**6), help="Of each variation, about.")
@click.option(
    "--out",
    type=LocalPath(file_okay=False, writable=True),
    default="jet-map",
    show_default=True,
    help="Folder.",
)
@columns_option
@allow_missing_option
def map_(
    checkpoint: str,
    data: str,
    variations: tuple[str, ...] | None,
    columns: str | None,
    out: Path,
    **how: Any,  # noqa: ANN401 (of map_jets)
) -> None:
    """Draw test jets in the plane in which the network CHECKPOINT spreads them most.

    The two first principal components of its vectors of jets, in the colours of classes and of variations: map.png.
    """
    from hepfm.cards.run_figures import write_map
    from hepfm.models import AutoModel
    from hepfm.training.embedding import map_jets
    from hepfm.training.source import open_source

    backbone, dataset = AutoModel.from_pretrained(checkpoint).eval(), open_source(data, columns)
    # Before the work: its result would be lost.
    out.mkdir(parents=True, exist_ok=True)
    jets = map_jets(backbone, dataset, variations=variations or (), **how)
    colouring = {"class": (jets.classes, jets.labels)}
    if len(jets.variations) > 1:
        colouring["variation"] = (jets.variations, jets.views)
    first, second = jets.explained.tolist()
    for note in write_map(out, jets.points, (first, second), colouring):
        click.echo(f"note: {note}", err=True)
    click.echo(f"{out / 'map.png'}: {len(jets.points):,} jets; {first:.1%} and {second:.1%} of the variance")
