"""Variations: what can be asked for, and in which words."""

import re
from pathlib import Path

import pytest

from hepfm.errors import InputError
from hepfm.resim.generator import Beams, EventFeed, make_pythia
from hepfm.resim.variations import N_DEFAULT, VARIATIONS, Variation, resolve_variations

DEFAULT = (
    "nominal",
    "reseed",
    "fsr-up",
    "fsr-down",
    "hadronisation",
    "cp5",
    "colour-reconnection",
    "vincia",
)


def names(request: str) -> tuple[str, ...]:
    return tuple(v.name for v in resolve_variations(request))


def refusal(request: str) -> str:
    with pytest.raises(InputError) as raised:
        resolve_variations(request)
    message = str(raised.value)
    assert "\n" not in message
    return message


def toml(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("n", range(1, 9))
def test_number_takes_the_first_of_the_default_list(n: int) -> None:
    assert names(str(n)) == DEFAULT[:n]


def test_catalogue_holds_the_default_list_first_and_the_rest_that_the_design_names() -> None:
    assert len(DEFAULT) == N_DEFAULT
    assert tuple(VARIATIONS)[:N_DEFAULT] == DEFAULT
    assert {"isr-up", "isr-down", "mpi-off", "a14", "rs3l-fsr-hi", "rs3l-fsr-lo"} <= VARIATIONS.keys()


def test_every_variation_says_what_it_is_and_has_settings_of_its_own() -> None:
    assert all(v.description for v in VARIATIONS.values())
    settings = [v.settings for v in VARIATIONS.values() if v.is_independent and v.name not in ("nominal", "reseed")]
    assert all(settings)
    assert len(set(settings)) == len(settings)
    assert VARIATIONS["nominal"].settings == VARIATIONS["reseed"].settings == ()


def test_renormalisation_factors_shift_the_scale_as_documented() -> None:
    # renormMultFac multiplies pT², the square of the scale.
    factor = {
        name: float(VARIATIONS[name].settings[-1].partition("=")[2])
        for name in ("fsr-up", "fsr-down", "isr-up", "isr-down", "rs3l-fsr-hi", "rs3l-fsr-lo")
    }
    assert factor["fsr-up"] == factor["isr-up"] == 0.5
    assert factor["fsr-down"] == factor["isr-down"] == 2.0
    assert (factor["rs3l-fsr-hi"], factor["rs3l-fsr-lo"]) == (0.707, 1.414)


def test_vincia_has_the_tune_that_pythia_ships_for_it() -> None:
    pythia = make_pythia(VARIATIONS["vincia"].settings, EventFeed(Beams()))
    book = pythia.settings
    tune = Path(book.word("xmlPath")).parent / "tunes" / "VinciaDefault.cmnd"
    values = re.findall(r"^(\w+:\w+)\s*=\s*([\d.]+)\s*$", tune.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(values) > 25
    for name, value in values:
        assert (book.parm(name) if book.isParm(name) else book.mode(name)) == float(value), name


@pytest.mark.parametrize("name", list(VARIATIONS))
def test_every_name_of_the_catalogue_can_be_asked_for(name: str) -> None:
    assert resolve_variations(name) == (VARIATIONS[name],)


def test_names_keep_the_order_asked_for_and_mind_no_spaces() -> None:
    assert names("vincia, nominal ,mpi-off") == ("vincia", "nominal", "mpi-off")


def test_numbers_names_and_files_can_be_mixed(tmp_path: Path) -> None:
    own = toml(tmp_path / "mine.toml", '[[variation]]\nname = "my-tune"\nsettings = ["StringZ:aLund = 0.5"]')
    assert names(f"2,mpi-off,{own}") == ("nominal", "reseed", "mpi-off", "my-tune")


def test_own_file_gives_its_variations_in_its_order(tmp_path: Path) -> None:
    path = toml(
        tmp_path / "mine.toml",
        """
        [[variation]]
        name = "second-first"
        settings = ["StringZ:aLund = 0.5", "StringZ:bLund = 0.9"]
        description = "harder"
        citation = "us"
        freeze = "hard"
        [[variation]]
        name = "plain"
        """,
    )
    assert resolve_variations(path) == (
        Variation("second-first", ("StringZ:aLund = 0.5", "StringZ:bLund = 0.9"), description="harder", citation="us"),
        Variation("plain"),
    )


@pytest.mark.parametrize(
    ("request_", "meant"),
    [("fsrup", "fsr-up"), ("Nominal", "nominal"), ("vinca", "vincia"), ("color-reconnection", "colour-reconnection")],
)
def test_unknown_name_is_refused_with_the_one_that_was_meant(request_: str, meant: str) -> None:
    message = refusal(f"nominal,{request_}")
    assert f"unknown variation '{request_}'" in message
    assert f"Did you mean '{meant}'?" in message
    assert "hepfm-data list variations" in message


@pytest.mark.parametrize("request_", ["", " ", "nominal,", ",", "pythia9", "1e6", "nan", "nominal;reseed", "³"])
def test_words_that_are_no_variation_are_refused(request_: str) -> None:
    assert "variation" in refusal(request_)


@pytest.mark.parametrize("number", ["0", "9", "-1", "1.5", "+3", "100000000000000000000", "-0"])
def test_number_out_of_range_is_refused(number: str) -> None:
    assert f"{number} variations: expected a whole number from 1 to 8" in refusal(number)


@pytest.mark.parametrize("request_", ["nominal,nominal", "3,fsr-up", "2,1"])
def test_variation_asked_for_twice_is_refused(request_: str) -> None:
    assert "asked for twice" in refusal(request_)


def test_own_variation_of_a_name_in_use_is_refused_beside_it(tmp_path: Path) -> None:
    own = toml(tmp_path / "mine.toml", '[[variation]]\nname = "nominal"\nsettings = ["StringZ:aLund = 0.5"]')
    assert names(own) == ("nominal",)
    assert "'nominal' is asked for twice" in refusal(f"1,{own}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "at least one [[variation]]"),
        ("variation = []", "at least one [[variation]]"),
        ("variation = 3", "at least one [[variation]]"),
        ("[variation]\nname = 'a'", "at least one [[variation]]"),
        ("[[variations]]\nname = 'a'", "at least one [[variation]]"),
        ("variation = [1, 2]", "variation"),
        ("[[variation]]\nsettings = []", "no name"),
        ("[[variation]]\nname = 3", "'name' of a variation should be a str, not 3"),
        ("[[variation]]\nname = 'a'\nsettings = 'StringZ:aLund = 0.5'", "should be a list"),
        ("[[variation]]\nname = 'a'\nsettings = [0.5]", "should be strings"),
        ("[[variation]]\nname = 'a'\nsetings = []", "Did you mean 'settings'?"),
        ("[[variation]]\nname = 'a'\nfreeze = 'hrad'", "Did you mean 'hard'?"),
        ("[[variation]]\nname = 'a'\nfreeze = 'shower'\nexternal = 'x {lhe} {hepmc}'", "takes no Pythia settings"),
        ("[[variation]]\nname = 'a'\nsettings = ['a = 1']\nhepmc = 'folder'", "takes no Pythia settings"),
        ("[[variation]]\nname = 'a", "is not TOML"),
        ("[[variation]]\nname = 'Upper'", "lower-case letters, digits and hyphens"),
    ],
)
def test_wrong_file_of_ones_own_is_one_clear_error_that_names_it(tmp_path: Path, text: str, said: str) -> None:
    path = toml(tmp_path / "mine.toml", text)
    message = refusal(path)
    assert said in message
    assert path in message


def test_file_that_cannot_be_read_is_one_clear_error(tmp_path: Path) -> None:
    assert "cannot read" in refusal(str(tmp_path / "none.toml"))
    (tmp_path / "folder.toml").mkdir()
    assert "cannot read" in refusal(str(tmp_path / "folder.toml"))
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    assert "is not TOML" in refusal(str(tmp_path / "binary.toml"))


@pytest.mark.parametrize("name", ["", "Nominal", "a b", "a/b", "../a", "a_b", "-a", "ä", "a\n"])
def test_name_that_would_not_do_as_a_folder_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=re.escape("expected lower-case letters, digits and hyphens")):
        Variation(name)


@pytest.mark.parametrize(
    ("name", "why"),
    [("all", "stands for all variations together"), ("freeze", "its random numbers are those of frozen decays")],
)
def test_names_that_are_taken_are_refused(name: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        Variation(name)
