"""Loading without surprises: every weight in its place, from a file that cannot run code."""

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import logging

from hepfm.errors import InputError

CONFIG, WEIGHTS, ADAPTER = "config.json", "model.safetensors", "adapter_config.json"

_MOST_CONFIG_BYTES = 10_000_000
# What would make transformers fetch or run something else than these two files.
_FORBIDDEN = (
    "auto_map",
    "transformers_weights",
    "quantization_config",
    "custom_pipelines",
    "base_model_name_or_path",
    "_attn_implementation",
    "attn_implementation",
    "_experts_implementation",
    "experts_implementation",
)
# Settings of `from_pretrained` that would undo what strict loading promises.
_REFUSED = {
    "trust_remote_code": "no network of hepfm needs code of its own",
    "ignore_mismatched_sizes": "weights load only where they fit",
    "key_mapping": "weights load under their own names",
    "quantization_config": "quantised weights are not supported",
    "attn_implementation": "attention is hepfm's own",
    "use_kernels": "no network of hepfm needs code of its own",
    "kernel_config": "no network of hepfm needs code of its own",
    "gguf_file": "weights come from safetensors only",
    "state_dict": "use load_state_dict",
    "variant": f"weights come from {WEIGHTS} only",
}


def check_folder(folder: Path, model_types: tuple[str, ...]) -> dict[str, Any]:
    """Check the files of a network before anything is made of them.

    Args:
        folder: with config.json and model.safetensors.
        model_types: kinds of networks that will do.

    Returns:
        The configuration.

    Raises:
        InputError: a file is missing, damaged, of another kind of network, or asks for code.
    """
    path = folder / CONFIG
    if not path.is_file():
        msg = f"{folder}: no {CONFIG}; expected a folder that save_pretrained or `hepfm-data pretrain` has written."
        raise InputError(msg)
    if path.stat().st_size > _MOST_CONFIG_BYTES:
        msg = f"{path}: has {path.stat().st_size:,} bytes, which no configuration has."
        raise InputError(msg)
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        msg = f"{path}: is not JSON ({type(error).__name__}). Get the file again."
        raise InputError(msg) from error
    if not isinstance(config, dict):
        msg = f"{path}: expected a JSON object, got {type(config).__name__}."
        raise InputError(msg)
    for key in _FORBIDDEN:
        if config.get(key):
            msg = f"{path}: has {key!r}, which makes a loader run or fetch something else. hepfm does not load it."
            raise InputError(msg)
    if config.get("model_type") not in model_types:
        msg = (
            f"{path}: describes a network of type {config.get('model_type')!r}; expected {' or '.join(model_types)}. "
            "`hepfm-data list models` says what each of the package's is."
        )
        raise InputError(msg)
    if (folder / ADAPTER).exists():
        msg = (
            f"{folder / ADAPTER}: makes a loader fetch another network. hepfm does not load adapters; delete the file."
        )
        raise InputError(msg)
    _check_weights(folder)
    return config


