"""An HTCondor pool of one node, for tests: all its daemons, and two pretended GPUs.

    python tests/system/cluster/pool.py install | check | start | stop | status

The daemons run as an ordinary user, as does what submits to them: HTCondor takes no jobs from root.
So where this script runs as root, it runs them in a user namespace in which root has another name
and the same files. `install` unpacks Debian's own package and what it needs into a folder; nothing
of the system changes, but for patchelf, which makes the programs find their libraries there.
All lies in one folder (HER2PIPE_HTCONDOR, or /tmp/her2pipe-htcondor).
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(os.environ.get("HER2PIPE_HTCONDOR", "/tmp/her2pipe-htcondor"))
ROOT = FOLDER / "root"  # Debian's packages, unpacked
STATE = FOLDER / "state"
RELEASE = "trixie"  # bookworm has no HTCondor
USER = "games"  # any user that every Debian has; nothing of it is used but its number
VARIABLES = {"CONDOR_CONFIG": str(STATE / "condor_config")}  # of what speaks to the pool
PROGRAMS = ("sbin/condor_master", "bin/condor_status")
# More than the machine has: a rule that asks for eight threads must fit, however slowly it runs.
CPUS, MEMORY_MB = 32, 256_000

CONFIGURATION = """\
RELEASE_DIR = {root}/usr
LIBEXEC = {root}/usr/libexec/condor
LIB = {root}/usr/lib
LOCAL_DIR = {state}
LOG = {state}/log
SPOOL = {state}/spool
EXECUTE = {state}/execute
LOCK = {state}/lock
RUN = {state}/lock
CONDOR_HOST = 127.0.0.1
NETWORK_INTERFACE = 127.0.0.1
COLLECTOR_HOST = 127.0.0.1:0
SHARED_PORT_PORT = 0
use ROLE : CentralManager
use ROLE : Submit
use ROLE : Execute
# Reachable from this machine only. The client of the Python package is newer than the daemons: with
# the method FS they do not understand each other.
SEC_DEFAULT_AUTHENTICATION_METHODS = CLAIMTOBE
SEC_CLIENT_AUTHENTICATION_METHODS = CLAIMTOBE
SEC_READ_AUTHENTICATION_METHODS = CLAIMTOBE
SEC_WRITE_AUTHENTICATION_METHODS = CLAIMTOBE
ALLOW_CLIENT = *
ALLOW_READ = *
ALLOW_WRITE = *
ALLOW_DAEMON = *
ALLOW_NEGOTIATOR = *
ALLOW_ADMINISTRATOR = *
NUM_CPUS = {cpus}
MEMORY = {memory}
MACHINE_RESOURCE_GPUs = pretended-0, pretended-1
NUM_SLOTS = 1
NUM_SLOTS_TYPE_1 = 1
SLOT_TYPE_1 = 100%
SLOT_TYPE_1_PARTITIONABLE = TRUE
START = TRUE
# What follows a job would go on to the next one; in 23.9 that may end in an endless error.
SHADOW_WORKLIFE = 0
MachineMaxVacateTime = 2
SUSPEND = FALSE
PREEMPT = FALSE
KILL = FALSE
RunBenchmarks = FALSE
NEGOTIATOR_INTERVAL = 1
NEGOTIATOR_CYCLE_DELAY = 1
NEGOTIATOR_MIN_INTERVAL = 1
SCHEDD_INTERVAL = 2
UPDATE_INTERVAL = 5
BASE_CGROUP =
USE_PROCD = FALSE
"""


class CannotStartError(RuntimeError):
    """The pool cannot be started here; the message says why."""


def as_user() -> list[str]:
    """Return the words before a command that must not be root's."""
    if os.geteuid() != 0:
        return []
    user = pwd.getpwnam(USER)
    return ["unshare", "--user", f"--map-user={user.pw_uid}", f"--map-group={user.pw_gid}"]


def run(name: str, *words: str, **more) -> subprocess.CompletedProcess:
    """Run one of HTCondor's programs and keep what it says."""
    command = [*as_user(), f"{ROOT}/usr/{name}", *words]
    more = {"env": os.environ | VARIABLES, "capture_output": True, "text": True} | more
    return subprocess.run(command, check=False, **more)


def why_not() -> str:
    """Say why a pool cannot be started on this machine; empty when it can."""
    missing = [name for name in PROGRAMS if not (ROOT / "usr" / name).exists()]
    if missing:
        return f"not installed: {', '.join(missing)}; python tests/system/cluster/pool.py install"
    if subprocess.run([*as_user(), "true"], capture_output=True, check=False).returncode:
        return "no user namespaces here, and HTCondor takes no jobs from root"
    if master():
        return f"it runs already: {FOLDER}; python tests/system/cluster/pool.py stop"
    return ""


