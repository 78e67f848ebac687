import numpy as np
import pytest
import torch
from network_samples import make, random_jets

from hepfm.errors import InputError
from hepfm.models import JetBackbone, JetBackboneConfig
from hepfm.models.mpm import JET_TARGETS, NOT_ASKED, SIGNIFICANCES, MaskedJetModel, MaskedModelling

N_CODES = 16
FORMS = ["head", "encoder"]
COUNTS = [20, 13, 7, 2]


def masked_model(form, targets=("codes", "type", "inputs"), **how):
    backbone = make("transformer")
    torch.manual_seed(5)
    return MaskedJetModel(backbone, MaskedModelling(mask_in=form, targets=targets, **how), N_CODES).eval()


def batch_of(model, seed=0):
    """A third of each jet hidden, as `hepfm.training.masking` arranges it."""
    constituents, mask = random_jets(model.config, COUNTS, seed)
    rng = np.random.default_rng(seed)
    counts, hidden = np.asarray(COUNTS), np.maximum(np.asarray(COUNTS) // 3, 1)
    order = torch.from_numpy(np.stack([_order(c, h, mask.shape[1], rng) for c, h in zip(counts, hidden, strict=True)]))
    n_visible, n_hidden = int((counts - hidden).max()), int(hidden.max())
    places = torch.from_numpy(np.minimum((counts - hidden)[:, None] + np.arange(n_hidden), mask.shape[1] - 1))
    shown, sought = order[:, :n_visible], order.gather(1, places)
    take = lambda places: constituents.gather(1, places.unsqueeze(-1).expand(-1, -1, constituents.shape[-1]))  # noqa: E731
    return {
        "constituents": take(shown),
        "mask": torch.arange(n_visible) < torch.from_numpy(counts - hidden)[:, None],
        "ranks": shown,
        "hidden_mask": torch.arange(n_hidden) < torch.from_numpy(hidden)[:, None],
        "hidden_ranks": sought,
        "hidden_codes": torch.from_numpy(rng.integers(0, N_CODES, sought.shape)),
        "hidden_types": torch.from_numpy(rng.integers(0, 5, sought.shape)),
        "hidden_constituents": take(sought),
        "hidden_displacements": torch.from_numpy(rng.integers(0, len(SIGNIFICANCES) + 1, sought.shape)),
        "jet": torch.from_numpy(rng.standard_normal((len(COUNTS), len(JET_TARGETS)), np.float32)),
    }


def _order(count, hidden, length, rng):
    chosen = np.sort(rng.permutation(count)[:hidden])
    return np.concatenate([np.setdiff1d(np.arange(count), chosen), chosen, np.arange(count, length)])


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_what_is_hidden_never_reaches_a_prediction(form):
    """Change the hidden constituents: the encoder's output and all predictions stay the same, to the last bit."""
    model = masked_model(form)
    batch = batch_of(model)
    before = model(**batch)
    other = batch | {
        "hidden_constituents": batch["hidden_constituents"] * 7 + 1,
        "hidden_codes": (batch["hidden_codes"] + 1) % N_CODES,
        "hidden_types": (batch["hidden_types"] + 1) % 5,
    }
    after = model(**other)

    assert torch.equal(after.pooler_output, before.pooler_output)
    assert torch.equal(after.code_logits, before.code_logits)
    assert not torch.equal(after.loss, before.loss)


@torch.no_grad()
def test_visible_constituents_are_encoded_as_if_the_hidden_ones_did_not_exist():
    model = masked_model("head")
    batch = batch_of(model)
    alone = model.backbone(batch["constituents"], batch["mask"])

    assert torch.equal(model(**batch).pooler_output, alone.pooler_output)


@torch.no_grad()
def test_the_vector_of_a_jet_is_made_of_what_is_visible_where_the_encoder_sees_the_holes():
    model = masked_model("encoder")
    batch = batch_of(model)
    seen = {}
    model.backbone.encoder.register_forward_hook(lambda _, __, output: seen.update(encoded=output))
    pooled = model(**batch).pooler_output
    visible = seen["encoded"][:, : batch["mask"].shape[1]] * batch["mask"].unsqueeze(-1)

    torch.testing.assert_close(pooled, visible.sum(1) / batch["mask"].sum(1, keepdim=True))


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_only_the_head_knows_the_order(form):
    """Other ranks change the predictions and leave the encoder's output as it is."""
    model = masked_model(form)
    batch = batch_of(model)
    other = batch | {"hidden_ranks": batch["hidden_ranks"] + 1}

    assert torch.equal(model(**other).pooler_output, model(**batch).pooler_output)
    assert not torch.allclose(model(**other).code_logits, model(**batch).code_logits)


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_hidden_constituents_are_told_apart_by_their_ranks(form):
    model = masked_model(form)
    batch = batch_of(model)
    first_jet = model(**batch).code_logits[:6]
    distances = torch.cdist(first_jet, first_jet) + torch.eye(6)

    assert (distances > 1e-4).all()


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_every_jet_counts_the_same_in_the_loss(form):
    model = masked_model(form, targets=("codes",))
    batch = batch_of(model)
    whole = model(**batch).loss
    one_by_one = [model(**{name: values[jet : jet + 1] for name, values in batch.items()}).loss for jet in range(4)]

    torch.testing.assert_close(whole, torch.stack(one_by_one).mean())


@torch.no_grad()
def test_losses_are_those_of_a_plain_loop():
    model = masked_model("head")
    batch = batch_of(model)
    output = model(**batch)
    expected, start = 0.0, 0
    for jet, count in enumerate(batch["hidden_mask"].sum(1).tolist()):
        codes = batch["hidden_codes"][jet, :count]
        logits = output.code_logits[start : start + count]
        for place in range(count):
            expected -= float(logits[place].log_softmax(-1)[codes[place]]) / count / 4
        start += count
    only_codes = masked_model("head", targets=("codes",))
    only_codes.load_state_dict(model.state_dict(), strict=False)

    assert float(only_codes(**batch).loss) == pytest.approx(expected, rel=1e-4)
    # The other two targets come on top.
    assert float(output.loss) > expected


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "targets", [("codes",), ("type",), ("inputs",), ("displacement",), ("type", "jet"), ("codes", "type", "inputs")]
)
def test_every_weight_learns_and_the_loss_falls(form, targets):
    model = masked_model(form, targets).train()
    batch = batch_of(model)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(20):
        optimiser.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))

    assert [name for name, p in model.named_parameters() if p.numel() and p.grad is None] == []
    assert losses[-1] < 0.8 * losses[0]


