"""Time an epoch of CLAM and of SlideGraph+ beside plain loops written from their papers.

    python bench/fit.py [--slides 150] [--rounds 3] [--quick]

Slides of 1,000 to 4,000 patches with 768 features, a fifth of them held out, in memory. An epoch is
one pass over the training slides (CLAM: one slide per step; SlideGraph+: eight, their graphs at
hand) and one over those held out. The plain loops are PyTorch as their papers' equations read:
layers one by one, torch's dropout and Adam, the loss of each step read. The floor is the matrix
products alone, forward and backward, of SlideGraph+ those of its first layer, which reads all
features; the start is what a fit costs beside its epochs.
CLAM is measured once more with some patches drawn of each slide in a step, which is a setting.
The last table is a whole fit to inner folds, where
each fold is trained a second time (fit.keep_mb: 0), where its weights are kept, and where two
processes share the folds (--threads 2): the time of both, and of the busier one. Processor time of
one thread, rounds interleaved; medians.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile

import numpy as np

from her2pipe.aggregation.fold_processes import FoldProcesses

WIDTH, LEAST, MOST, HELD_OUT = 768, 1_000, 4_000, 5


def training_slides(aggregation, count, patches):
    """Return slides of random features, as an aggregation reads them."""
    from her2pipe.aggregation.base import Bag, TrainingSlide

    random, slides = np.random.default_rng(2025), []
    for i, size in enumerate(random.integers(*patches, count, endpoint=True)):
        wide = int(np.ceil(np.sqrt(size)))
        coords = np.stack([np.arange(size) % wide, np.arange(size) // wide], axis=1) * 512
        features = random.normal(0, 0.5, (size, WIDTH)).astype(np.float16)
        none = np.zeros((size, 0), np.float32)
        bag = Bag(f"S{i}", coords, 512, 31_623, 31_623, none, features, [])
        inputs = aggregation.prepare(bag, aggregation.Settings())
        slides.append(TrainingSlide(f"S{i}", f"P{i}", i % 2, inputs))
    return slides


def plain_clam(train, held_out):
    """Return a function that runs one epoch of CLAM (methods: Lu et al. 2021)."""
    import torch
    from torch import nn
    from torch.nn import functional

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Sequential(nn.Linear(WIDTH, 512), nn.ReLU(), nn.Dropout(0.25))
            self.tanh = nn.Sequential(nn.Linear(512, 256), nn.Tanh(), nn.Dropout(0.25))
            self.gate = nn.Sequential(nn.Linear(512, 256), nn.Sigmoid(), nn.Dropout(0.25))
            self.attend, self.bag = nn.Linear(256, 1), nn.Linear(512, 2)
            self.instance = nn.ModuleList(nn.Linear(512, 2) for _ in range(2))

        def forward(self, x):
            h = self.first(x)
            attention = self.attend(self.tanh(h) * self.gate(h)).T
            return self.bag(functional.softmax(attention, 1) @ h), attention, h

    def svm(x, y):
        margin = 1 - functional.one_hot(y, 2)
        return ((x + margin).logsumexp(1) - x.gather(1, y[:, None])[:, 0]).mean()

    network = Attention()
    optimiser = torch.optim.Adam(network.parameters(), 2e-4, weight_decay=1e-5)
    bags = {s.slide: torch.from_numpy(s.inputs).float() for s in [*train, *held_out]}
    targets = np.array([s.target for s in train])
    random = np.random.default_rng(1)

    def epoch():
        network.train()
        weight = 1 / np.bincount(targets)[targets]
        total = 0.0
        for number in random.choice(len(train), len(train), p=weight / weight.sum()):
            slide = train[number]
            logits, attention, h = network(bags[slide.slide])
            instances = 0
            for c, classifier in enumerate(network.instance):
                top = h[attention[0].topk(8).indices]
                if c == slide.target:
                    low = h[(-attention[0]).topk(8).indices]
                    y = torch.tensor([1] * 8 + [0] * 8)
                    instances = instances + svm(classifier(torch.cat([top, low])), y)
                else:
                    instances = instances + svm(classifier(top), torch.zeros(8, dtype=torch.long))
            bag = functional.cross_entropy(logits, torch.tensor([slide.target]))
            loss = 0.7 * bag + 0.3 * instances / 2
            total += loss.item()
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
        network.eval()
        with torch.no_grad():
            for slide in held_out:
                logits = network(bags[slide.slide])[0]
                total += functional.cross_entropy(logits, torch.tensor([slide.target])).item()
        return total

    return epoch


def products_of_clam(train, held_out):
    """Return a function that multiplies the matrices of one epoch of CLAM alone."""
    import torch

    first, second = torch.randn(512, WIDTH), torch.randn(512, 512)  # tanh and gate side by side
    most = max(len(s.inputs) for s in [*train, *held_out])
    x, h = torch.randn(most, WIDTH), torch.randn(most, 512)

    def epoch():
        for slide in train:
            n = len(slide.inputs)
            _ = x[:n] @ first.T, h[:n] @ second.T  # forward
            _ = h[:n] @ second, h[:n].T @ h[:n], h[:n].T @ x[:n]  # slopes of h and of both weights
        for slide in held_out:
            n = len(slide.inputs)
            _ = x[:n] @ first.T, h[:n] @ second.T

    return epoch


def products_of_slidegraph(train, held_out):
    """Return a function that multiplies the matrices of SlideGraph+'s first layer alone."""
    import torch

    weight, slopes = (
        torch.randn(16, WIDTH),
        [torch.randn(len(s.inputs.features), 16) for s in train],
    )
    nodes, others = (
        [torch.from_numpy(s.inputs.features) for s in side] for side in (train, held_out)
    )

    def epoch():
        for x, slope in zip(nodes, slopes, strict=True):
            _ = x @ weight.T, slope.T @ x
        for x in others:
            _ = x @ weight.T

    return epoch


