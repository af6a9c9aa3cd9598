"""What changes as the loss rests: by hand-computed steps, reductions and ends."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from training_sets import SMALL

from her2pipe.config import TrainSettings
from her2pipe.errors import Her2Error
from her2pipe.files import read_table
from her2pipe.models import costs, weights
from her2pipe.training import augment, schedule
from her2pipe.training.checkpoint import Checkpoint
from her2pipe.training.loop import Plan, train_network
from her2pipe.training.objectives import Classification
from her2pipe.training.schedule import Schedule, has_plateaued

TWO = Classification(["a", "b"])
LOSSES = [5.0, 4.0, 4.5, 4.0, 3.0, 3.5, 3.5, 3.5, 3.5, 3.5]  # best in 1, 2 and 5


def parameters(*tensors):
    return torch.nn.ParameterList(tensors)


def learn(*args):
    """Train, and return the history."""
    return train_network(*args).history


class Given(torch.nn.Module):
    """A model whose validation losses are given, and whose weight sums up the steps."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        pull = torch.stack([self.weight.expand(len(x)), torch.zeros(len(x))], 1)
        return x + 0.01 * pull if self.training else x


def given(losses):
    """Batches that make the validation loss of each epoch log(1 + e^v) of its value v."""
    seen = []

    def batches(side, epoch):
        if side == "train":
            seen.append(epoch)
            yield torch.zeros(2, 2), torch.zeros(2, dtype=torch.long)
        else:
            value = losses[min(seen[-1], len(losses)) - 1]
            yield torch.tensor([[0.0, value]] * 2), torch.zeros(2, dtype=torch.long)

    return batches


def test_the_step_is_reduced_after_epochs_without_a_better_loss():
    """Two restful epochs: 3 and 4 make one; then 6 and 7, 8 and 9."""
    found = [schedule.reductions(LOSSES[:n], 2) for n in range(11)]
    assert found == [0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 3]
    assert schedule.reductions(LOSSES, 0) == 0


def test_training_ends_after_epochs_without_a_better_loss():
    assert [schedule.best_epochs(LOSSES[:n])[0] for n in range(1, 7)] == [1, 2, 2, 2, 5, 5]
    assert schedule.best_epochs(LOSSES, 4) == [5, 6, 7, 8]
    rows = [{"train_loss": 10.0 - i, "validation_loss": v} for i, v in enumerate(LOSSES)]
    stop = Schedule(stop_epochs=3)
    assert [has_plateaued(rows[:n], stop) for n in range(9)] == [False] * 8 + [True]
    assert not has_plateaued(rows[:8], Schedule(stop_epochs=3, min_epochs=9))
    assert not has_plateaued(rows, Schedule())


def test_epochs_are_ranked_by_auc_then_loss_then_age():
    losses, aucs = [5, 4, 3, 2, 2], [0, 1, 1, 0, 1]
    rows = [
        {"train_loss": 1, "validation_loss": loss, "validation_auc": auc}
        for loss, auc in zip(losses, aucs, strict=True)
    ]
    assert schedule.best_epochs(schedule.ranks(rows, Schedule(monitor="auc")), 3) == [5, 3, 2]
    assert schedule.best_epochs(schedule.ranks(rows, Schedule()), 3) == [4, 5, 3]


def test_accuracy_decides_where_it_is_monitored():
    """Epoch 2 is the best, and 4, which is no better, the second; by the loss epoch 5 is."""
    accuracies = [0.5, 0.75, 0.7, 0.75, 0.6]
    rows = [
        {
            "train_loss": 1,
            "validation_loss": 9 - n,
            "train_accuracy": 1 - accuracy,
            "validation_accuracy": accuracy,
        }
        for n, accuracy in enumerate(accuracies)
    ]
    by_accuracy = Schedule(monitor="accuracy", stop_epochs=3)
    keys = schedule.ranks(rows, by_accuracy)
    assert schedule.best_epochs(keys, 2) == [2, 4]
    assert [schedule.reductions(keys[:n], 2) for n in range(6)] == [0, 0, 0, 0, 1, 1]
    assert [has_plateaued(rows[:n], by_accuracy) for n in range(1, 6)] == [False] * 4 + [True]
    assert schedule.best_epochs(schedule.ranks(rows, Schedule())) == [5]
    for row in rows:  # no validation side: the training accuracy
        del row["validation_accuracy"]
    assert schedule.best_epochs(schedule.ranks(rows, by_accuracy)) == [1]


