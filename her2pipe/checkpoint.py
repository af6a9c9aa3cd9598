"""What a training keeps on disk so that it goes on where it was killed, one process at a time."""

from __future__ import annotations

import shutil
import sys
from contextlib import suppress
from pathlib import Path

import torch

from her2pipe.errors import Her2Error
from her2pipe.files import replacing, this_process, write_text

Rows = list[dict[str, float]]


class Checkpoint:
    """The state after the last whole epoch, kept until the work is done.

    The folder belongs to the process that claimed it last. One that lost it (Snakemake was killed,
    its job was not, and the next run does the same work) stops at its next epoch.

    Parameters
    ----------
    folder : path
        Outside the step's own output, which Snakemake deletes before it runs a job again.
    digest : str
        Of everything the training depends on. A checkpoint of another digest is never used.
    """

    def __init__(self, folder: str | Path, digest: str = ""):
        self.folder, self.digest = Path(folder), digest
        self._file, self._owner = self.folder / "checkpoint.pt", self.folder / "owner"
        self.best: dict[str, torch.Tensor] = {}  # weights of the best epoch, where it is sought
        self._claimed = False

    @classmethod
    def beside(cls, folder: str | Path, digest: str = "") -> Checkpoint:
        """Keep the state in a hidden folder beside an output folder."""
        folder = Path(folder)
        return cls(folder.with_name(f".{folder.name}.resume"), digest)

    def claim(self) -> Path:
        """Take the folder over, at the first call, and return it."""
        for _ in range(0 if self._claimed else 9):
            with suppress(FileNotFoundError):  # whoever had it is just removing it: once more
                write_text(self._owner, this_process())
                self._claimed = True
                break
        return self.folder

    def _is_own(self) -> bool:
        try:
            return self._owner.read_text() == this_process()
        except FileNotFoundError:
            return False

    def check(self) -> None:
        """Refuse to go on with work that another process has begun anew, or ended.

        Raises
        ------
        Her2Error
            When the folder was claimed by another since, or is gone.
        """
        if self._claimed and not self._is_own():
            raise Her2Error(
                "another process has taken this training over",
                str(self.folder),
                "nothing: this one ends here, the other writes the result",
            )

    def save(self, model, optimiser, history: Rows) -> None:
        """Keep weights, optimiser, random state and history, in place of the last ones."""
        self.check()
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        state = {
            "digest": self.digest,
            "model": model.state_dict(),
            "optimiser": optimiser.state_dict(),
            "random": [torch.get_rng_state(), *cuda],
            "history": history,
            "best": self.best,
        }
        with replacing(self._file) as part:
            torch.save(state, part)

    def restore(self, model, optimiser) -> Rows:
        """Claim the folder, put the state back, and return the history.

        It is empty when there is nothing to go on.

        Raises
        ------
        Her2Error
            When the checkpoint is damaged.
        """
        self.claim()
        try:
            state = torch.load(self._file, map_location="cpu", weights_only=True)
            if state["digest"] != self.digest:
                print(f"checkpoint {self._file} is of other settings or data: starting anew",
                      file=sys.stderr)  # fmt: skip
                return []
            model.load_state_dict(state["model"])
            optimiser.load_state_dict(state["optimiser"])
            self.best = state["best"]
        except FileNotFoundError:
            return []
        except (RuntimeError, ValueError, KeyError, EOFError) as error:
            raise Her2Error(
                f"the checkpoint is damaged: {str(error).splitlines()[0]}",
                str(self._file),
                "delete it; training starts anew",
            ) from None
        own, *cuda = state["random"]
        torch.set_rng_state(own)
        if cuda and torch.cuda.is_available() and len(cuda) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(cuda)
        print(f"going on after epoch {len(state['history'])}, kept in {self._file}",
              file=sys.stderr)  # fmt: skip
        return state["history"]

    def remove(self) -> None:
        """Forget the state: the work is done and its outputs are written."""
        if self._is_own():
            shutil.rmtree(self.folder, ignore_errors=True)
