"""Jets as Awkward arrays, with four-momenta of the `vector` library.

`jets.jet_pt` and `jets.part_px` are the columns. `jets.p4` is the jets' four-momentum, and `jets.particles`
their constituents: four-momenta that also carry the other columns, under their names without `part_`.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from hepfm.errors import InputError
from hepfm.schema import Column, is_constituent
from hepfm.table import JetTable

_RECORD = "HepfmJet"
_PREFIX = "part_"
# Other coordinates of `vector` than px, py, pz and energy; it refuses four-momenta that have more than four.
_OTHER = ("x", "y", "rho", "pt", "phi", "z", "theta", "eta", "t", "E", "e", "tau", "M", "m", "mass")


class _Kinematics:
    """What jets and a single jet have beyond their columns."""

    @property
    def p4(self) -> ak.Array:
        """Four-momentum of the jets, a `Momentum4D` in pt, eta, phi and energy."""
        return self._momentum({name: f"jet_{name}" for name in ("pt", "eta", "phi", "energy")})

    @property
    def particles(self) -> ak.Array:
        """Constituents of the jets, `Momentum4D` in px, py, pz and energy; made without copying values.

        Their pt, mass and so on follow from these four; where a file has a `part_pt` of its own, that stays a column of
        the jets alone.
        """
        columns = {name: f"{_PREFIX}{name}" for name in ("px", "py", "pz", "energy")}
        fields: list[str] = self.fields  # type: ignore[attr-defined]
        others = {name.removeprefix(_PREFIX): name for name in fields if name.startswith(_PREFIX)}
        return self._momentum(columns | {name: others[name] for name in others if name not in _OTHER})

    def _momentum(self, columns: Mapping[str, str]) -> ak.Array:
        # With sympy, which it loads, half of the time that `import hepfm` would take.
        import vector

        vector.register_awkward()
        fields = self.fields  # type: ignore[attr-defined]
        if missing := [name for name in columns.values() if name not in fields]:
            msg = f"the four-momentum needs the columns {', '.join(missing)}, which were not read"
            raise InputError(msg)
        values = {field: self[name] for field, name in columns.items()}  # type: ignore[index]
        return ak.zip(values, with_name="Momentum4D")


class JetArray(_Kinematics, ak.Array):
    """An array of jets."""


class JetRecord(_Kinematics, ak.Record):
    """One jet."""


ak.behavior["*", _RECORD] = JetArray
ak.behavior[_RECORD] = JetRecord


def to_awkward(table: JetTable) -> ak.Array:
    """Present a table as an Awkward array of jets; numbers are shared with the table, not copied."""
    arrays = {**table.columns, **table.constituents}
    buffers = _Buffers(arrays.__getitem__, lambda: table.offsets)
    return buffers.assemble(
        table.n_jets,
        {name: values.dtype for name, values in arrays.items()},
        ragged=table.constituents,
        lazy=False,
    )


def lazy_jets(
    n_jets: int,
    columns: Iterable[Column],
    load: Callable[[str], NDArray[Any]],
    load_offsets: Callable[[], NDArray[np.int64]],
) -> ak.Array:
    """Present jets whose columns are loaded when they are first used.

    Args:
        n_jets: number of jets.
        columns: those that there are.
        load: gives the values of a column by its name.
        load_offsets: gives the constituents' offsets, shape (n_jets + 1,).
    """
    dtypes = {c.name: np.dtype("U1" if c.dtype == "str" else c.dtype) for c in columns}
    return _Buffers(load, load_offsets).assemble(n_jets, dtypes, ragged=set(filter(is_constituent, dtypes)), lazy=True)


class _Buffers:
    """Gives Awkward the buffers of jets by the keys that it makes from the form."""

    def __init__(self, load: Callable[[str], NDArray[Any]], load_offsets: Callable[[], NDArray[np.int64]]) -> None:
        self._load = load
        self._load_offsets = load_offsets
        self._kept: dict[str, NDArray[Any]] = {}

    def assemble(
        self, n_jets: int, dtypes: Mapping[str, np.dtype[Any]], ragged: Collection[str], *, lazy: bool
    ) -> ak.Array:
        forms = []
        getters: dict[str, Callable[[], NDArray[Any]]] = {}
        for name, dtype in dtypes.items():
            if dtype.kind == "U":
                forms.append(_string_form(name))
                getters[f"{name}-offsets"] = partial(self._text, name, 0)
                getters[f"{name}.text-data"] = partial(self._text, name, 1)
                continue
            form = ak.forms.NumpyForm(dtype.name, form_key=name)
            getters[f"{name}-data"] = partial(self._load, name)
            if name in ragged:
                form = ak.forms.ListOffsetForm("i64", form, form_key="constituents")
                getters["constituents-offsets"] = self._offsets
            forms.append(form)
        form = ak.forms.RecordForm(forms, list(dtypes), parameters={"__record__": _RECORD})
        container = getters if lazy else {key: get() for key, get in getters.items()}
        return ak.from_buffers(form, n_jets, container)

    def _offsets(self) -> NDArray[np.int64]:
        # Every ragged column asks for them.
        if "offsets" not in self._kept:
            self._kept["offsets"] = self._load_offsets()
        return self._kept["offsets"]

    def _text(self, name: str, part: int) -> NDArray[Any]:
        # Asked for twice, once for each of the two buffers of a text column: 0 offsets, 1 letters.
        keys = (f"{name}-offsets", f"{name}-letters")
        if keys[0] not in self._kept:
            self._kept.update(zip(keys, _ragged_text(self._load(name)), strict=True))
        return self._kept[keys[part]]


def _string_form(name: str) -> ak.forms.Form:
    letters = ak.forms.NumpyForm("uint8", form_key=f"{name}.text", parameters={"__array__": "char"})
    return ak.forms.ListOffsetForm("i64", letters, form_key=name, parameters={"__array__": "string"})


def _ragged_text(values: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Offsets and letters of words, in UTF-8 as Awkward wants them."""
    encoded = np.char.encode(values, "utf-8")
    width, lengths = max(1, encoded.dtype.itemsize), np.char.str_len(encoded)
    letters = encoded.astype(f"S{width}").view(np.uint8).reshape(len(values), width)
    offsets = np.zeros(len(values) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets, letters[np.arange(width) < lengths[:, np.newaxis]]
