"""What studies found, for the card of a network: those that lie in its run's folder, as RUN/studies/NAME."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from hepfm.atomic import write_whole
from hepfm.hub import is_repo_id
from hepfm.run_folder import read_object
from hepfm.zoo import OWNER

FOLDER = "studies"
_PICTURES = {"study.png": "what labels are worth", "scores.png": "scores under each variation"}
_OPTIONS = {
    "data": "data",
    "columns": "columns",
    "column": "label",
    "labels": "labels",
    "validation_share": "validation-share",
    "classes": "classes",
    "modes": "modes",
    "n_seeds": "seeds",
    "signal_fractions": "fractions",
    "test_data": "test-data",
    "split": "split",
    "variations": "variations",
    "n_test": "n-test",
    "n_epochs": "epochs",
    "learning_rate": "learning-rate",
    "backbone_rate": "backbone-rate",
    "precision": "precision",
}


def study_sections(folder: Path, recorded: Collection[str] = (), repo: str = "") -> list[str]:
    """A part of the card for each study of a run, in the order of their names.

    Their pictures are copied beside the card, where whoever publishes it finds them.

    Args:
        folder: of the run.
        recorded: see `is_published`.
        repo: the run's name on the Hub, under which a study of it is shown.

    Raises:
        InputError: a study's file is damaged.
        StorageError: a picture cannot be written.
    """
    parts = []
    for path in sorted(folder.glob(f"{FOLDER}/*/study.json")):
        found, table = read_object(path), path.with_name("study.md")
        if found is None or not table.exists():
            continue
        name, test = path.parent.name, found["test"]
        known = {*recorded, *[test["name"]] * test.get("published", False)}
        study = found["study"]
        if is_repo_id(repo):
            ours = [repo if Path(checkpoint).name == folder.name else checkpoint for checkpoint in study["checkpoints"]]
            study, known = {**study, "checkpoints": ours}, {*known, repo}
        text = f"### {name.replace('-', ' ').capitalize()}\n\n```bash\n{study_command(study, known)}\n```\n\n"
        text += table.read_text(encoding="utf-8")
        text += (
            "\n± is the standard deviation over the runs, each with other labelled jets and other new weights. All were"
            f" tested on the same jets, of {shown_name(test['name'], known)} (split: {test['split']}).\n"
        )
        # A curve of one point says nothing that the table does not.
        points = {(row["n_labels"], row["signal_fraction"]) for row in found["rows"]}
        for picture, what in _PICTURES.items():
            if (source := path.with_name(picture)).exists() and (picture != "study.png" or len(points) > 1):
                write_whole(folder / f"{name}-{picture}", source.read_bytes())
                text += f"\n![{what}]({name}-{picture})\n"
        parts.append(text)
    return parts


def study_command(study: Mapping[str, Any], recorded: Collection[str] = ()) -> str:
    """The command that makes a study, every setting written out; paths without the folders that they lie in."""
    words = ["hepfm-data study labels", *(shown_name(name, recorded) for name in study["checkpoints"])]
    for setting, option in _OPTIONS.items():
        value = study.get(setting)  # a study of before has no setting that is new
        if value:
            listed = isinstance(value, list | tuple)
            words.append(f"--{option} {','.join(map(str, value)) if listed else shown_name(str(value), recorded)}")
    return " ".join([*words, *["--allow-missing"] * study["allow_missing"]])


def shown_name(name: str, recorded: Collection[str] = ()) -> str:
    """A name of the Hub, or the last part of a path: where files lay on another machine is nobody's business."""
    return name if is_published(name, recorded) else Path(name).name


def is_published(name: str, recorded: Collection[str] = ()) -> bool:
    """Whether a name is one of the Hub, and not a path, which may look the same.

    Args:
        name: of data or of a network.
        recorded: names that were the Hub's when the run used them. Of others hepfm's own alone count: a path must not
            become what a stranger has published.
    """
    return name in recorded or (name.startswith(OWNER) and is_repo_id(name) and not Path(name).exists())
