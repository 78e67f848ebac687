import pytest

from hepfm.errors import InputError
from hepfm.tokenizers import TokenizerConfig, TokenizerSettings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"inputs": ("part_deta", "part_pt", "part_dphi")}, "expected inputs that begin with part_pt"),
        ({"inputs": ("part_pt", "part_deta", "part_phi")}, "unknown input of a network 'part_phi'"),
        ({"inputs": ("part_pt", "part_deta", "part_dphi", "part_isMuon")}, "all of part_isChargedHadron.*or none"),
        ({"inputs": ("part_pt", "part_deta", "part_dphi", "part_d0val")}, "expected part_charge among inputs"),
        ({"n_codes": 1}, "n_codes from 2"),
        ({"n_codes": 2**30}, "n_codes from 2"),
        ({"n_codes": 512.0}, "n_codes must be of type int"),
        ({"n_codes": True}, "n_codes must be of type int"),
        ({"quantiser": "fsq", "levels": (8, 8)}, "levels with product 512"),
        ({"quantiser": "fsq", "levels": (2, 16, 16)}, "at least 3 levels"),
        ({"levels": (8, 8, 8)}, "levels with the quantiser fsq only"),
        ({"quantiser": "residual"}, "at least 2 stages"),
        ({"quantiser": "residual", "stages": 2}, "n_codes that is a power 2"),
        ({"stages": 2, "n_codes": 256}, "1 stage unless residual"),
        ({"context": "none"}, "kmeans with context none"),
        ({"context": "event"}, "unknown context of a tokenizer 'event'"),
        ({"quantiser": "fsqq"}, "unknown quantiser of a tokenizer 'fsqq'.*Did you mean 'fsq'"),
        ({"weights": (1.0,)}, "3 weights, or none"),
        ({"weights": (1.0, 0.0, 1.0)}, "positive weights"),
        ({"weights": (1.0, float("nan"), 1.0)}, "weights must be of type float"),
        ({"width": 60, "heads": 8}, "multiple of 8 heads"),
        ({"decay": 1.0}, "a decay from 0 to 1"),
        ({"latent": 2}, "at least 3 latent dimensions"),
    ],
)
def test_settings_that_do_not_go_together_are_one_clear_line(settings, message):
    with pytest.raises(InputError, match=message):
        TokenizerSettings(**settings)


def test_a_config_holds_its_settings_through_json(tmp_path):
    settings = TokenizerSettings(quantiser="fsq", levels=(8, 8, 8), weights=(1.5, 1.0, 1.0))
    TokenizerConfig(settings).save_pretrained(tmp_path)

    assert TokenizerConfig.from_pretrained(tmp_path).typed_settings() == settings
    assert TokenizerConfig(settings).inputs == ("part_pt", "part_deta", "part_dphi")


def test_unknown_settings_of_a_config_are_one_clear_line():
    with pytest.raises(InputError, match=r"unknown setting of a tokenizer 'n_code'.*Did you mean 'n_codes'"):
        TokenizerConfig({"n_code": 3})


def test_residual_codes_share_the_ids_among_stages():
    assert TokenizerSettings(quantiser="residual", stages=2, n_codes=16384).stage_codes == 128
    assert TokenizerSettings(quantiser="residual", stages=3, n_codes=10**6).stage_codes == 100
