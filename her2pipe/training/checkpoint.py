"""What a training keeps on disk so that it resumes where it was killed, one process at a time."""

from __future__ import annotations

import errno
import logging
import os
from contextlib import suppress
from pathlib import Path

import torch

from her2pipe.errors import Her2Error, is_out_of_memory
from her2pipe.files import replacing, this_process, write_text, writing

SYSTEM_ERRORS = (errno.EACCES, errno.EPERM, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ESTALE)

log = logging.getLogger(__name__)

Rows = list[dict[str, float]]
State = dict[str, torch.Tensor]  # weights of a network, by name


class Checkpoint:
    """The state after the last epoch that was saved, kept until the work is done.

    The folder belongs to the process that claimed it last. One that lost it (Snakemake was killed,
    its job was not, and the next run does the same work) stops at its next epoch. On one machine
    the younger of two processes has it, even if the elder comes to its claim later.

    Parameters
    ----------
    folder : path
        Outside the step's own output, which Snakemake deletes before it runs a job again.
    digest : str
        Of everything the training depends on. A checkpoint of another digest is never used.
    name : str
        Name of the training, where one folder keeps several.
    """

    def __init__(self, folder: str | Path, digest: str = "", name: str = "checkpoint"):
        self.folder, self.digest = Path(folder), digest
        self._file, self._owner = self.folder / f"{name}.pt", self.folder / "owner"
        self.best: dict[int, State] = {}  # weights of the best epochs by their number, best first
        self._claimed = ""  # by which process; its forks work for it

    @property
    def exists(self) -> bool:
        """Whether an epoch of the training is kept."""
        return self._file.is_file()

    def fold(self, number: int) -> Checkpoint:
        """Return the checkpoint of one of several trainings of the same work, in the same folder.

        What is kept of a training that has ended stays until all are: resuming it ends at once.
        """
        part = Checkpoint(self.folder, f"{self.digest}/{number}", f"fold{number}")
        part._claimed = self._claimed
        return part

    @classmethod
    def beside(cls, folder: str | Path, digest: str = "") -> Checkpoint:
        """Keep the state in a hidden folder beside an output folder."""
        folder = Path(folder)
        return cls(folder.with_name(f".{folder.name}.resume"), digest)

    def claim(self) -> Path:
        """Take the folder over, at the first call, and return it.

        Raises
        ------
        Her2Error
            When a younger process of this machine is at work in it.
        """
        for _ in range(0 if self._claimed else 9):
            if _is_elder(self._read()):
                raise self._lost()
            with suppress(FileNotFoundError):  # whoever had it is just removing it: once more
                write_text(self._owner, here := _here())
                self._claimed = here
                break
        return self.folder

    def _read(self) -> str:
        try:
            return self._owner.read_text()
        except FileNotFoundError:
            return ""

    def _lost(self) -> Her2Error:
        return Her2Error(
            "another process has taken this training over",
            str(self.folder),
            "nothing: this one ends here, the other writes the result",
        )

    def check(self) -> None:
        """Refuse to go on with work that another process has begun anew, or ended.

        Raises
        ------
        Her2Error
            When the folder was claimed by another since, or is gone.
        """
        if self._claimed and self._read() != self._claimed:
            raise self._lost()

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
        with replacing(self._file) as part, writing(self._file, part) as file:
            torch.save(state, file)

    def restore(self, model, optimiser) -> Rows:
        """Claim the folder, put the state back, and return the history.

        It is empty when there is nothing to go on.

        Raises
        ------
        Her2Error
            When the checkpoint is damaged, or a younger process has the folder.
        """
        self.claim()
        try:
            state = torch.load(self._file, map_location="cpu", weights_only=True)
            if state["digest"] != self.digest:
                log.info("checkpoint %s is of other settings or data: starting anew", self._file)
                return []
            model.load_state_dict(state["model"])
            optimiser.load_state_dict(state["optimiser"])
            self.best = dict(state["best"])
            history = [dict(row) for row in state["history"]]
            cpu, *cuda = state["random"]
            torch.set_rng_state(cpu)
        except FileNotFoundError:
            return []
        except Exception as error:  # unpickling, zip archives and torch meet damage in any way
            if is_out_of_memory(error) or getattr(error, "errno", None) in SYSTEM_ERRORS:
                raise
            reason = next(iter(str(error).splitlines()), "") or type(error).__name__
            raise Her2Error(
                f"the checkpoint is damaged, or none of ours: {reason}",
                str(self._file),
                "delete it; training starts anew",
            ) from None
        if cuda and torch.cuda.is_available() and len(cuda) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(cuda)
        epochs = len(history)
        log.info("resuming after epoch %d, kept in %s", epochs, self._file)
        return history

    def release(self) -> bool:
        """Give the folder up, if it is this process's; what is kept in it stays."""
        if self._read() != (self._claimed or _here()):
            return False
        self._owner.unlink(missing_ok=True)
        with suppress(OSError):  # something is kept
            self.folder.rmdir()
        return True

    def remove(self) -> None:
        """Forget the state: the work is done and its outputs are written."""
        if self.release():  # first: whoever claims the folder from now on keeps it
            with suppress(OSError):
                for file in self.folder.iterdir():
                    if file != self._owner:
                        file.unlink(missing_ok=True)
                self.folder.rmdir()


def _here() -> str:
    """Name this process and its start: host~number~ticks."""
    return f"{this_process()}~{_started(os.getpid())}"


def _started(process: int | str) -> int:
    """Return when a process of this machine started, in ticks since boot; 0: it does not live."""
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return 0


def _is_elder(owner: str) -> bool:
    """Whether the owner lives on this machine, and started after this process."""
    host, number, started = owner.split("~") if owner else ("", "0", "0")
    this_host, this_number, this_start = _here().split("~")
    alive = host == this_host and number != this_number and _started(number) == int(started)
    return alive and int(started) > int(this_start)
