"""hepfm: freeze a collision, re-simulate the rest, publish the views, pre-train on them."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hepfm.dataset import Dataset
    from hepfm.opening import open

__version__ = "0.1.0"

__all__ = ["Dataset", "__version__", "open"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module's attributes have no common type
    """Import what reads data only when it is used, so that `import hepfm` stays fast."""
    if name == "Dataset":
        from hepfm.dataset import Dataset

        return Dataset
    if name == "open":
        from hepfm.opening import open

        return open
    msg = f"module 'hepfm' has no attribute {name!r}"
    raise AttributeError(msg, name=name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