def plain_slidegraph(train, held_out):
    """Return a function that runs one epoch of SlideGraph+ (Lu et al. 2022)."""
    import torch
    from torch import nn

    from her2pipe.aggregation.networks import standardiser, stratified

    mean, std = map(torch.from_numpy, standardiser([s.inputs.features for s in train]))

    def layer(width, out):
        return nn.Sequential(nn.Linear(width, out), nn.BatchNorm1d(out), nn.ReLU())

    class Graphs(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = layer(WIDTH, 16)
            self.convs = nn.ModuleList(layer(32, out) for out in (16, 8))
            self.heads = nn.ModuleList(nn.Linear(width, 1) for width in (16, 16, 8))
            self.drop = nn.Dropout(0.5)

        def forward(self, x, edges, graph, graphs):
            z, total = self.first(x), 0
            for number, head in enumerate(self.heads):
                if number:
                    source, target = edges
                    message = self.convs[number - 1](
                        torch.cat([z[target], z[source] - z[target]], 1)
                    )
                    index = target[:, None].expand_as(message)
                    z = torch.zeros(len(x), message.shape[1]).scatter_reduce(
                        0, index, message, "amax", include_self=False
                    )
                pooled = torch.zeros(graphs).index_add(0, graph, head(z)[:, 0])
                total = total + self.drop(pooled / torch.bincount(graph, minlength=graphs))
            return total

    network = Graphs()
    optimiser = torch.optim.Adam(network.parameters(), 1e-3, weight_decay=1e-4)
    targets = np.array([s.target for s in train])
    random = np.random.default_rng(1)
    data = {
        s.slide: (torch.from_numpy(s.inputs.features), torch.from_numpy(s.inputs.edges))
        for s in [*train, *held_out]
    }

    def scores(slides):
        parts = [data[s.slide] for s in slides]
        sizes = [len(x) for x, _ in parts]
        starts = np.cumsum([0, *sizes[:-1]])
        x = torch.cat([(x - mean) / std for x, _ in parts])
        edges = torch.cat([e + int(n) for (_, e), n in zip(parts, starts, strict=True)], 1)
        graph = torch.repeat_interleave(torch.arange(len(parts)), torch.tensor(sizes))
        return network(x, edges, graph, len(parts))

    def loss_of(score, slides):
        positive = torch.tensor([s.target == 1 for s in slides])
        return (1 - (score[positive][:, None] - score[~positive][None])).relu().mean()

    def epoch():
        network.train()
        total = 0.0
        for step in stratified(targets, 8, random):
            slides = [train[number] for number in step]
            loss = loss_of(scores(slides), slides)
            total += loss.item()
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
        network.eval()
        with torch.no_grad():
            parts = [scores(held_out[i : i + 8]) for i in range(0, len(held_out), 8)]
            return total + loss_of(torch.cat(parts), held_out).item()

    return epoch


def fit_of(name, train, held_out, epochs, **values):
    """Return a function that fits as `her2pipe fit` does to one fold, for so many epochs."""
    from her2pipe.aggregation.base import AGGREGATIONS
    from her2pipe.aggregation.fitting import fit_aggregation
    from her2pipe.endpoints.lookup import endpoint_of
    from her2pipe.training.checkpoint import Checkpoint

    aggregation = AGGREGATIONS[name]
    settings = aggregation.Settings(max_epochs=epochs, device="cpu", **values)

    def fit():
        with tempfile.TemporaryDirectory() as folder:
            place = Checkpoint(folder)
            fit_aggregation(aggregation, train, held_out, endpoint_of(), settings, 1, place)

    return fit


class BusiestProcess(FoldProcesses):
    """Processes of which the greatest processor time is kept, s."""

    seconds = 0.0

    def __exit__(self, *error):
        import psutil

        spent = [psutil.Process(process.pid).cpu_times() for process in self._processes.values()]
        BusiestProcess.seconds = max((each.user + each.system for each in spent), default=0.0)
        super().__exit__(*error)


def fit_to_folds(name, slides, epochs, keep_mb, processes=1):
    """Return a function that fits to five folds, and judges them."""
    from her2pipe.aggregation import inner_folds
    from her2pipe.aggregation.base import AGGREGATIONS, FitMetadata
    from her2pipe.aggregation.fitting import assign_folds
    from her2pipe.aggregation.inner_folds import Fitter, Fold, fit_by_folds
    from her2pipe.endpoints.lookup import endpoint_of
    from her2pipe.training.checkpoint import Checkpoint

    aggregation = AGGREGATIONS[name]
    values = {"max_epochs": epochs, "min_epochs": 0, "device": "cpu", "keep_mb": keep_mb}
    settings = aggregation.Settings(**values)
    metadata = FitMetadata(
        aggregation=name,
        classes=list(endpoint_of().targets),
        features=WIDTH,
        settings=settings.model_dump(mode="json"),
    )
    number_of = assign_folds(slides, settings)

    def fold(number):
        held_out = [s for s in slides if number_of[s.slide] == number]
        return Fold([s for s in slides if number_of[s.slide] != number], held_out)

    def fit():
        with tempfile.TemporaryDirectory() as folder:
            fitter = Fitter(aggregation, endpoint_of(), settings, metadata, Checkpoint(folder))
            return fit_by_folds(fitter, settings.folds, fold, processes=processes).scores

    inner_folds.FoldProcesses = BusiestProcess
    return fit


def processor_s(work):
    """Return the processor time of a call, of processes that it starts, too, s."""
    whose, spent = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN), []
    for part in (None, work):
        if part:
            part()
        usage = map(resource.getrusage, whose)
        spent.append(sum(each.ru_utime + each.ru_stime for each in usage))
    return spent[1] - spent[0]


