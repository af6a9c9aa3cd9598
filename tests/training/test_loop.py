"""The training loop: when it ends, what it keeps, how it goes on, when it stops."""

import functools
import math
import os
import threading

import pytest
import torch
from process_server import shared

from her2pipe.errors import Her2Error
from her2pipe.training.checkpoint import Checkpoint
from her2pipe.training.loop import Plan, digest_of, train_network
from her2pipe.training.objectives import BatchResult, Classification
from her2pipe.training.schedule import Schedule, has_plateaued


def learn(*args):
    """Train, and return the history."""
    return train_network(*args).history


class Still(torch.nn.Module):
    """A model of one weight that never learns: its input is its output."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return x + 0 * self.weight


def constant(loss_by_epoch):
    """Batches whose loss in each epoch is log(1 + e^v)."""

    def batches(side, epoch):
        value = loss_by_epoch[min(epoch or 1, len(loss_by_epoch)) - 1]
        yield torch.tensor([[0.0, value], [0.0, value]]), torch.zeros(2, dtype=torch.long)

    return batches


def little(norm=False):
    """Four inputs, one of them dropped at random, two classes."""
    torch.manual_seed(5)
    parts = [torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Dropout(0.3), torch.nn.Linear(8, 2)]
    return torch.nn.Sequential(*([torch.nn.BatchNorm1d(4)] if norm else []), *parts)


def points(side, epoch, size=8, count=40):
    """Draw points of two classes, in an order of the epoch's own."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, 4, generator=generator)
    y = (x[:, 0] > 0).long()
    order = torch.arange(count)
    if epoch is not None:
        order = torch.randperm(count, generator=torch.Generator().manual_seed(epoch))
    for part in order.split(size):
        yield x[part], y[part]


def weights(model):
    return {k: v.clone() for k, v in model.state_dict().items()}


def same(a, b):
    return all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture
def checkpoint(tmp_path):
    return Checkpoint(tmp_path / "resume", "abc")


TWO = Classification(["a", "b"])


def test_plateau_rule(checkpoint):
    """The loss falls for three epochs, then rests; five restful epochs end it."""
    schedule = Schedule(plateau_tolerance=1e-3, plateau_epochs=5)
    plan = Plan(1e-3, 50, schedule=schedule)
    history = learn(Still(), constant([2.0, 1.0, 0.5] + [0.5] * 40), TWO, plan, checkpoint)
    assert len(history) == 3 + 5
    assert history[0]["train_loss"] == pytest.approx(math.log1p(math.exp(2.0)))
    creeping = [{"train_loss": 2.0 - 1e-5 * i} for i in range(6)]  # by less than the tolerance
    assert [has_plateaued(creeping[:n], schedule) for n in range(7)] == [False] * 6 + [True]
    assert not has_plateaued(creeping, Schedule())


@pytest.mark.parametrize("kind", ["train", "validation"])
def test_a_loss_that_is_no_number_stops_and_keeps_the_last_epoch(checkpoint, kind):
    def batches(side, epoch):
        broken = side == kind and side in seen
        seen.append(side)
        yield from constant([math.nan if broken else 1.0])(side, epoch)

    seen = []
    with pytest.raises(Her2Error, match=f"in epoch 2: the {kind} loss is not a finite number") as e:
        learn(Still(), batches, TWO, Plan(1e-3, 9), checkpoint)
    assert str(checkpoint.folder) in e.value.what
    model = Still()
    assert len(checkpoint.restore(model, torch.optim.Adam(model.parameters(), fused=True))) == 1
    assert torch.isfinite(model.weight).all()


def test_a_weight_that_is_no_number_stops(checkpoint):
    model = Still()
    model.register_parameter("other", torch.nn.Parameter(torch.tensor([math.inf])))
    with pytest.raises(Her2Error, match="a weight is not a finite number"):
        learn(model, constant([1.0]), TWO, Plan(1e-3, 2), checkpoint)
    assert not checkpoint.folder.exists()