def test_losses_are_those_of_validation_where_there_is_one():
    rows = [
        {"train_loss": 1.0, "validation_loss": 2.0},
        {"train_loss": 3.0, "validation_loss": 4.0},
    ]
    assert schedule.monitored(rows) == [2.0, 4.0]
    assert schedule.monitored([row | {"validation_loss": math.nan} for row in rows]) == [1.0, 3.0]


def test_the_best_epochs_weights_are_kept(tmp_path):
    plan = Plan(1.0, 50, schedule=Schedule(stop_epochs=3, reduce_epochs=2, reduce_factor=0.1))
    kept, whole = Given(), Given()
    history = learn(kept, given(LOSSES), TWO, plan, Checkpoint(tmp_path / "a", "x"))
    assert len(history) == 5 + 3
    rates = [row["learning_rate"] for row in history]
    assert rates == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.1, 0.01])
    learn(whole, given(LOSSES), TWO, Plan(1.0, 4), Checkpoint(tmp_path / "b", "x"))
    plan = Plan(1.0, 50, schedule=replace(plan.schedule, learning_rate_min=0.05))
    history = learn(Given(), given(LOSSES), TWO, plan, Checkpoint(tmp_path / "c", "x"))
    assert [row["learning_rate"] for row in history] == pytest.approx([1] * 4 + [0.1] * 3 + [0.05])
    # four steps of 1, as without a schedule, then one of 0.1: epoch 5
    assert kept.weight.item() == pytest.approx(whole.weight.item() + 0.1, abs=1e-3)


def test_a_run_that_goes_on_keeps_the_best_weights_and_the_step(tmp_path):
    plan = Plan(1.0, 50, schedule=Schedule(stop_epochs=3, reduce_epochs=2))
    whole, part = Given(), Given()
    expected = learn(whole, given(LOSSES), TWO, plan, Checkpoint(tmp_path / "a", "x"))

    class Killed(BaseException):
        pass

    def killing(side, epoch):
        if epoch == 7:
            raise Killed
        yield from first(side, epoch)

    first = given(LOSSES)
    with pytest.raises(Killed):
        learn(part, killing, TWO, plan, Checkpoint(tmp_path / "b", "x"))
    again = Given()
    history = learn(again, given(LOSSES), TWO, plan, Checkpoint(tmp_path / "b", "x"))
    assert history == expected
    assert torch.equal(again.weight, whole.weight)


def test_without_a_schedule_nothing_changes(tmp_path):
    """Same weights and columns as plain Adam; the training loss alone ends it."""
    plan = Plan(1e-2, 4)
    history = learn(Given(), given(LOSSES), TWO, plan, Checkpoint(tmp_path / "a", "x"))
    assert list(history[0]) == [
        "epoch",
        "train_loss",
        "train_accuracy",
        "validation_loss",
        "validation_accuracy",
    ]
    assert plan.schedule == Schedule.of(TrainSettings())
    assert not has_plateaued(history, plan.schedule)
    made = schedule.optimiser(parameters(torch.ones(2, 2)), 1e-3, Schedule())
    plain = torch.optim.Adam([torch.nn.Parameter(torch.ones(2, 2))], lr=1e-3, fused=True)
    assert made.state_dict() == plain.state_dict()


def test_the_penalty_is_on_kernels_only():
    """Loss 0.5 sum w^2 has slope w; with epsilon 1 the first step is lr g / (|g| + 1)."""
    layers = torch.nn.ModuleDict({name: torch.nn.Linear(1, 1) for name in ("one", "other")})
    moved = {}
    for modules in ((), ("one",)):
        penalty = Schedule(weight_decay_l2=0.5, weight_decay_l2_modules=modules, epsilon=1.0)
        made = schedule.optimiser(layers, 0.5, penalty)
        for weight in layers.parameters():
            weight.data.fill_(3.0)
            weight.grad = torch.ones_like(weight)
        made.step()
        moved[modules] = {name: weight.item() for name, weight in layers.named_parameters()}
    penalised = pytest.approx(3 - 0.5 * 4 / 5)  # slope 1 + 2 * 0.5 * 3
    free = pytest.approx(3 - 0.5 * 1 / 2)
    assert moved[()] == {"one.weight": penalised, "one.bias": free} | {
        "other.weight": penalised,
        "other.bias": free,
    }
    assert moved["one",] == {"one.weight": penalised, "one.bias": free} | {
        "other.weight": free,
        "other.bias": free,
    }
    with pytest.raises(Her2Error, match="no module third"):
        schedule.optimiser(layers, 0.5, replace(penalty, weight_decay_l2_modules=("third",)))


