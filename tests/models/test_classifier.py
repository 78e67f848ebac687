import pytest
import torch
from network_samples import make, random_jets

from hepfm.errors import InputError
from hepfm.models import AutoModelForSequenceClassification, JetBackboneConfig, JetForSequenceClassification

CLASSES = ("QCD", "Hbb", "Tbqq")


def test_a_classifier_begins_with_the_weights_of_its_backbone_and_leaves_them_alone(backbone):
    model = JetForSequenceClassification.from_backbone(backbone, CLASSES)
    for name, weight in backbone.state_dict().items():
        assert torch.equal(model.state_dict()[f"backbone.{name}"], weight)
    before = {name: weight.clone() for name, weight in backbone.state_dict().items()}
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(1.0)

    assert all(torch.equal(weight, before[name]) for name, weight in backbone.state_dict().items())


@pytest.mark.parametrize("head", ["attention", "pooled"])
def test_a_few_steps_learn_what_a_number_of_constituents_tells(backbone, head):
    torch.manual_seed(0)
    counts = torch.tensor([4, 20]).repeat(16)
    jets = random_jets(backbone.config, counts)
    labels = (counts > 10).long()
    model = JetForSequenceClassification.from_backbone(backbone, ["few", "many"], head=head)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(25):
        optimiser.zero_grad()
        model(*jets, labels).loss.backward()
        optimiser.step()

    assert (model.eval()(*jets).logits.argmax(1) == labels).float().mean() > 0.95


def test_numbers_are_estimated_in_the_units_of_the_labels(backbone):
    """Before any training the estimate is the labels' mean, up to what the new head adds."""
    masses = torch.tensor([60.0, 90.0, 120.0, 170.0])
    model = JetForSequenceClassification.from_backbone(backbone, None).eval()
    model.fit_labels(masses)
    jets = random_jets(backbone.config, [12, 9, 7, 5])
    output = model(*jets, masses)

    assert output.logits.shape == (4, 1)
    assert (output.logits - masses.mean()).abs().max() < 3 * masses.std()
    # In units of their width, as the loss is.
    off = (output.logits[:, 0] - masses) / masses.std(correction=0)
    torch.testing.assert_close(output.loss, torch.nn.functional.smooth_l1_loss(off, torch.zeros(4)))


@pytest.mark.parametrize("head", ["attention", "pooled"])
@torch.no_grad()
def test_logits_depend_on_neither_order_nor_padding_nor_batch(backbone, head):
    model = JetForSequenceClassification.from_backbone(backbone, CLASSES, head=head).eval()
    constituents, mask = random_jets(backbone.config, [9, 4, 0])
    padded = torch.cat([constituents, torch.full((3, 6, constituents.shape[2]), torch.nan)], 1)
    longer = torch.cat([mask, mask.new_zeros(3, 6)], 1)
    order = torch.randperm(15, generator=torch.Generator().manual_seed(0))
    expected = model(constituents, mask).logits

    torch.testing.assert_close(model(padded[:, order], longer[:, order]).logits, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model(constituents[1:2], mask[1:2]).logits, expected[1:2], rtol=1e-4, atol=1e-5)
    assert expected.isfinite().all()


@pytest.mark.parametrize("head", ["attention", "pooled"])
@torch.no_grad()
def test_a_classifier_in_bf16_says_about_the_same(backbone, head, tmp_path):
    model = JetForSequenceClassification.from_backbone(backbone, CLASSES, head=head).eval()
    model.save_pretrained(tmp_path)
    short = AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype=torch.bfloat16)
    jets = random_jets(backbone.config, [9, 4, 0])

    assert short.head.output.weight.dtype == torch.bfloat16
    torch.testing.assert_close(short(*jets).logits, model(*jets).logits, rtol=0, atol=0.1)


def test_unknown_kinds_of_problems_are_one_clear_line():
    config = JetBackboneConfig(problem_type="multi_label_classification")
    with pytest.raises(InputError, match="unknown problem_type 'multi_label_classification'"):
        JetForSequenceClassification(config)


def test_settings_of_the_head_are_kept_with_the_weights(tmp_path):
    model = JetForSequenceClassification.from_backbone(
        make("transformer"), CLASSES, head="pooled", head_width=0, head_dropout=0.3, dropout=0.2
    )
    model.save_pretrained(tmp_path)
    config = JetForSequenceClassification.from_pretrained(tmp_path).config

    assert (config.head, config.head_width, config.head_dropout, config.dropout) == ("pooled", 0, 0.3, 0.2)
    assert config.label2id == {"QCD": 0, "Hbb": 1, "Tbqq": 2}