def main(argv=None):
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slides", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fold-slides", type=int, default=40)
    parser.add_argument("--fold-epochs", type=int, default=6)
    parser.add_argument("--quick", action="store_true", help="little of all: figures mean nothing")
    args = parser.parse_args(argv)
    patches = (LEAST, MOST)
    if args.quick:
        args.slides, args.rounds, args.fold_slides, args.fold_epochs = 10, 1, 20, 2
        patches = (40, 60)
    import torch

    from her2pipe.aggregation.base import AGGREGATIONS

    torch.set_num_threads(1)
    peers = {"clam": plain_clam, "slidegraph": plain_slidegraph}
    floors = {"clam": products_of_clam, "slidegraph": products_of_slidegraph}
    print(f"{args.slides} slides of {patches[0]:,} to {patches[1]:,} patches, {WIDTH} features\n")
    print(
        "| one epoch, processor s | plain loop | her2pipe | ratio | least to most | floor | start |"
    )
    print("|---|---:|---:|---:|---|---:|---:|")
    drawn = {"step_patches": patches[0] * 3 // 4}
    for name, plain, values in (
        *((name, plain, {}) for name, plain in peers.items()),
        ("clam", plain_clam, drawn),
    ):
        slides = training_slides(AGGREGATIONS[name], args.slides, patches)
        held_out, train = slides[: len(slides) // HELD_OUT], slides[len(slides) // HELD_OUT :]
        fits = [fit_of(name, train, held_out, epochs, **values) for epochs in (1, 3)]
        works = [plain(train, held_out), *fits]
        if not values:
            works.append(floors[name](train, held_out))
        rounds = np.array([[processor_s(work) for work in works] for _ in range(args.rounds + 1)])
        rounds = rounds[1:]  # the first has its imports
        plain_s, ours_s = rounds[:, 0], (rounds[:, 2] - rounds[:, 1]) / 2
        ratio, start_s = plain_s / ours_s, np.median(rounds[:, 1] - ours_s)
        floor = "" if values else f"{np.median(rounds[:, 3]):.3f}"
        label = ", ".join([name, *(f"{key} {value}" for key, value in values.items())])
        print(
            f"| {label} | {np.median(plain_s):.2f} | {np.median(ours_s):.3f} |"
            f" {np.median(ratio):.2f} | {ratio.min():.2f} to {ratio.max():.2f} | {floor} |"
            f" {start_s:.2f} |",
            flush=True,
        )
    print(f"\n{args.fold_slides} slides, five folds, {args.fold_epochs} epochs at most\n")
    print("| a fit, processor s | trained twice | weights kept | ratio | two processes | busier |")
    print("|---|---:|---:|---:|---:|---:|")
    for name in peers:
        slides = training_slides(AGGREGATIONS[name], args.fold_slides, patches)
        twice, once, beside = (
            processor_s(fit_to_folds(name, slides, args.fold_epochs, *more))
            for more in ((0,), (2000,), (2000, 2))
        )
        print(
            f"| {name} | {twice:.2f} | {once:.2f} | {twice / once:.2f} | {beside:.2f} |"
            f" {BusiestProcess.seconds:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    if os.environ.get("OMP_NUM_THREADS") != "1":
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        os.execve(sys.executable, [sys.executable, *sys.argv], environment)
    main()
