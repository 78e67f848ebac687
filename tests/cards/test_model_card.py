import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from huggingface_hub import ModelCard
from PIL import Image
from toy_jets import tiny_backbone, toys, write_toys

import hepfm
from hepfm import cli
from hepfm.cards import run_figures as module
from hepfm.cards.model_card import write_model_card
from hepfm.cards.model_figures import (
    draw_confusion,
    draw_map,
    draw_roc,
    draw_scores,
    draw_study,
    draw_study_scores,
    draw_training,
)
from hepfm.cards.run_figures import write_evaluation_figures
from hepfm.errors import InputError
from hepfm.run_folder import read_metrics
from hepfm.training.evaluation import Question, evaluate, write_evaluation
from hepfm.training.finetune import finetune
from hepfm.training.finetuning import Finetuning
from hepfm.training.labels import Labels
from hepfm.training.scoring import Tagger


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A fine-tuned network on toys under two variations, evaluated, with its card."""
    folder = tmp_path_factory.mktemp("secret-place")
    data = write_toys(folder / "toys.parquet", toys(), toys(variation="stretched", stretch=1.5))
    backbone = tiny_backbone(folder / "backbone")
    recipe = Finetuning(
        str(backbone), (str(data),), labels=Labels(validation_share=0.2), n_epochs=4, batch_size=32, learning_rate=2e-3
    )
    done = finetune(recipe, folder / "tagger")
    found = evaluate(Tagger(done.model), hepfm.open(data), Question(split=None, n_bootstrap=5))
    write_evaluation(found, folder / "tagger")
    write_model_card(folder / "tagger")
    return folder / "tagger"


@pytest.fixture(scope="module")
def card(run):
    return (run / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def evaluation(run):
    return json.loads((run / "evaluation.json").read_text())


def blocks(card, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", card, re.MULTILINE | re.DOTALL)


def test_the_front_matter_is_what_the_hub_reads(card):
    data = ModelCard(card).data
    assert data.library_name == "transformers"
    assert data.license == "cc-by-4.0"
    assert {"physics", "jets", "hepfm"} <= set(data.tags)
    results = {result.metric_type: result.metric_value for result in data.eval_results}
    assert results.keys() == {"accuracy", "roc_auc"}


def test_the_results_in_the_front_matter_are_the_evaluations(card, evaluation):
    front = yaml.safe_load(card.split("---\n")[1])
    metrics = {m["type"]: m["value"] for m in front["model-index"][0]["results"][0]["metrics"]}
    assert metrics == {"accuracy": evaluation["accuracy"]["value"], "roc_auc": evaluation["auc"]}


def test_names_of_the_hub_become_links_and_paths_do_not(tmp_path, run):
    for name in ("config.json", "recipe.toml", "training.json"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    training = json.loads((tmp_path / "training.json").read_text())
    assert "datasets" not in yaml.safe_load((run / "README.md").read_text().split("---\n")[1])
    training["data"]["sources"][0]["name"] = "hepfm/resim-jets"
    (tmp_path / "training.json").write_text(json.dumps(training))
    recipe = (tmp_path / "recipe.toml").read_text()
    (tmp_path / "recipe.toml").write_text(re.sub(r'checkpoint = ".*"', 'checkpoint = "hepfm/mpm-tiny"', recipe))
    front = yaml.safe_load(write_model_card(tmp_path).path.read_text().split("---\n")[1])
    assert front["datasets"] == ["hepfm/resim-jets"]
    assert front["base_model"] == "hepfm/mpm-tiny"


def front_matter(text):
    return yaml.safe_load(text.split("---\n")[1])


def copy_of(run, folder, *, checkpoint=None, column=None, **change):
    """A run's folder, evaluated nowhere, with another checkpoint or label, or with changes in what the data are."""
    folder.mkdir()
    training = json.loads((run / "training.json").read_text())
    training["data"]["sources"][0] |= change
    training["published"] = [checkpoint] * (checkpoint is not None)
    recipe = (run / "recipe.toml").read_text()
    for name, value in (("checkpoint", checkpoint), ("column", column)):
        recipe = (
            recipe if value is None else re.sub(rf'^{name} = ".*"', f'{name} = "{value}"', recipe, flags=re.MULTILINE)
        )
    (folder / "training.json").write_text(json.dumps(training))
    (folder / "recipe.toml").write_text(recipe)
    (folder / "config.json").write_bytes((run / "config.json").read_bytes())
    return folder