def install() -> None:
    """Unpack HTCondor and all that it needs; as root for patchelf alone."""
    if not shutil.which("patchelf"):
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        words = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "patchelf"]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(ROOT, ignore_errors=True)
    fetched = fetch(FOLDER / "apt")
    unpacked = FOLDER / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    for package in fetched:
        subprocess.run(["dpkg-deb", "-x", package, unpacked], check=True)
    link(unpacked)
    unpacked.rename(ROOT)
    shutil.rmtree(FOLDER / "apt")


def fetch(folder: Path) -> list[Path]:
    """Fetch the packages from where this machine has its own, from a newer release."""
    said = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(COMPONENT) $(SUITE)", "-q"],
        capture_output=True,
        text=True,
        check=True,
    )
    archives = [line.split() for line in said.stdout.splitlines() if line]
    places = [place for place, part, suite in archives if part == "main" and "-" not in suite]
    if not places:
        raise CannotStartError("apt names no archive of Debian")
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    sign = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
    (folder / "sources").write_text(f"deb {sign} {places[0]} {RELEASE} main\n")
    (folder / "status").touch()  # of a machine that has no package: all that is needed is fetched
    options = {
        "Dir::Etc::sourcelist": folder / "sources",
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": folder / "lists",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "",
    }
    words = ["apt-get", "-qq", *(word for k, v in options.items() for word in ("-o", f"{k}={v}"))]
    subprocess.run([*words, "update"], check=True)
    fetching = ["install", "-y", "--download-only", "--no-install-recommends", "condor"]
    subprocess.run([*words, *fetching], check=True, stdout=subprocess.DEVNULL)
    return sorted((folder / "cache/archives").glob("*.deb"))


def link(folder: Path) -> None:
    """Make the programs find their libraries where they will lie, of another release than here."""
    for program in (*folder.glob("usr/*bin/condor_*"), *folder.glob("usr/libexec/condor/*")):
        if program.is_symlink() or not program.is_file():
            continue
        with program.open("rb") as file:
            if file.read(4) != b"\x7fELF":
                continue
        libraries = f"{ROOT}/usr/lib:{ROOT}/usr/lib/x86_64-linux-gnu"
        loader = f"{ROOT}/usr/lib64/ld-linux-x86-64.so.2"
        words = ["--set-interpreter", loader, "--force-rpath", "--set-rpath", libraries]
        subprocess.run(["patchelf", *words, program], check=False, capture_output=True)


def master() -> int:
    """Return the number of the running master process; 0 if there is none."""
    noted = STATE / "log/MasterLog.pid"
    number = int(noted.read_text()) if noted.exists() else 0
    try:
        name = Path(f"/proc/{number}/comm").read_text().strip() if number else ""
        state = Path(f"/proc/{number}/stat").read_text().rpartition(") ")[2][0] if number else ""
    except OSError:
        return 0
    return number if name == "condor_master" and state != "Z" else 0


def start() -> None:
    """Start all daemons anew; no job is known."""
    if why := why_not():
        raise CannotStartError(why)
    shutil.rmtree(STATE, ignore_errors=True)
    for name in ("log", "spool", "execute", "lock"):
        (STATE / name).mkdir(parents=True)
    text = CONFIGURATION.format(root=ROOT, state=STATE, cpus=CPUS, memory=MEMORY_MB)
    (STATE / "condor_config").write_text(text)
    said = run("sbin/condor_master", "-pidfile", str(STATE / "log/MasterLog.pid"))
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if run("bin/condor_status", "-af", "Name").stdout.strip():
            return
        time.sleep(0.5)
    logs = [f"== {log.name}\n{log.read_text()[-1500:]}" for log in (STATE / "log").glob("*Log")]
    raise CannotStartError(f"the pool is not ready after 60 s: {said.stderr}\n{''.join(logs)}")


def stop() -> None:
    """End all jobs and daemons that this script started."""
    number = master()
    for kind, seconds in ((signal.SIGQUIT, 15), (signal.SIGKILL, 5)):
        if master():
            os.kill(number, kind)
        end = time.monotonic() + seconds
        while master() and time.monotonic() < end:
            time.sleep(0.1)


if __name__ == "__main__":
    verb = sys.argv[1] if len(sys.argv) == 2 else ""
    try:
        if verb == "status":
            print(run("bin/condor_status").stdout, run("bin/condor_q").stdout, end="")
        elif verb == "check":
            sys.exit(why_not() or 0)
        elif verb in ("install", "start", "stop"):
            {"install": install, "start": start, "stop": stop}[verb]()
        else:
            sys.exit(__doc__)
    except CannotStartError as problem:
        sys.exit(f"pool.py: {problem}")
