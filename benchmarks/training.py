"""How fast networks train: masked modelling against torch.nn.TransformerEncoder, layers against PyTorch's and PyG's.

    hepfm-data resim --processes jetclass --detector jetclass --n-events 5000 --variations 1
    python benchmarks/training.py resim-jets --threads 1

Everything is measured in one run, turn by turn, so that ratios hold where other programs take the cores; times are
medians. Codes are random: what a step costs does not depend on them. PyG is compared with if it is installed.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

import hepfm
from hepfm.inputs import columns_for
from hepfm.models import EdgeConvConfig, JetBackbone, JetForSequenceClassification
from hepfm.models.configuration import sized
from hepfm.models.edgeconv import DynamicEdgeConv
from hepfm.models.mpm import MaskedJetModel, MaskedModelling
from hepfm.models.neighbours import nearest
from hepfm.networks.dropout import Dropout
from hepfm.training.batches import PaddedJets
from hepfm.training.masking import CODES, MaskedBatches, Views
from hepfm.training.stream import Stream

N_CODES = 512
LENGTH = 128
clock = time.perf_counter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campaign")
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--edge-jets", type=int, default=64)
    parser.add_argument("--cpu-time", action="store_true", help="what the process used: for machines that are shared")
    options = parser.parse_args()
    if options.cpu_time:
        global clock
        clock = time.process_time
    torch.set_num_threads(options.threads)
    unit = "CPU time" if options.cpu_time else "wall time"
    print(f"{options.threads} threads, torch {torch.__version__}, {unit}")
    masked_modelling(options.campaign, options.size, options.batch_size, options.steps)
    fine_tuning(options.campaign, options.size, options.batch_size, options.steps)
    edge_convolution(options.edge_jets, options.steps)


def masked_modelling(campaign: str, size: str, batch_size: int, n_steps: int) -> None:
    backbone = JetBackbone(sized(size))
    inputs = backbone.config.inputs
    table = hepfm.open(campaign).read_table(columns_for(inputs), split="train")
    codes = np.random.default_rng(0).integers(0, N_CODES, table.n_constituents, dtype=np.int32)
    jets = PaddedJets(table, inputs, n_constituents=LENGTH, trim=True, further={CODES: codes})
    whole = PaddedJets(table, inputs, n_constituents=LENGTH, further={CODES: codes})
    backbone.fit_normalisation(
        *(whole.__getitems__(np.arange(min(2000, len(whole))))[name] for name in ("constituents", "mask"))
    )
    print(f"{table.n_jets:,} jets of {table.counts.mean():.1f} constituents, batches of {batch_size}, MPM-{size}")

    def stream(source: PaddedJets, lengths: np.ndarray) -> Stream:
        make = MaskedBatches(source, inputs, share=0.3, targets=["codes"], views=Views())
        return Stream(lengths, make, batch_size=batch_size, n_steps=10**6, seed=1)

    bucketed = stream(jets, jets.lengths)
    models = {
        form: MaskedJetModel(JetBackbone(backbone.config), MaskedModelling(mask_in=form), N_CODES)
        for form in ("head", "encoder")
    }
    for model in models.values():
        model.backbone.load_state_dict(backbone.state_dict())
    plain = PlainMasked(backbone)
    unbucketed = stream(whole, np.zeros(len(whole), np.int64))

    def ours(form: str, *, bf16: bool) -> Callable[[int], tuple[Tensor, float]]:
        def loss(step: int) -> tuple[Tensor, float]:
            start = clock()
            batch = bucketed[step]
            loading = clock() - start
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                return models[form](**batch).loss, loading

        return loss

    def reference(step: int) -> tuple[Tensor, float]:
        start = clock()
        batch = unbucketed[step]
        loading = clock() - start
        return plain(**batch), loading

    arms: dict[str, tuple[nn.Module, Callable[[int], tuple[Tensor, float]]]] = {
        f"torch.nn.TransformerEncoder, padded to {LENGTH}, fp32": (plain, reference),
        "mask vectors in the encoder, bucketed, fp32": (models["encoder"], ours("encoder", bf16=False)),
        "visible only, bucketed, fp32": (models["head"], ours("head", bf16=False)),
        "visible only, bucketed, bf16": (models["head"], ours("head", bf16=True)),
    }
    optimisers = {name: torch.optim.AdamW(model.parameters(), lr=1e-4) for name, (model, _) in arms.items()}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in arms}
    for step in range(n_steps + 1):
        for name, (model, loss_of) in arms.items():
            start = clock()
            loss, loading = loss_of(step)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimisers[name].step()
            optimisers[name].zero_grad()
            if step:  # the first one warms up
                times[name].append((clock() - start, loading))
    base = statistics.median(whole for whole, _ in times[next(iter(arms))])
    for name, found in times.items():
        seconds = statistics.median(whole for whole, _ in found)
        share = statistics.median(loading / whole for whole, loading in found)
        rate = f"{batch_size / seconds:7.0f} jets/s, {base / seconds:5.2f} x"
        print(f"  {name:52} {1000 * seconds:7.0f} ms a step, {rate}; loading {100 * share:.1f} %")


class PlainMasked(nn.Module):
    """The same network of PyTorch's own layers: every jet padded, mask vectors in the encoder."""

    def __init__(self, backbone: JetBackbone) -> None:
        """Make the layers."""
        super().__init__()
        config = backbone.config
        self.features, self.embedding = backbone.features, backbone.embedding

        def layer() -> nn.TransformerEncoderLayer:
            return nn.TransformerEncoderLayer(
                config.width,
                config.heads,
                config.growth * config.width,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )

        def encoder(depth: int) -> nn.TransformerEncoder:
            return nn.TransformerEncoder(layer(), depth, norm=nn.LayerNorm(config.width), enable_nested_tensor=False)

        self.encoder, self.head = encoder(config.depth), encoder(1)
        self.mask_vector = nn.Parameter(torch.zeros(config.width))
        self.ranks = nn.Embedding(LENGTH, config.width)
        self.to_codes = nn.Linear(config.width, N_CODES)

    def forward(self, **batch: Tensor) -> Tensor:
        """The loss of a batch."""
        features, unknown = self.features(batch["constituents"], batch["mask"])
        visible = self.embedding(torch.cat([features, unknown.float()], -1))
        mask, hidden = batch["mask"], batch["hidden_mask"]
        # All of a jet's 128 places, as a batch that is padded has them.
        places = torch.cat([batch["ranks"], batch["hidden_ranks"]], 1)
        present = torch.cat([mask, hidden], 1)
        embedded = torch.cat([visible, self.mask_vector.expand(*hidden.shape, -1)], 1)
        short = LENGTH - embedded.shape[1]
        if short > 0:
            embedded = nn.functional.pad(embedded, (0, 0, 0, short))
            present = nn.functional.pad(present, (0, short))
            places = nn.functional.pad(places, (0, short))
        encoded = self.encoder(embedded, src_key_padding_mask=~present)
        found = self.head(encoded + self.ranks(places), src_key_padding_mask=~present)
        found = found[:, mask.shape[1] : mask.shape[1] + hidden.shape[1]][hidden]
        losses = nn.functional.cross_entropy(self.to_codes(found), batch["hidden_codes"][hidden], reduction="none")
        weights = (hidden / hidden.sum(1, keepdim=True))[hidden] / len(hidden)
        return (losses * weights).sum()


