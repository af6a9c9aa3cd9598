"""The loop of learnt aggregations: when it stops, what it keeps, and what it draws."""

import numpy as np
import pytest
import torch

from her2pipe.config import FitSettings
from her2pipe.errors import Her2Error
from her2pipe.training import fitting


class One(torch.nn.Module):
    """A network of one weight, which every step raises."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))


def task(losses, aucs=None, by_auc=False):
    """A task whose held-out losses, and AUCs of two slides, are given by epoch."""
    epochs = iter(range(len(losses)))

    def check(network):
        epoch = next(epochs)
        return losses[epoch], np.array([0.0, (aucs or [1] * len(losses))[epoch] - 0.5])

    return fitting.Task(
        network=One,
        steps=lambda random: [np.array([0])],
        loss=lambda network, chosen, random: (-network.weight).sum(),
        check=check,
        positive=np.array([False, True]),
        by_auc=by_auc,
    )


def settings(**changes):
    usual = {"max_epochs": 30, "min_epochs": 0, "patience": 3, "device": "cpu", "weight_decay": 0}
    return FitSettings(**usual | changes)


def test_it_stops_after_patience_and_keeps_the_best():
    """Loss is least in epoch 4; three worse epochs end it; Adam raised the weight 4 times."""
    members, history = fitting.learn(task([4, 3, 2, 1, 2, 1, 3, 0]), settings(), 1)
    assert len(history) == 7
    assert len(members) == 1
    assert members[0]["weight"] == pytest.approx(4 * 2e-4, rel=1e-3)


def test_it_does_not_stop_before_the_least_epochs():
    _, history = fitting.learn(task([1] + [2] * 29), settings(min_epochs=12), 1)
    assert len(history) == 12
    _, history = fitting.learn(task([1] + [2] * 29), settings(patience=99), 1)
    assert len(history) == 30


def test_the_best_epochs_are_kept_by_auc_then_loss_then_age():
    losses, aucs = [5, 4, 3, 2, 2], [0, 1, 1, 0, 1]
    found, _ = fitting.learn(
        task(losses, aucs, by_auc=True), settings(best_epochs=3, max_epochs=5, patience=9), 1
    )
    order = [round(float(member["weight"][0]) / 2e-4) for member in found]
    assert order == [5, 3, 2]


def test_a_loss_that_is_no_number_stops():
    with pytest.raises(Her2Error, match="nan in validation in epoch 2"):
        fitting.learn(task([1.0, float("nan")]), settings(), 1)


def test_auc_by_hand():
    positive = np.array([True, False, True, False])
    assert fitting.auc(positive, np.array([0.9, 0.1, 0.4, 0.4])) == pytest.approx(3.5 / 4)


def test_balanced_draws_each_class_as_often():
    targets = np.array([0] * 90 + [1] * 10)
    random = np.random.default_rng(1)
    drawn = np.concatenate(
        [np.concatenate(fitting.balanced(targets, 8, random)) for _ in range(50)]
    )
    assert len(drawn) == 5000
    assert targets[drawn].mean() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(("negative", "positive"), [(40, 40), (50, 14), (61, 2), (3, 2)])
def test_stratified_steps_hold_both_classes(negative, positive):
    targets = np.array([0] * negative + [1] * positive)
    steps = fitting.stratified(targets, 8, np.random.default_rng(1))
    assert len(steps) == max(1, round(len(targets) / 8))
    assert all(set(targets[step]) == {0, 1} for step in steps)
    assert set(np.concatenate(steps)) == set(range(len(targets)))  # nobody is left out
    sizes = [len(step) for step in steps]
    assert max(sizes) - min(sizes) <= 1


def test_the_standardiser_is_of_all_rows():
    parts = [np.array([[1.0, 5.0], [3.0, 5.0]]), np.array([[5.0, 5.0]])]
    found = fitting.standardiser(parts)
    assert found["mean"].tolist() == [3, 5]
    assert found["std"] == pytest.approx([np.std([1, 3, 5]), 1])  # a constant column stays


def test_progress_of_other_data_or_a_broken_file_is_not_used(tmp_path, capsys):
    path = tmp_path / "checkpoint"
    kept = fitting.Progress(path, "one", 0)
    kept.fold([{"weight": np.ones(2, np.float32)}], [{"epoch": 1}])
    again = fitting.Progress(path, "one", 0)
    assert again.done[0][0][0]["weight"].tolist() == [1, 1]
    assert again.done[0][1] == [{"epoch": 1}]
    assert "going on in fold 2" in capsys.readouterr().err
    assert fitting.Progress(path, "two", 0).done == []
    path.write_bytes(b"half a file")
    assert fitting.Progress(path, "one", 0).done == []
    assert "cannot be read" in capsys.readouterr().err
    again.remove()
    assert not path.exists()