def _check_weights(folder: Path) -> None:
    path = folder / WEIGHTS
    if not path.is_file():
        others = sorted(p.name for p in folder.glob("*") if p.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl"))
        found = f" {others[0]} is not opened: such files can run code." if others else ""
        msg = f"{folder}: no {WEIGHTS}.{found} Save the network with save_pretrained of a recent transformers."
        raise InputError(msg)
    n_bytes = path.stat().st_size
    try:
        with safe_open(path, framework="pt") as file:
            wanted = sum(_n_bytes(file.get_slice(name)) for name in file.keys())  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        msg = f"{path}: is no whole safetensors file ({str(error).splitlines()[0]}). Get the file again."
        raise InputError(msg) from error
    if wanted > n_bytes:
        msg = f"{path}: promises {wanted:,} bytes of weights and has {n_bytes:,}. Get the file again."
        raise InputError(msg)


def _n_bytes(entry: Any) -> int:  # noqa: ANN401
    bits = {"F64": 64, "I64": 64, "F32": 32, "I32": 32, "F16": 16, "BF16": 16, "I16": 16}.get(entry.get_dtype(), 8)
    size: int = math.prod(entry.get_shape())
    return size * bits // 8


class StrictModel(PreTrainedModel):
    """A network of hepfm: loads from safetensors only, and only if every weight is there and fits."""

    base_model_prefix = "backbone"
    main_input_name = "constituents"
    _no_split_modules = ["Block"]  # noqa: RUF012 (transformers declares it for instances)

    @torch.no_grad()
    def _init_weights(self, module: torch.nn.Module) -> None:
        """Leave weights as the layers made them; no weight that is loaded is ever missing."""

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *args: Any,  # noqa: ANN401
        **kwargs: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Load a network; arguments as of `transformers.PreTrainedModel.from_pretrained`.

        Raises:
            InputError: a file is missing, damaged or of another network; a weight is missing, unexpected, not a
                number or of another shape; or a setting asks for less than that.
            StorageError: the Hub cannot be reached.
        """
        from hepfm.networks.locate import locate

        for name, reason in _REFUSED.items():
            if kwargs.pop(name, None):
                msg = f"{pretrained_model_name_or_path}: {name} is refused: {reason}. Leave it out."
                raise InputError(msg)
        kwargs.pop("use_safetensors", None)
        folder = locate(pretrained_model_name_or_path, kwargs)
        config = kwargs.pop("config", None)
        if not isinstance(config, PretrainedConfig):
            kind = cls.config_class or PretrainedConfig
            check_folder(folder, (kind.model_type,))
            try:
                config = kind.from_pretrained(folder)
            except (TypeError, ValueError, AttributeError) as error:
                msg = f"{folder / CONFIG}: describes no network ({' '.join(str(error).split())}). Get the file again."
                raise InputError(msg) from error
        check_folder(folder, (config.model_type,))
        cls._check_fit(config, folder)
        try:
            with quiet():
                loaded = super().from_pretrained(folder, *args, config=config, use_safetensors=True, **kwargs)
        except (ValueError, TypeError, AttributeError, ImportError, RuntimeError, OSError) as error:
            msg = (
                f"{folder}: cannot be loaded ({' '.join(str(error).split())[:200]}). Get {CONFIG} and {WEIGHTS} again."
            )
            raise InputError(msg) from error
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        check_numbers(folder, model.state_dict())
        _own_memory(model)
        return loaded

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Write config.json and model.safetensors; arguments as of `transformers.PreTrainedModel.save_pretrained`."""
        with quiet():
            return super().save_pretrained(save_directory, *args, **kwargs)

    @classmethod
    def _check_fit(cls, config: PretrainedConfig, folder: Path) -> None:
        """Compare the file's weights with the network's, before any of them is read."""
        with torch.device("meta"):
            wanted = {name: list(tensor.shape) for name, tensor in cls(config).state_dict().items()}
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            found = {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        _check_no_tagger(folder, config, wanted, found)
        check_weights(folder / WEIGHTS, wanted, found, _what_to_do)


def check_weights(
    path: Path,
    wanted: Mapping[str, Sequence[int]],
    found: Mapping[str, Sequence[int]],
    advice: Callable[[Iterable[str]], str],
) -> None:
    """Compare the weights of a file with those of a network.

    Args:
        path: of the file.
        wanted: names and shapes of the network's weights.
        found: of the file's.
        advice: what to do, by the names that only one of the two has.

    Raises:
        InputError: a weight is missing, unexpected, or of another shape.
    """
    for kind, names in (
        ("lacks", wanted.keys() - found.keys()),
        ("has an unexpected", found.keys() - wanted.keys()),
    ):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            msg = f"{path}: {kind} weight {min(names)!r}{more}. {advice(wanted.keys() ^ found.keys())}"
            raise InputError(msg)
    for name, shape in wanted.items():
        if found[name] != shape:
            msg = f"{path}: weight {name!r} has shape {found[name]}, expected {shape}. {advice(())}"
            raise InputError(msg)


def check_numbers(place: Path, weights: Mapping[str, torch.Tensor]) -> None:
    """Refuse weights that are NaN or infinite.

    Raises:
        InputError: one of them is.
    """
    for name, tensor in weights.items():
        if not bool(tensor.isfinite().all()):
            msg = f"{place}: weight {name!r} has values that are no numbers (NaN or infinite). Get the file again."
            raise InputError(msg)


def _own_memory(model: torch.nn.Module) -> None:
    """Move weights out of their file's pages: it may change, and rounding depends on where in memory they begin."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.device.type == "cpu":
            tensor.data = tensor.data.clone()


def _check_no_tagger(folder: Path, config: PretrainedConfig, wanted: Iterable[str], found: Iterable[str]) -> None:
    """Refuse a tagger of `hepfm-data finetune` where a backbone is asked for.

    Raises:
        InputError: it is one.
    """
    has_head, wants_head = (any(name.startswith("head.") for name in names) for names in (found, wanted))
    how = getattr(config, "finetuning", None)
    if has_head and not wants_head and isinstance(how, dict) and how.get("checkpoint"):
        msg = f"{folder}: is a tagger already; give the backbone that it was made from ({how['checkpoint']})."
        raise InputError(msg)


def _what_to_do(names: Iterable[str]) -> str:
    if any(name.startswith("head.") for name in names):
        return (
            "A classifier loads with AutoModelForSequenceClassification and a backbone with AutoModel; "
            "`hepfm-data finetune` makes the one of the other."
        )
    return f"{WEIGHTS} and {CONFIG} are not of the same network: get both again."


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from drawing bars: networks of jets are read and written in a moment."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