def fine_tuning(campaign: str, size: str, batch_size: int, n_steps: int) -> None:
    backbone = JetBackbone(sized(size))
    inputs = backbone.config.inputs
    table = hepfm.open(campaign).read_table((*columns_for(inputs), "jet_label"), split="train")
    jets = PaddedJets(table, inputs, ["jet_label"], LENGTH, trim=True)
    order = np.argsort(jets.lengths, kind="stable")
    middle = order[(len(order) - batch_size) // 2 :][:batch_size]
    batch = jets.__getitems__(middle)
    names = [str(label) for label in range(int(table.columns["jet_label"].max()) + 1)]
    ours = JetForSequenceClassification.from_backbone(backbone, names, head="attention", dropout=0.1)
    plain = copy.deepcopy(ours)
    for module in plain.modules():
        if isinstance(module, Dropout):
            module.forward = super(Dropout, module).forward
    models = {"PyTorch's dropout": plain, "ours": ours}
    optimisers = {name: torch.optim.AdamW(model.parameters(), lr=1e-4) for name, model in models.items()}
    print(f"fine-tuning, {batch_size} jets of {int(jets.lengths[middle].max())} constituents, MPM-{size}")
    for precision in ("fp32", "bf16"):
        times: dict[str, list[float]] = {name: [] for name in models}
        for step in range(n_steps + 1):
            for name, model in models.items():
                model.train()
                start = clock()
                with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                    loss = model(batch["constituents"], batch["mask"], batch["jet_label"]).loss
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimisers[name].step()
                optimisers[name].zero_grad()
                if step:
                    times[name].append(clock() - start)
        base = statistics.median(times["PyTorch's dropout"])
        for name, found in times.items():
            seconds = statistics.median(found)
            print(f"  {precision}, {name:46} {1000 * seconds:7.0f} ms a step, {base / seconds:5.2f} x")


def edge_convolution(n_jets: int, n_steps: int) -> None:
    config, n = EdgeConvConfig(), 100
    nodes, mask = torch.randn(n_jets, n, config.width), torch.ones(n_jets, n, dtype=torch.bool)
    ours = DynamicEdgeConv(config.width, config.k)
    arms: dict[str, Callable[[Tensor], Tensor]] = {"hepfm": lambda x: ours(x, mask)}
    try:
        from torch_geometric.nn import EdgeConv
    except ImportError:
        print("PyG is not installed; nothing to compare edge convolutions with")
    else:
        theirs = EdgeConv(nn.Sequential(ours.layer, nn.ELU()), aggr="max")
        centres = torch.arange(n_jets * n).repeat_interleave(config.k)
        first = torch.arange(n_jets)[:, None, None] * n

        def neighbours(x: Tensor) -> Tensor:
            near, _ = nearest(x.detach(), mask, config.k)
            return torch.stack([(near + first).flatten(), centres])

        known = neighbours(nodes)
        # PyG's own search needs pyg-lib, which not every index has: ours in its place, and none at all.
        arms["PyG EdgeConv, with our search for neighbours"] = lambda x: theirs(x.flatten(0, 1), neighbours(x))
        arms["PyG EdgeConv, neighbours known for nothing"] = lambda x: theirs(x.flatten(0, 1), known)
        difference = (arms["hepfm"](nodes).flatten(0, 1) - theirs(nodes.flatten(0, 1), known)).abs().max()
        print(f"largest difference to PyG: {float(difference.detach()):.1e}")
    times: dict[str, list[float]] = {name: [] for name in arms}
    for step in range(n_steps + 1):
        for name, layer in arms.items():
            x = nodes.clone().requires_grad_()
            start = clock()
            layer(x).square().mean().backward()
            if step:
                times[name].append(clock() - start)
    print(f"one edge convolution forth and back, {n_jets} jets of {n}, k = {config.k}, width {config.width}")
    base = statistics.median(times["hepfm"])
    for name, found in times.items():
        seconds = statistics.median(found)
        print(f"  {name:52} {1000 * seconds:7.0f} ms, {seconds / base:5.2f} x")


if __name__ == "__main__":
    main()