def test_nothing_left_to_train_is_reported(checkpoint):
    with pytest.raises(Her2Error, match="all weights are frozen"):
        learn(little().requires_grad_(False), points, TWO, Plan(1e-2, 2), checkpoint)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("when", [1, 3, 4])
def test_a_run_that_is_stopped_ends_with_the_same_weights(tmp_path, when):
    plan, whole = Plan(1e-2, 5, accumulate=2), little(norm=True)
    expected = learn(whole, points, TWO, plan, Checkpoint(tmp_path / "a", "x"))

    def killing(side, epoch):
        for number, batch in enumerate(points(side, epoch)):
            if epoch == when and number == 2:
                raise Killed
            yield batch

    with pytest.raises(Killed):
        learn(little(norm=True), killing, TWO, plan, Checkpoint(tmp_path / "b", "x"))
    again = little(norm=True)
    if when > 1:  # the state of torch's generator is kept, too
        torch.manual_seed(99)
    history = learn(again, points, TWO, plan, Checkpoint(tmp_path / "b", "x"))
    assert history == expected
    assert same(weights(again), weights(whole))


def test_a_checkpoint_of_another_digest_is_not_used(tmp_path, caplog):
    caplog.set_level("INFO")
    plan = Plan(1e-2, 2)
    learn(little(), points, TWO, plan, Checkpoint(tmp_path, "x"))
    fresh = little()
    expected = weights(fresh)
    assert Checkpoint(tmp_path, "y").restore(fresh, None) == []
    assert same(weights(fresh), expected)
    assert "other settings or data" in caplog.text


def test_a_damaged_checkpoint_is_reported_and_a_half_written_one_removed(tmp_path):
    checkpoint = Checkpoint(tmp_path, "x")
    learn(little(), points, TWO, Plan(1e-2, 1), checkpoint)
    file = tmp_path / "checkpoint.pt"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(Her2Error, match="checkpoint is damaged"):
        checkpoint.restore(little(), None)
    assert {p.name for p in tmp_path.iterdir()} == {"checkpoint.pt", "owner"}
    half = tmp_path / ".checkpoint.pt~node7~1.part"  # of a run that was killed while it wrote
    half.write_bytes(b"half")
    checkpoint.save(little(), torch.optim.Adam(little().parameters()), [])
    assert not half.exists()
    half.write_bytes(b"half")
    checkpoint.remove()
    assert not tmp_path.exists()


def test_who_lost_its_checkpoint_to_another_process_stops(tmp_path, monkeypatch):
    """Snakemake was killed, its job was not: the next run's process takes the training over."""
    expected = learn(little(), points, TWO, Plan(1e-2, 3), Checkpoint(tmp_path / "a", "x"))

    def losing(side, epoch):
        if epoch == 2:
            with monkeypatch.context() as another:
                another.setattr("her2pipe.training.checkpoint.this_process", lambda: "node7~1")
                Checkpoint(tmp_path / "b").claim()
        return points(side, epoch)

    first = Checkpoint(tmp_path / "b", "x")
    model = little()
    with pytest.raises(Her2Error, match="taken this training over"):
        learn(model, losing, TWO, Plan(1e-2, 3), first)
    first.remove()
    assert (tmp_path / "b" / "checkpoint.pt").exists()
    monkeypatch.setattr("her2pipe.training.checkpoint.this_process", lambda: "node7~1")
    second = Checkpoint(tmp_path / "b", "x")
    history = learn(little(), points, TWO, Plan(1e-2, 3), second)
    assert [row["train_loss"] for row in history] == [row["train_loss"] for row in expected]
    second.remove()
    assert not second.folder.exists()


