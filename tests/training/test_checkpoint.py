"""Checkpoints: a state comes back as it was saved, and belongs to one process and one work."""

import pytest
import torch

from her2pipe.errors import Her2Error
from her2pipe.training.checkpoint import Checkpoint


def pair(seed):
    """Return a small network with its optimiser, a step taken."""
    torch.manual_seed(seed)
    model = torch.nn.Linear(3, 2)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.1)
    model(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    return model, optimiser


def test_a_state_comes_back_as_it_was_saved(tmp_path):
    saved = Checkpoint(tmp_path / "resume", "digest")
    saved.claim()
    model, optimiser = pair(1)
    saved.best = {2: {"weight": torch.ones(1)}}
    history = [{"epoch": 1.0, "train_loss": 0.5}]
    saved.save(model, optimiser, history)
    following = torch.rand(3)  # drawn after the state was saved

    other, other_optimiser = pair(2)
    restored = Checkpoint(tmp_path / "resume", "digest")
    assert restored.restore(other, other_optimiser) == history
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True)
    )
    moments = [o.state_dict()["state"][0]["exp_avg"] for o in (optimiser, other_optimiser)]
    assert torch.equal(*moments)
    assert torch.equal(restored.best[2]["weight"], torch.ones(1))
    assert torch.equal(torch.rand(3), following)


def test_nothing_to_resume_is_an_empty_history(tmp_path):
    checkpoint = Checkpoint.beside(tmp_path / "swin-t")
    assert checkpoint.restore(*pair(1)) == []
    assert checkpoint.folder == tmp_path / ".swin-t.resume"


def test_folds_keep_states_of_their_own_until_all_are_done(tmp_path):
    whole = Checkpoint(tmp_path / "resume", "digest")
    whole.claim()
    for number in (0, 1):
        whole.fold(number).save(*pair(number), [{"epoch": float(number)}])
    assert [whole.fold(n).restore(*pair(5)) for n in (0, 1)] == [[{"epoch": 0.0}], [{"epoch": 1.0}]]
    assert not whole.exists
    whole.remove()
    assert not whole.folder.exists()


def test_a_finished_training_leaves_nothing_and_a_released_one_its_state(tmp_path):
    kept, done = (Checkpoint(tmp_path / name, "digest") for name in ("kept", "done"))
    for checkpoint in (kept, done):
        checkpoint.claim()
        checkpoint.save(*pair(1), [])
    assert kept.release()
    assert [path.name for path in kept.folder.iterdir()] == ["checkpoint.pt"]
    done.remove()
    assert not done.folder.exists()


def test_a_state_that_another_process_took_over_is_not_overwritten(tmp_path, monkeypatch):
    checkpoint = Checkpoint(tmp_path / "resume", "digest")
    checkpoint.claim()
    checkpoint.save(*pair(1), [])
    (checkpoint.folder / "owner").write_text("another-node~7~0")
    with pytest.raises(Her2Error, match="another process has taken this training over"):
        checkpoint.save(*pair(2), [])
    assert not checkpoint.release()
    checkpoint.remove()
    assert checkpoint.exists
