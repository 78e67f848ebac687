"""One training: transformers' Trainer over a stream of batches, in a folder that says where its weights come from.

recipe.toml, training.json      what was asked for; the data, the versions, the precision of products, and which names
                                in the recipe are the Hub's
metrics.jsonl                   a JSON object for everything that was logged
checkpoint-N/                   what a killed training goes on from; the file "whole" in it is written last
config.json, model.safetensors  the finished network
"""

import json
import logging
import math
import os
import platform
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations.integration_utils import TensorBoardCallback
from transformers.trainer_callback import PrinterCallback

from hepfm import __version__
from hepfm.atomic import sync, write_whole
from hepfm.errors import CampaignError, InputError
from hepfm.networks.strict import quiet
from hepfm.run_folder import EVALUATION, METRICS, ORIGIN, RECIPE, append_metrics, read_metrics, write_json
from hepfm.training.batches import Batch
from hepfm.training.best import BEST, BestWeights
from hepfm.training.origin import came_from_hub
from hepfm.training.recipes import Optimisation, write_recipe
from hepfm.training.stream import StepsFrom, Stream

WHOLE = "whole"
_NAMES = re.compile(r'"([^"\s/]+/[^"\s/]+)"')
# What a training would replace or take for its own, and a campaign, which is no place for one.
_NOT_OURS = (
    "campaign.toml",
    "config.json",
    "model.safetensors",
    "README.md",
    EVALUATION,
    METRICS,
    "checkpoint-*",
)
# What the Trainer logs that must be a number.
_FATAL = ("loss", "grad_norm", "train_loss")

_log = logging.getLogger("hepfm.training")

Evaluate = Callable[[PreTrainedModel], Mapping[str, float]]
"""Measures a network that is being trained; it is in evaluation mode."""
Report = Callable[[int, int, Mapping[str, float]], None]
"""Told the step, the number of steps and what was logged last."""


@dataclass(frozen=True)
class Training:
    """What one training is made of.

    Attributes:
        model: whose `forward(**batch)` gives an output with a `loss`.
        stream: of the rank that this process is.
        optimisation: how.
        recipe: the dataclass that all of it came from; it is stored beside the weights.
        data: says which jets they are: name, digest, numbers. It must be the same when a training goes on.
        evaluate: called every `optimisation.evaluate_every` steps and at the end.
        learning_rates: factors for parameters whose name begins so, such as {"backbone.": 0.5}.
        keep_best: name of something that `evaluate` gives: the finished network has the weights of its least value,
            instead of the last ones.
        patience: evaluations without a smaller value, after which training stops early; 0 for never. For a training
            of one process.
        kept: picks the part of the network that is saved when it is finished; by default all of it.
    """

    model: PreTrainedModel
    stream: Stream
    optimisation: Optimisation
    recipe: object
    data: Mapping[str, Any]
    evaluate: Evaluate | None = None
    learning_rates: Mapping[str, float] | None = None
    keep_best: str | None = None
    patience: int = 0
    kept: Callable[[PreTrainedModel], PreTrainedModel] | None = None


def train(training: Training, out: Path, *, report: Report | None = None, tensorboard: bool = False) -> None:
    """Train a network, or go on with a training that was interrupted.

    Args:
        training: what to train, and how.
        out: folder of the run; made if it does not exist. If it holds the same training, that goes on from its last
            checkpoint; a finished one is left as it is.
        report: told how it proceeds.
        tensorboard: whether to write its files, too, to `out/tensorboard`.

    Raises:
        InputError: the loss or a weight became infinite or NaN; nothing of that is saved.
        CampaignError: the folder holds another training, or files that are of none.
        StorageError: a file cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    if is_leader():
        claim(training, out)
    if (out / "model.safetensors").exists():
        return
    wanted = training.optimisation.precision
    if is_leader() and precision(wanted) != wanted:
        _log.warning(
            "This processor has no instructions for %s and would be slower with it: products are in fp32.", wanted
        )
    with quiet():
        trainer = _StreamTrainer(training, _arguments(training.optimisation, out))
        trainer.remove_callback(PrinterCallback)
        best = _best_so_far(training, out)
        trainer.add_callback(_MarkWhole(out))
        trainer.add_callback(_Log(trainer, training, out / METRICS, report, best))
        if tensorboard and is_leader():
            from torch.utils.tensorboard import SummaryWriter

            trainer.add_callback(TensorBoardCallback(SummaryWriter(str(out / "tensorboard"))))
        trainer.train(resume_from_checkpoint=_last_checkpoint(out))
        if is_leader():
            if best is not None:
                best.restore(training.model)
            kept = training.model if training.kept is None else training.kept(training.model)
            _check_finite(out, trainer.state.global_step, kept.state_dict())
            kept.save_pretrained(out)
            (out / BEST).unlink(missing_ok=True)
        if distributed.is_available() and distributed.is_initialized():
            # A process that ends while others still talk to it may take them down.
            distributed.barrier()
            distributed.destroy_process_group()


def is_leader() -> bool:
    """Whether this is the process, of those that train together, that writes files."""
    return rank_and_size()[0] == 0


def rank_and_size() -> tuple[int, int]:
    """Number of this process and of all that `torchrun` started for one training."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def precision(wanted: str) -> str:
    """Precision of products on the processor that trains: bf16 only where there are instructions for it.

    Without them they take 12 times as long as in fp32 (measured: MPM-tiny, forth and back, AVX2).
    """
    if torch.cuda.is_available():
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    elif hasattr(torch.cpu, "get_capabilities"):
        found = torch.cpu.get_capabilities()
        has_bf16 = any(found.get(name) for name in ("amx_bf16", "avx512_bf16", "bf16"))  # Intel, Intel and AMD, ARM
    else:
        has_bf16 = True  # an earlier PyTorch, which does not say
    return wanted if has_bf16 else "fp32"