@pytest.mark.slow
def test_the_younger_of_two_processes_has_the_checkpoint(tmp_path):
    """The elder had not come to its claim yet when Snakemake was killed and started again."""
    folder, there, end = tmp_path / "a", tmp_path / "there", tmp_path / "end"
    for path in (there, end):
        os.mkfifo(path)
    code = (
        "import her2pipe.cli\n"  # by which the server knows what to have imported
        "from her2pipe.training.checkpoint import Checkpoint\n"
        "Checkpoint('a').claim()\n"
        "open('there', 'w').close(); open('end').read()"
    )
    younger = threading.Thread(target=shared().run, args=(code, ["younger"], tmp_path), daemon=True)
    younger.start()
    there.read_text()
    with pytest.raises(Her2Error, match="taken this training over"):
        Checkpoint(folder).claim()
    end.write_text("")
    younger.join()
    elder = Checkpoint(folder)
    assert elder.claim() == folder  # the younger one is gone
    elder.check()


def test_accumulated_batches_step_as_one(tmp_path):
    """Batches of 4, 4 and 2 with weights 1 and 3: the gradients of one batch of 10."""
    found = []
    for size, every in ((10, 1), (4, 3)):
        torch.manual_seed(5)
        model = torch.nn.Linear(4, 2)
        objective = Classification(["a", "b"], [1.0, 3.0])
        learn(
            model,
            lambda side, epoch, size=size: points(side, epoch, size, 10),
            objective,
            Plan(1e-2, 3, accumulate=every),
            Checkpoint(tmp_path / str(size), "x"),
        )
        found.append(model.weight.detach())
    assert torch.allclose(*found, atol=1e-6)
    assert not torch.equal(found[0], torch.nn.Linear(4, 2).weight)


def test_weighted_loss_and_measures():
    """Two items of class a at p = 3/4, one of b at p(b) = 1/4; b counts threefold."""
    logits = torch.tensor([[math.log(3.0), 0.0]] * 3)
    labels = torch.tensor([0, 0, 1])
    found = Classification(["a", "b"], [1.0, 3.0])(lambda x: x, (logits, labels))
    wanted = (2 * math.log(4 / 3) + 3 * math.log(4)) / 5
    assert float(found.loss / found.weight) == pytest.approx(wanted)
    watching = Classification(["a", "b", "c"], positive_class="b")
    p = torch.tensor([[0.6, 0.3, 0.1], [0.5, 0.4, 0.1], [0.2, 0.7, 0.1], [0.5, 0.35, 0.15]])
    positive = torch.tensor([False, False, True, True])
    measures = watching.measure("validation", p, torch.tensor([0, 1, 1, 0]), positive)
    assert measures["accuracy"] == 0.75
    assert (measures["recall_a"], measures["recall_b"]) == (1.0, 0.5)
    assert math.isnan(measures["recall_c"])
    assert measures["auc"] == 0.75  # 0.7 beats both negatives, 0.35 one of two
    assert watching.measure("train", p, torch.tensor([0, 1, 1, 0]), positive) == {"accuracy": 0.75}


def test_frozen_modules_keep_weights_and_batch_statistics(checkpoint):
    model = little(norm=True)
    model[0].requires_grad_(False)
    model[1].requires_grad_(False)
    before = weights(model)
    learn(model, points, TWO, Plan(1e-2, 2), checkpoint)
    after = weights(model)
    for key in before:
        assert torch.equal(before[key], after[key]) == (key[0] in "01"), key


def test_without_validation_there_are_gaps(checkpoint):
    def train_only(side, epoch):
        return points(side, epoch) if side == "train" else []

    history = learn(little(), train_only, TWO, Plan(1e-2, 2), checkpoint)
    assert math.isnan(history[0]["validation_loss"])
    assert history[1]["train_accuracy"] > 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own