def test_unknown_inputs_are_no_target():
    model = masked_model("head", targets=("inputs",))
    batch = batch_of(model)
    batch["hidden_constituents"][..., model.config.inputs.index("part_d0val")] = torch.nan
    loss = model(**batch).loss
    loss.backward()

    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@torch.no_grad()
def test_constituents_without_a_track_are_no_target():
    model = masked_model("head", targets=("displacement",))
    batch = batch_of(model)
    without = batch["hidden_displacements"] % 2 == 0
    asked = {**batch, "hidden_displacements": batch["hidden_displacements"].masked_fill(without, NOT_ASKED)}
    # The losses of the two halves are that of the whole.
    rest = {**batch, "hidden_displacements": batch["hidden_displacements"].masked_fill(~without, NOT_ASKED)}

    assert float(model(**asked).loss) > 0
    torch.testing.assert_close(model(**asked).loss + model(**rest).loss, model(**batch).loss)


def of_the_whole_jet():
    """A model, a batch that asks for nothing but the whole jet, and what the model says of it."""
    model = masked_model("head", targets=("type", "jet"))
    batch = batch_of(model)
    del batch["hidden_types"]
    return model, batch, model.to_jet(model.backbone(batch["constituents"], batch["mask"]).pooler_output)


@torch.no_grad()
def test_the_whole_jet_is_guessed_from_what_is_visible():
    model, batch, guess = of_the_whole_jet()
    expected = torch.nn.functional.smooth_l1_loss(guess, batch["jet"])

    torch.testing.assert_close(model(**batch).loss, 3 * expected)


@torch.no_grad()
def test_the_loss_is_the_sum_of_those_of_the_targets():
    targets = ("codes", "type", "displacement", "jet")
    model = masked_model("head", targets=targets)
    output = model(**batch_of(model))

    assert tuple(output.losses) == targets
    codes, kind, displacement, jet = output.losses.values()
    torch.testing.assert_close(output.loss, codes + kind + displacement + 3 * jet)


@torch.no_grad()
def test_unknown_numbers_of_a_jet_are_not_asked():
    model, batch, guess = of_the_whole_jet()
    batch["jet"][:, 5:] = torch.nan
    expected = torch.nn.functional.smooth_l1_loss(guess[:, :5], batch["jet"][:, :5])

    torch.testing.assert_close(model(**batch).loss, 3 * expected)
    batch["jet"][:] = torch.nan
    assert model(**batch).loss == 0


def test_a_jet_of_which_nothing_is_hidden_does_not_count():
    model = masked_model("head", targets=("codes",))
    batch = batch_of(model)
    fewer = {name: values[:3] for name, values in batch.items()}
    batch["hidden_mask"] = batch["hidden_mask"] & (torch.arange(4) < 3)[:, None]

    torch.testing.assert_close(model(**batch).loss, model(**fewer).loss)


@pytest.mark.parametrize(
    ("make_model", "message"),
    [
        (lambda: MaskedModelling(share=1.0), r"mpm.share.*must lie between 0 and 1, got 1.0"),
        (lambda: MaskedModelling(targets=()), "mpm.targets says nothing of hidden constituents"),
        (lambda: MaskedModelling(targets=("jet",)), "mpm.targets says nothing of hidden constituents"),
        (lambda: MaskedJetModel(make("transformer"), MaskedModelling(), 0), "needs a tokenizer of at least 2 codes"),
        (
            lambda: MaskedJetModel(
                JetBackbone(JetBackboneConfig(inputs=["part_pt"], derived=[])), MaskedModelling(targets=("type",))
            ),
            "the inputs have no particle types",
        ),
    ],
)
def test_impossible_settings_are_one_clear_line(make_model, message):
    with pytest.raises(InputError, match=message):
        make_model()