def _best_so_far(training: Training, out: Path) -> BestWeights | None:
    if training.keep_best is None:
        return None
    key = f"validation_{training.keep_best}"
    # What is no number is null there.
    past = {e["step"]: math.inf if e[key] is None else e[key] for e in read_metrics(out) if key in e}
    return BestWeights(out, training.keep_best, training.patience, past)


def _last_checkpoint(out: Path) -> str | None:
    """The newest checkpoint that is whole."""
    numbered = [(int(p.parent.name.split("-")[1]), p.parent) for p in out.glob(f"checkpoint-*/{WHOLE}")]
    return str(max(numbered)[1]) if numbered else None


def claim(training: Training, out: Path) -> None:
    """Write down what is trained, or compare with what is written there.

    Raises:
        CampaignError: the folder holds another training, or files that are of none.
    """
    recipe = write_recipe(training.recipe)
    origin = json.loads(json.dumps({"data": training.data}))
    if (out / RECIPE).exists() and (out / ORIGIN).exists():
        # Another recipe may well choose other jets: it is the reason, then.
        differs = "data" if json.loads((out / ORIGIN).read_text(encoding="utf-8"))["data"] != origin["data"] else None
        if (out / RECIPE).read_text(encoding="utf-8") != recipe:
            differs = "recipe"
        if differs:
            msg = f"{out}: holds a training with other {differs}. Choose another folder, or delete this one."
            raise CampaignError(msg)
        return
    # A training that was killed before its recipe was written has none of these.
    if strangers := [path.name for name in _NOT_OURS for path in out.glob(name)]:
        msg = f"{out}: holds {strangers[0]}, but no training that was begun there. Choose an empty or a new folder."
        raise CampaignError(msg)
    versions = {"hepfm": __version__, "torch": torch.__version__, "python": platform.python_version()}
    published = sorted(filter(came_from_hub, set(_NAMES.findall(recipe))))
    products = precision(training.optimisation.precision)
    known = {**origin, "versions": versions, "published": published, "precision": products}
    write_json(out / ORIGIN, known)
    write_whole(out / RECIPE, recipe.encode())


def _check_finite(out: Path, step: int, values: Mapping[str, torch.Tensor | float]) -> None:
    """Stop a training that has gone wrong for good.

    Raises:
        InputError: one of the values is infinite or NaN.
    """
    for name, value in values.items():
        if not bool(torch.as_tensor(value).isfinite().all()):
            msg = (
                f"{out}: {name} is no number at step {step}: nothing can come of this training. A learning rate that "
                "is too high does that, or a jet with a huge number. Mend recipe or data, and begin in another folder."
            )
            raise InputError(msg)


class _OneGpu(TrainingArguments):
    """Settings of a process that takes one GPU; `torchrun` starts one for each.

    transformers would have every GPU of the machine take a part of the batch, and the parts of a batch of pairs are the
    first views and the second ones.
    """

    @property
    def n_gpu(self) -> int:
        """Number of GPUs, at most one."""
        return min(1, int(super().n_gpu))