def test_a_compiled_network_learns_the_same(tmp_path, monkeypatch):
    """Compiled as far as to a graph of its steps: what makes code of that is torch's own matter."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")  # restored afterwards
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    found = []
    for compiled in (False, True):
        torch.manual_seed(5)
        model = torch.nn.Linear(4, 2)
        learn(
            model,
            points,
            TWO,
            Plan(1e-2, 2, compile=compiled),
            Checkpoint(tmp_path / str(compiled), "x"),
        )
        found.append(model.weight.detach())
    assert torch.allclose(*found, atol=1e-5)
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "cache/her2pipe/inductor")


def test_bfloat16_learns_about_the_same(tmp_path):
    found = []
    for reduced in (False, True):
        torch.manual_seed(5)
        history = learn(
            torch.nn.Linear(4, 2),
            points,
            TWO,
            Plan(1e-2, 3, bfloat16=reduced),
            Checkpoint(tmp_path / str(reduced), "x"),
        )
        found.append(history[-1]["train_loss"])
    assert found[0] == pytest.approx(found[1], rel=0.02)
    assert found[0] != found[1]


@pytest.mark.gpu
def test_on_cuda_it_learns_and_goes_on(tmp_path):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")

    def there(side, epoch):
        return [tuple(part.cuda() for part in batch) for batch in points(side, epoch)]

    for epochs in (2, 4):
        plan = Plan(1e-2, epochs, accumulate=2, bfloat16=True)
        history = learn(little(norm=True).cuda(), there, TWO, plan, Checkpoint(tmp_path, "x"))
    assert len(history) == 4
    assert history[-1]["train_loss"] < history[0]["train_loss"]


def test_digest_separates_its_parts():
    assert digest_of("ab", "c") != digest_of("a", "bc")
    assert len(digest_of("ab")) == 16


def test_several_best_epochs_are_kept_best_first(tmp_path):
    """Held-out losses by epoch: 4, 2, 3, 1, 5; of these 4 and 2 are best, and the model ends so."""
    values = [4.0, 2.0, 3.0, 1.0, 5.0]

    def batches(side, epoch):
        if side == "train":
            seen.append(epoch)
            return points(side, epoch)
        value = values[seen[-1] - 1]
        return [(torch.tensor([[0.0] * 4] * 2), torch.tensor([value, value]))]

    class Given(Classification):
        def __call__(self, model, batch):
            if torch.is_grad_enabled():
                return super().__call__(model, batch)
            return BatchResult(batch[1].sum(), torch.tensor(2.0), ())

        def measure(self, side, *outputs):
            return {}

    seen = []
    plan = Plan(1e-2, 5, schedule=Schedule(stop_epochs=9, best_epochs=2))
    model = little()
    run = train_network(model, batches, Given(["a", "b"]), plan, Checkpoint(tmp_path, "x"))
    assert [row["validation_loss"] for row in run.history] == values
    states = {}
    for epochs in (2, 4):  # a run of so many epochs ends with the weights of that epoch
        seen.clear()
        other = little()
        learn(
            other, batches, Given(["a", "b"]), Plan(1e-2, epochs), Checkpoint(tmp_path / "o", "x")
        )
        states[epochs] = weights(other)
        Checkpoint(tmp_path / "o").claim()
        (tmp_path / "o" / "checkpoint.pt").unlink()
    assert same(run.best[4], states[4])
    assert same(run.best[2], states[2])
    assert list(run.best) == [4, 2]
    assert same(weights(model), states[4])


def test_a_checkpoint_is_written_now_and_then_and_at_the_end(tmp_path, monkeypatch):
    saved = []
    save = Checkpoint.save
    monkeypatch.setattr(Checkpoint, "save", lambda *args: (saved.append(len(args[3])), save(*args)))
    learn(little(), points, TWO, Plan(1e-2, 4, save_s=3600), Checkpoint(tmp_path / "a", "x"))
    learn(little(), points, TWO, Plan(1e-2, 3), Checkpoint(tmp_path / "b", "x"))
    seldom = Plan(1e-2, 4, save_s=3600, keeps_end=False)  # its outputs are written at once
    learn(little(), points, TWO, seldom, Checkpoint(tmp_path / "c", "x"))
    assert saved == [4, 1, 2, 3]


def test_epochs_with_a_seed_draw_the_same_whatever_was_drawn_before(tmp_path):
    found = []
    for name in ("a", "b"):
        model = little()
        torch.manual_seed(len(found))
        learn(model, points, TWO, Plan(1e-2, 2, seed=7), Checkpoint(tmp_path / name, "x"))
        found.append(weights(model))
    assert same(*found)