def test_paths_stay_paths_when_the_card_is_written_again_from_another_folder(tmp_path, monkeypatch):
    """There `data/toys.parquet` is no file, and looks like a name of the Hub."""
    for name in ("here/data", "here/runs", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    write_toys(Path("data/toys.parquet"))
    tiny_backbone(Path("runs/backbone"))
    done = finetune(Finetuning("runs/backbone", ("data/toys.parquet",), n_epochs=1), Path("runs/tagger"))
    question = Question(split=None, n_bootstrap=2)
    write_evaluation(evaluate(Tagger(done.model), hepfm.open("data/toys.parquet"), question), Path("runs/tagger"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    text = write_model_card(tmp_path / "here" / "runs" / "tagger").path.read_text()
    assert not {"datasets", "base_model"} & front_matter(text).keys()
    assert front_matter(text)["model-index"][0]["results"][0]["dataset"]["type"] == "toys.parquet"
    assert "data/" not in text
    assert "runs/" not in text


def test_what_was_the_hubs_when_it_was_used_is_named_in_full(run, tmp_path):
    used = copy_of(run, tmp_path / "used", checkpoint="someone/network", name="someone/jets", published=True)
    text = write_model_card(used).path.read_text()
    assert front_matter(text)["datasets"] == ["someone/jets"]
    assert front_matter(text)["base_model"] == "someone/network"
    assert "| `someone/jets` |" in text
    # Nothing says so of the same names in the folder of an older run.
    training = json.loads((used / "training.json").read_text())
    del training["published"], training["data"]["sources"][0]["published"]
    (used / "training.json").write_text(json.dumps(training))
    text = write_model_card(used).path.read_text()
    assert "someone/" not in text
    assert "| `jets` |" in text


def test_what_was_trained_from_scratch_has_no_base(run, tmp_path):
    folder = copy_of(run, tmp_path / "run", checkpoint="someone/network")
    recipe = (folder / "recipe.toml").read_text()
    (folder / "recipe.toml").write_text(recipe.replace('mode = "full"', 'mode = "scratch"'))
    text = write_model_card(folder).path.read_text()
    assert "trained from new weights" in text
    assert "base_model" not in front_matter(text)


def test_a_network_that_will_be_published_is_loaded_by_its_name(run, tmp_path):
    text = write_model_card(copy_of(run, tmp_path / "network"), repo="someone/network").path.read_text()
    assert '.from_pretrained("someone/network")' in text


@pytest.mark.parametrize(
    ("change", "is_said"),
    [
        ({}, True),
        ({"column": "is_wide"}, True),
        ({"variations": []}, True),
        ({"variations": [], "column": "is_wide"}, False),
    ],
    ids=["views with a true label", "views", "a true label", "neither"],
)
def test_a_card_says_that_jets_are_simulated_where_something_tells_so(run, tmp_path, change, is_said):
    limits = write_model_card(copy_of(run, tmp_path / "run", **change)).path.read_text().split("## Limits")[1]
    assert ("Trained on simulation" in limits) == is_said
    assert ("tells whether they are simulated" in limits) != is_said


def test_the_card_does_not_say_where_files_lay(card):
    assert "secret-place" not in card


def execute(code, folder, monkeypatch, capsys):
    """Run Python as a reader would, in the folder above the network's, and give what it prints."""
    monkeypatch.chdir(folder)
    exec(compile(code, "card", "exec"), {"__name__": "card"})
    return capsys.readouterr().out


def test_the_code_of_the_card_runs(card, run, monkeypatch, capsys):
    (code,) = blocks(card, "python")
    assert execute(code, run.parent, monkeypatch, capsys) == "{0: 'QCD', 1: 'Hbb'} torch.Size([2, 2])\n"


def test_the_command_of_the_card_runs(card, run, monkeypatch):
    (command,) = blocks(card, "bash")
    monkeypatch.chdir(run.parent)
    program, *words = shlex.split(command.replace("my_jets.root", "toys.parquet"))
    assert program == "hepfm-data"
    CliRunner().invoke(cli.cli, words, catch_exceptions=False)
    assert (run.parent / "scores.parquet").exists()


def test_the_card_has_the_recipe_the_digest_and_the_figures(card, run):
    training = json.loads((run / "training.json").read_text())
    assert training["data"]["sources"][0]["digest"] in card
    assert 'checkpoint = "backbone"' in blocks(card, "toml")[0]
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", card)
    assert pictures == ["roc.png", "confusion.png", "scores.png", "training.png"]
    for name in pictures:
        with Image.open(run / name) as image:
            assert min(image.size) > 300


def test_the_card_has_every_section(card):
    sections = ["Use", "What it is worth", "Data", "Training", "Limits", "Licence", "Citation"]
    assert re.findall(r"^## (.*)$", card, re.MULTILINE) == sections


def test_a_tagger_that_was_not_evaluated_has_the_validation_of_the_weights_that_were_kept(run, tmp_path):
    folder = copy_of(run, tmp_path / "run")
    losses = {10: None, 20: 0.25, 30: 0.75}
    entries = [{"step": s, "validation_loss": x, "validation_accuracy": s / 100} for s, x in losses.items()]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    text = write_model_card(folder).path.read_text()
    assert "On the jets that decided which weights are kept:" in text
    assert "| loss | 0.25 |\n| accuracy | 0.2 |\n" in text


def test_a_card_without_evaluation_promises_nothing(run, tmp_path):
    for name in ("config.json", "recipe.toml", "training.json"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    text = write_model_card(tmp_path).path.read_text()
    assert "What it is worth" not in text
    assert "model-index" not in text
    assert not (tmp_path / "roc.png").exists()


def test_a_regression_has_a_card_with_its_errors(run, tmp_path):
    data = run.parent / "toys.parquet"
    recipe = Finetuning(
        str(run.parent / "backbone"), (str(data),), task="regression", labels=Labels("jet_sdmass"), n_epochs=2
    )
    done = finetune(recipe, tmp_path / "mass")
    found = evaluate(Tagger(done.model), hepfm.open(data), Question("jet_sdmass", split=None, n_bootstrap=2))
    write_evaluation(found, tmp_path / "mass")
    text = write_model_card(tmp_path / "mass").path.read_text()
    assert "Predicts `jet_sdmass` of jets" in text
    assert "| resolution |" in text
    assert not (tmp_path / "mass" / "roc.png").exists()


def test_a_pre_trained_backbone_has_a_card_whose_code_runs(tmp_path, monkeypatch, capsys):
    """A run's folder as every training leaves it."""
    folder = tiny_backbone(tmp_path / "backbone")
    (folder / "recipe.toml").write_text('[backbone]\nkind = "transformer"\n')
    sources = [{"name": name, "n_jets": 100, "digest": 64 * str(n)} for n, name in enumerate(("resim-jets", "more"))]
    data = {"sources": sources, "n_train": 80}
    (folder / "training.json").write_text(json.dumps({"data": data, "versions": {"hepfm": "0.1.0"}}))
    logged = [{"step": 10, "loss": 3.0}, {"step": 10, "validation_probe_accuracy": 0.25}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in logged) + '{"step": 2')
    assert "map.png" not in write_model_card(folder).path.read_text()
    (folder / "map.png").write_bytes(b"")
    text = write_model_card(folder).path.read_text()
    assert "](map.png)" in text
    assert all(f"| `{source['name']}` | 100 | `{source['digest']}` |" in text for source in sources)
    assert "pre-trained without labels" in text
    assert "Trained on simulation" not in text
    assert "| probe accuracy | 0.25 |" in text
    (code,) = blocks(text, "python")
    assert execute(code, tmp_path, monkeypatch, capsys) == "torch.Size([2, 16])\n"


def test_a_folder_of_no_run_has_no_card(tmp_path):
    with pytest.raises(InputError, match="no finished run"):
        write_model_card(tmp_path)
    assert not list(tmp_path.iterdir())


def test_without_the_plots_extra_the_card_is_written_and_says_what_is_missing(run, tmp_path, monkeypatch):
    for path in run.iterdir():
        if path.suffix in (".json", ".toml", ".jsonl"):
            (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(module, "why_no_plots", lambda: 'figures need matplotlib: pip install "hepfm[plots]"')
    done = write_model_card(tmp_path)
    assert done.notes == ('figures need matplotlib: pip install "hepfm[plots]"',)
    assert "![" not in done.path.read_text()


def test_a_card_keeps_the_spread_of_scores_where_distances_are_unknown(run, evaluation, tmp_path):
    # Fewer jets of a class under a variation than make a distribution.
    folder = shutil.copytree(run, tmp_path / "tagger")
    found = evaluation["robustness"]
    unknown = {"stretched": dict.fromkeys(found["variations"]["stretched"])}
    write_evaluation(evaluation | {"robustness": found | {"variations": unknown}}, folder)
    text = write_model_card(folder).path.read_text(encoding="utf-8")
    assert "Wasserstein" not in text
    assert f"| {evaluation['robustness']['spread']['QCD']['n_jets']:,} |" in text


# --- figures ---


def test_a_curve_passes_through_the_rejections_that_are_reported(evaluation):
    (axes,) = draw_roc(evaluation).axes
    line = axes.lines[0]
    for efficiency, rejection in evaluation["rejection"]["Hbb"].items():
        if rejection["value"] is not None:
            drawn = np.interp(float(efficiency), line.get_xdata(), line.get_ydata())
            assert drawn == pytest.approx(rejection["value"], rel=1e-3)


def test_shares_of_a_true_class_add_up(evaluation):
    axes, _ = draw_confusion(evaluation).axes
    np.testing.assert_allclose(axes.images[0].get_array().sum(axis=1), 1)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["QCD", "Hbb"]


def test_every_variation_is_drawn_and_has_area_one(evaluation):
    figure = draw_scores(evaluation)
    main = figure.axes[0]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["nominal", "stretched"]
    for steps in main.patches:
        heights, edges, _ = steps.get_data()
        assert np.sum(heights * np.diff(edges)) == pytest.approx(1)


def test_the_best_step_is_marked(run):
    metrics = read_metrics(run)
    (axes,) = draw_training(metrics).axes
    best = min(m["validation_loss"] for m in metrics if "validation_loss" in m)
    assert axes.lines[-1].get_ydata() == [best]


def row(mode, n, mean, fraction=0.0):
    measured = {"mean": mean, "spread": 0.1, "values": [mean]}
    return {"network": "mpm", "mode": mode, "n_labels": n, "signal_fraction": fraction, "accuracy": measured}


def test_a_study_is_drawn_with_bands_of_its_spread():
    figure = draw_study({"rows": [row("full", 100, 0.5), row("full", 1000, 0.6), row("frozen", 100, 0.4)]})
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["mpm, full", "mpm, frozen"]
    band = axes.collections[0].get_paths()[0].get_extents()
    assert (band.ymin, band.ymax) == pytest.approx((0.4, 0.7))
    assert axes.get_xlabel() == "labelled jets"
    assert [text.get_text() for text in axes.get_xticklabels()] == ["100", "1,000"]


def test_of_numbers_of_labels_that_lie_close_the_larger_is_named():
    (axes,) = draw_study({"rows": [row("full", n, 0.5) for n in (100, 1000, 93_000, 100_000)]}).axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["100", "1,000", "", "100,000"]


def test_a_study_of_weak_supervision_is_drawn_over_the_share_of_signal():
    figure = draw_study({"rows": [row("full", 100, 0.5, 0.1), row("full", 100, 0.7, 0.5)]})
    assert figure.axes[0].get_xlabel() == "share of signal in the mixed sample"
    more = draw_study({"rows": [row("full", n, 0.5, fraction) for n in (100, 1000) for fraction in (0.1, 0.5)]})
    legend = [text.get_text() for text in more.axes[0].get_legend().get_texts()]
    assert legend == ["mpm, full, 100 labels", "mpm, full, 1,000 labels"]


def test_scores_of_a_study_are_those_of_most_labels_and_most_signal():
    def histogram(n, fraction, counts):
        by_variation = {"nominal": {"QCD": counts}, "vincia": {"QCD": counts}}
        point = {"network": "mpm", "mode": "full", "n_labels": n, "signal_fraction": fraction}
        return point | {"edges": np.linspace(0, 1, 51).tolist(), "counts": by_variation}

    falling, rising = list(range(50, 0, -1)), list(range(1, 51))
    points = [(100, 0.5, falling), (1000, 0.1, falling), (1000, 0.5, rising)]
    figure = draw_study_scores({"histograms": [histogram(*point) for point in points]})
    assert len(figure.axes) == 2, "scores, and their ratio to the nominal ones"
    values = figure.axes[0].patches[0].get_data().values
    assert values[0] < values[-1]


@pytest.mark.parametrize("names", ["nominal reseed fsr-up fsr-down vincia", "one with-a-very-long-name-of-its-own"])
@pytest.mark.parametrize("n_classes", [1, 2])
def test_the_legend_of_variations_is_whole_however_narrow_the_figure(names, n_classes, tmp_path):
    by_variation = {name: {f"class {n}": [9] * 50 for n in range(n_classes)} for name in names.split()}
    found = {"network": "mpm", "mode": "full", "n_labels": 9, "signal_fraction": 0, "counts": by_variation}
    figure = draw_study_scores({"histograms": [found | {"edges": np.linspace(0, 1, 51).tolist()}]})
    figure.savefig(tmp_path / "scores.png")
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert [text.get_text() for text in legend.get_texts()] == names.split()
    assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
    assert all(axes.get_window_extent().y1 <= box.y0 for axes in figure.axes)


def test_bins_of_scores_are_as_wide_as_statistics_need():
    few, many = [1_000, *[3] * 48, 1_000], [100] * 50
    edges = np.linspace(0, 1, 51).tolist()
    for counts, n_bins in ((few, 3), (many, 50), ([1] * 50, 2)):
        by_variation = {"nominal": {"QCD": counts}, "vincia": {"QCD": counts}}
        found = {"network": "mpm", "mode": "full", "n_labels": 9, "signal_fraction": 0, "edges": edges}
        figure = draw_study_scores({"histograms": [found | {"counts": by_variation}]})
        values, places, _ = figure.axes[0].patches[0].get_data()
        assert len(values) == n_bins
        assert (places[0], places[-1]) == (0, 1)


def test_a_map_gives_each_of_many_groups_a_panel_and_few_share_one():
    rng = np.random.default_rng(1)
    points, ten, two = rng.normal(size=(400, 2)), np.arange(400) % 10, np.arange(400) % 2
    points[:, 0] += ten
    figure = draw_map(points, (0.3, 0.2), {"class": (list("abcdefghij"), ten), "variation": (["x", "y"], two)})
    *apart, together = figure.axes
    assert [axes.get_title() for axes in apart] == list("abcdefghij")
    medians = [float(axes.collections[-1].get_offsets()[0][0]) for axes in apart]
    np.testing.assert_allclose(medians, [np.median(points[ten == code, 0]) for code in range(10)])
    assert [text.get_text() for text in together.get_legend().get_texts()] == ["x", "y"]


@pytest.mark.parametrize("draw", [draw_roc, draw_confusion, draw_scores])
def test_what_cannot_be_drawn_says_why(draw):
    with pytest.raises(InputError, match="the evaluation"):
        draw({"classes": ["QCD"], "n_jets": 1})


def test_figures_of_another_evaluation_do_not_stay(evaluation, tmp_path):
    (tmp_path / "scores.png").write_bytes(b"old")
    nominal = {name: value for name, value in evaluation.items() if name != "robustness"}
    write_evaluation(nominal, tmp_path)
    assert write_evaluation_figures(tmp_path) == ()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["confusion.png", "evaluation.json", "roc.png"]