def test_amsgrad_never_forgets_the_largest_slope():
    """A slope of 100, then 3,000 of 1. The second moment is 0.001 * 100^2 = 10 after the first."""
    moved = {}
    for amsgrad in (False, True):
        weight = torch.nn.Parameter(torch.zeros(1))
        made = schedule.optimiser(parameters(weight), 1.0, Schedule(amsgrad=amsgrad))
        for slope in [100.0] + [1.0] * 3000:
            weight.grad = torch.full((1,), slope)
            before = weight.item()
            made.step()
        moved[amsgrad] = before - weight.item()
    kept, new = 0.999**3000, 1 - 0.999**3001
    assert moved[False] == pytest.approx(math.sqrt(new / (10 * kept + 1 - kept)), rel=1e-3)
    assert moved[True] == pytest.approx(math.sqrt(new / 10), rel=1e-3)


def test_shifts_move_whole_pixels_and_repeat_edges():
    images = torch.arange(100.0).view(1, 1, 10, 10).repeat(200, 2, 1, 1)
    moved = augment.shift(images, np.random.default_rng(1), 0.2)
    rows = (moved[:, 0, 5, 5] // 10).int() - 5
    columns = (moved[:, 0, 5, 5] % 10).int() - 5
    assert set(rows.tolist()) == set(columns.tolist()) == {-2, -1, 0, 1, 2}
    for image, dy, dx in zip(moved, rows.tolist(), columns.tolist(), strict=True):
        own = np.clip(np.arange(10) + dy, 0, 9)[:, None] * 10 + np.clip(np.arange(10) + dx, 0, 9)
        assert np.array_equal(image, np.stack([own, own]))
    assert torch.equal(augment.shift(images, np.random.default_rng(1), 0.05), images)  # < 1 px


def test_settings_reach_the_schedule():
    given = TrainSettings(
        optimiser="amsgrad",
        adam_epsilon=1.0,
        weight_decay_l2=1e-5,
        weight_decay_l2_modules=["left.0"],
        monitor="accuracy",
        reduce_epochs=6,
        reduce_factor=0.5,
        learning_rate_min=6e-7,
        stop_epochs=12,
    )
    assert Schedule.of(given) == Schedule(
        amsgrad=True,
        epsilon=1.0,
        weight_decay_l2=1e-5,
        weight_decay_l2_modules=("left.0",),
        monitor="accuracy",
        reduce_epochs=6,
        reduce_factor=0.5,
        learning_rate_min=6e-7,
        stop_epochs=12,
    )
    with pytest.raises(ValidationError, match="task fingerprint has no accuracy"):
        TrainSettings(task="fingerprint", monitor="accuracy")


def test_a_cut_network_is_trained_by_its_schedule(development, tmp_path, her2pipe):
    stores, sheet = development
    words = [
        *("--stages", "3", "--optimiser", "amsgrad", "--adam-epsilon", "0.1", "--shifts", "0.05"),
        *("--weight-decay-l2", "1e-5", "--reduce-epochs", "1", "--reduce-factor", "0.5"),
        *("--stop-epochs", "2", "--plateau-epochs", "0", "--max-epochs", "4"),
    ]
    code, text = her2pipe("train", *stores, tmp_path / "m", "--sheet", sheet, *SMALL, *words)
    assert code == 0, text
    rows = read_table(tmp_path / "m" / "history.tsv")
    rates = [float(row["learning_rate"]) for row in rows]
    losses = [float(row["validation_loss"]) for row in rows]
    assert rates == [1e-3 * 0.5 ** schedule.reductions(losses[:n], 1) for n in range(len(rows))]
    model, about = weights.load(tmp_path / "m")
    assert (about.stages, about.features) == (3, 48)
    assert costs.count_parameters(model).total < 100_000
    code, text = her2pipe("encode", stores[0], tmp_path / "e", "--model", tmp_path / "m")
    assert code == 0, text
