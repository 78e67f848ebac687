"""The catalogue of hard processes and its presets."""

import pytest

from hepfm.errors import InputError
from hepfm.resim.processes import FILES, PRESETS, PROCESSES, resolve_processes
from hepfm.schema import JET_CLASSES


def test_catalogue_is_the_ten_classes_of_jetclass() -> None:
    assert tuple(PROCESSES) == JET_CLASSES
    assert all(process.label == name for name, process in PROCESSES.items())


def test_every_process_says_what_it_is_and_cites_its_source() -> None:
    for process in PROCESSES.values():
        assert process.description
        assert "arXiv:" in process.citation
        assert process.settings


def test_only_top_quarks_come_in_pairs() -> None:
    assert {name for name, p in PROCESSES.items() if p.n_targets == 2} == {"Tbqq", "Tbl"}
    assert all(p.n_targets in (1, 2) for p in PROCESSES.values())


def test_default_preset_is_rs3l_and_is_higgs_against_qcd() -> None:
    assert next(iter(PRESETS)) == "rs3l"
    processes, preset = resolve_processes("rs3l")
    assert {p.name for p in processes} == {"Hbb", "QCD"}
    assert preset.selection.pt_min == 400.0
    assert preset.selection.abs_eta_max == 2.5
    assert preset.selection.candidate_pt_min == 1.0
    assert preset.match_radius == 0.5


def test_jetclass_preset_is_the_ten_classes_in_the_published_phase_space() -> None:
    processes, preset = resolve_processes("jetclass")
    assert tuple(p.name for p in processes) == JET_CLASSES
    assert (preset.selection.pt_min, preset.selection.pt_max) == (500.0, 1000.0)
    assert preset.selection.abs_eta_max == 2.0
    assert preset.match_radius == 0.8


@pytest.mark.parametrize("preset", list(PRESETS.values()), ids=list(PRESETS))
def test_presets_name_processes_of_the_catalogue_and_start_below_their_jets(preset) -> None:
    assert set(preset.processes) <= PROCESSES.keys()
    assert 0 < preset.pt_hat_min < preset.selection.pt_min
    assert preset.selection.radius == 0.8
    assert (preset.selection.soft_drop_zcut, preset.selection.soft_drop_beta) == (0.1, 0.0)
    assert preset.description
    assert "arXiv:" in preset.citation


def test_files_keep_nearly_every_jet() -> None:
    assert FILES.selection.pt_min <= 20.0
    assert FILES.processes == ()


def test_names_come_in_the_order_asked_for_with_the_default_phase_space() -> None:
    processes, preset = resolve_processes("Tbl, QCD,H4q")
    assert tuple(p.name for p in processes) == ("Tbl", "QCD", "H4q")
    assert preset == PRESETS["rs3l"]


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ("Hbbb", "Did you mean 'Hbb'?"),
        ("hbb", "unknown process 'hbb'"),
        ("jetclas", "Did you mean 'jetclass'?"),
        ("QCD,rs3l", "Give it alone."),
        ("", "unknown process ''"),
        ("QCD,", "unknown process ''"),
        ("QCD,Hbb,QCD", "named twice"),
    ],
)
def test_request_that_cannot_be_met_is_one_clear_error(request_: str, said: str) -> None:
    with pytest.raises(InputError) as raised:
        resolve_processes(request_)
    message = str(raised.value)
    assert said in message
    assert "\n" not in message


def test_unknown_process_names_those_there_are() -> None:
    with pytest.raises(InputError) as raised:
        resolve_processes("Zmumu")
    assert all(name in str(raised.value) for name in (*PROCESSES, *PRESETS))