def _arguments(how: Optimisation, out: Path) -> TrainingArguments:
    every = min(10, how.save_every)
    return _OneGpu(
        output_dir=str(out),
        max_steps=how.n_steps,
        learning_rate=how.learning_rate,
        lr_scheduler_type={"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}[how.schedule],
        warmup_steps=how.warmup_steps,
        weight_decay=how.weight_decay,
        max_grad_norm=how.clip,
        bf16=precision(how.precision) == "bf16",
        use_cpu=not torch.cuda.is_available(),
        seed=how.seed,
        save_strategy="steps",
        # Sums of losses between two logs are not in a checkpoint: save where they have just been logged.
        save_steps=max(every, how.save_every // every * every),
        logging_steps=every,
        logging_nan_inf_filter=False,
        save_total_limit=2,
        ignore_data_skip=True,  # the stream begins at the right step by itself
        remove_unused_columns=False,
        report_to=[],
        disable_tqdm=True,
        # Naming it makes accelerate expect several processes.
        ddp_backend=None if rank_and_size()[1] == 1 else "nccl" if torch.cuda.is_available() else "gloo",
        dataloader_pin_memory=torch.cuda.is_available(),
    )


class _StreamTrainer(Trainer):
    """Takes batches from a stream, and learning rates by the names of parameters."""

    def __init__(self, training: Training, arguments: TrainingArguments) -> None:
        self.training = training
        super().__init__(model=training.model, args=arguments, train_dataset=training.stream)

    def get_train_dataloader(self) -> DataLoader[Batch]:
        stream = self.training.stream
        return DataLoader(
            stream,
            batch_size=None,
            sampler=StepsFrom(lambda: self.state.global_step, len(stream)),
            # Of its own, so that beginning to load takes no random number from dropout.
            generator=torch.Generator(),
        )

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            how, factors = self.training.optimisation, self.training.learning_rates or {}
            groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
            for name, parameter in self.training.model.named_parameters():
                if parameter.requires_grad:
                    factor = next((f for start, f in factors.items() if name.startswith(start)), 1.0)
                    # Decay is for matrices: biases, norms and single learned vectors have their own scale.
                    key = how.learning_rate * factor, how.weight_decay if parameter.ndim >= 2 else 0.0
                    groups.setdefault(key, []).append(parameter)
            settings = [{"params": p, "lr": rate, "weight_decay": decay} for (rate, decay), p in groups.items()]
            self.optimizer = torch.optim.AdamW(settings, lr=how.learning_rate)
        return self.optimizer

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:  # noqa: ANN401
        output = model(**inputs)
        return (output.loss, output) if return_outputs else output.loss


class _MarkWhole(TrainerCallback):
    """Marks a checkpoint when its last byte is on the disk: a kill or a power cut may have left a part of one."""

    def __init__(self, out: Path) -> None:
        self._out = out

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **more: Any,  # noqa: ANN401
    ) -> None:
        if distributed.is_available() and distributed.is_initialized():
            distributed.barrier()
        if is_leader():
            folder = self._out / f"checkpoint-{state.global_step}"
            for path in folder.iterdir():
                sync(path)
            write_whole(folder / WHOLE, b"")


class _Log(TrainerCallback):
    """Writes what is logged, and evaluates."""

    def __init__(
        self, trainer: Trainer, training: Training, path: Path, report: Report | None, best: BestWeights | None
    ) -> None:
        self._trainer, self._training, self._path, self._report = trainer, training, path, report
        self._best = best
        self._last: dict[str, float] = {}

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **more: Any,  # noqa: ANN401
    ) -> None:
        values = {k: v for k, v in more.get("logs", {}).items() if isinstance(v, int | float) and k != "epoch"}
        _check_finite(self._path.parent, state.global_step, {k: v for k, v in values.items() if k in _FATAL})
        if not is_leader():
            return
        append_metrics(self._path, {"step": state.global_step, **values})
        self._last |= values
        if self._report is not None:
            self._report(state.global_step, state.max_steps, self._last)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **more: Any,  # noqa: ANN401
    ) -> None:
        every = self._training.optimisation.evaluate_every
        due = state.global_step == state.max_steps or (every and state.global_step % every == 0)
        if due and self._training.evaluate is not None and is_leader():
            model = self._training.model
            model.train(False)
            random_state = torch.get_rng_state()
            with torch.no_grad():
                values = {name: float(value) for name, value in self._training.evaluate(model).items()}
            torch.set_rng_state(random_state)
            model.train()
            found = {f"validation_{name}": value for name, value in values.items()}
            if self._best is not None and self._best.see(model, state.global_step, values):
                control.should_training_stop = True
            # The Trainer takes every log for the one that is due, and would leave out the loss.
            loss_is_due = control.should_log
            self._trainer.log(found)
            control.should_log = loss_is_due
