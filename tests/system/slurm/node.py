"""A SLURM cluster of one node, for tests: scheduler, node, accounting and a pretended GPU.

    python tests/system/slurm/node.py install | check | start | stop | status

Runs as root from Debian's own packages; needs neither systemd nor cgroups. All state lies in one
folder (HER2PIPE_SLURM, or /tmp/her2pipe-slurm), but for a link at /etc/slurm/slurm.conf: the steps
of a job look for their configuration there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(os.environ.get("HER2PIPE_SLURM", "/tmp/her2pipe-slurm"))
LINK = Path("/etc/slurm/slurm.conf")
PACKAGES = ["slurm-wlm", "slurmdbd", "munge", "mariadb-server"]
PROGRAMS = ["munged", "mariadbd", "mariadb-install-db", "slurmdbd", "slurmctld", "slurmd", "sacct"]
DAEMONS = ["slurmd", "slurmctld", "slurmdbd", "mariadbd", "munged"]  # in the order they are stopped
# More than the machine has: a rule that asks for eight threads must fit, however slowly it runs.
CPUS, MEMORY_MB, GPUS = 32, 256_000, 2
DENY = Path("/usr/sbin/policy-rc.d")  # while it is there, installing a package starts no service

SLURM = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.sock,cred_expire=5
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.log
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={ports[2]}
AccountingStoragePass={folder}/run/munge.sock
AccountingStorageTRES=gres/gpu
AccountingStoreFlags=job_comment
# Without cgroups: processes are followed by /proc, and memory is polled every second.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
MpiDefault=none
ReturnToService=2
SlurmctldTimeout=30
SlurmdTimeout=20
InactiveLimit=0
KillWait=2
MinJobAge=300
CompleteWait=0
OverTimeLimit=0
JobRequeue=1
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:pretended:{gpus}
PartitionName=cpu Nodes={host} Default=YES MaxTime=1-0 DefaultTime=10 State=UP DefMemPerCPU=500
PartitionName=gpu Nodes={host} Default=NO MaxTime=7-0 DefaultTime=10 State=UP DefMemPerCPU=500
"""

SLURMDBD = """\
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.sock
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={ports[2]}
SlurmUser=root
LogFile={folder}/log/slurmdbd.log
PidFile={folder}/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={ports[3]}
StorageUser=slurm
StoragePass=tests
StorageLoc=slurm
"""

DATABASE = (
    "CREATE DATABASE IF NOT EXISTS slurm;"
    "CREATE USER IF NOT EXISTS 'slurm'@'127.0.0.1' IDENTIFIED BY 'tests';"
    "CREATE USER IF NOT EXISTS 'slurm'@'localhost' IDENTIFIED BY 'tests';"
    "GRANT ALL ON slurm.* TO 'slurm'@'127.0.0.1'; GRANT ALL ON slurm.* TO 'slurm'@'localhost';"
)


class CannotStartError(RuntimeError):
    """The node cannot be started here; the message says why."""


def why_not() -> str:
    """Say why a node cannot be started on this machine; empty when it can."""
    if os.geteuid() != 0:
        return "SLURM's daemons need root"
    missing = [name for name in PROGRAMS if not program(name)]
    if missing:
        return f"not installed: {', '.join(missing)}; python tests/system/slurm/node.py install"
    if LINK.exists() and LINK.resolve() != FOLDER / "slurm.conf":
        return f"this machine has a SLURM of its own: {LINK}"
    noted = FOLDER / "run/slurmctld.pid"
    if noted.exists() and alive(int(noted.read_text() or 0), "slurmctld"):
        return f"it runs already: {FOLDER}; python tests/system/slurm/node.py stop"
    return ""


def program(name: str) -> str | None:
    """Find a program, also where only root's PATH leads."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin")


def run(*words: str | Path, **more) -> subprocess.CompletedProcess:
    """Run a program by its full path and keep what it says."""
    command = [program(str(words[0])) or str(words[0]), *map(str, words[1:])]
    return subprocess.run(command, capture_output=True, text=True, check=False, **more)


def install() -> None:
    """Install the packages; nothing is started."""
    mine = not DENY.exists()
    if mine:
        DENY.write_text("#!/bin/sh\nexit 101\n")
        DENY.chmod(0o755)
    try:
        quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        words = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES]
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(words, check=True, env=quiet, stdout=subprocess.DEVNULL)
    finally:
        if mine:
            DENY.unlink()


def configure() -> None:
    """Write every configuration file anew, for ports that are free now."""
    for name in ("state", "spool", "log", "run", "munge", "gpu"):
        (FOLDER / name).mkdir(parents=True, exist_ok=True)
    FOLDER.chmod(0o755)
    (FOLDER / "munge").chmod(0o700)
    key = FOLDER / "munge/key"
    if not key.exists():
        key.touch(0o600)
        key.write_bytes(os.urandom(1024))
    host = socket.gethostname().split(".")[0]
    with contextlib.ExitStack() as stack:
        taken = [stack.enter_context(socket.socket()) for _ in range(4)]
        for one in taken:
            one.bind(("127.0.0.1", 0))
        ports = [one.getsockname()[1] for one in taken]
    facts = {"host": host, "folder": FOLDER, "ports": ports, "cpus": CPUS, "memory": MEMORY_MB}
    (FOLDER / "slurm.conf").write_text(SLURM.format(gpus=GPUS, **facts))
    (FOLDER / "cgroup.conf").write_text("CgroupAutomount=no\n")
    # A GPU must name a character device: any will do.
    gres = []
    for i in range(GPUS):
        device = FOLDER / f"gpu/{i}"
        if not device.is_symlink():
            device.symlink_to("/dev/null")
        gres.append(f"NodeName={host} Name=gpu Type=pretended File={device}\n")
    (FOLDER / "gres.conf").write_text("".join(gres))
    account = FOLDER / "slurmdbd.conf"
    account.touch(0o600)
    account.write_text(SLURMDBD.format(**facts))
    (FOLDER / "mariadb.port").write_text(str(ports[3]))


def wait_for(what: str, seconds: float, ready) -> None:
    """Wait until something is so, or raise with the logs of the daemons."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if ready():
            return
        time.sleep(0.2)
    message = "".join(
        f"== {log.name}\n{''.join(log.read_text(errors='replace').splitlines(True)[-15:])}"
        for log in sorted((FOLDER / "log").glob("*.log"))
    )
    raise CannotStartError(f"{what} is not ready after {seconds:.0f} s\n{message}")


def works(*words: str | Path) -> bool:
    """Whether a command succeeds within a few seconds."""
    try:
        return run(*words, timeout=5).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def start() -> None:
    """Start all daemons anew, in order, each when the one before it answers; no job is known."""
    if why := why_not():
        raise CannotStartError(why)
    stop()
    shutil.rmtree(FOLDER, ignore_errors=True)
    configure()
    folder = FOLDER
    said = run(
        "munged",
        f"--key-file={folder}/munge/key",
        f"--socket={folder}/run/munge.sock",
        f"--pid-file={folder}/run/munged.pid",
        f"--seed-file={folder}/munge/seed",
        f"--log-file={folder}/log/munged.log",
        "--force",
    )
    wait_for(
        f"munge ({said.stderr.strip()})",
        10,
        lambda: works("munge", "-S", folder / "run/munge.sock", "-n"),
    )
    start_database()
    LINK.parent.mkdir(exist_ok=True)
    LINK.unlink(missing_ok=True)
    LINK.symlink_to(folder / "slurm.conf")
    where = os.environ | {"SLURM_CONF": f"{folder}/slurm.conf"}
    run("slurmdbd", env=where)
    wait_for("slurmdbd", 60, lambda: works("sacctmgr", "-n", "list", "cluster"))
    user = run("id", "-un").stdout.strip()
    for words in (
        ("cluster", "tests"),
        ("account", "tests", "Description=tests", "Organization=tests"),
        ("user", user, "Account=tests", "DefaultAccount=tests"),
    ):
        run("sacctmgr", "-i", "-Q", "add", *words)
    run("slurmctld", "-f", folder / "slurm.conf", "-c")
    wait_for("slurmctld", 30, lambda: works("scontrol", "ping"))
    start_node()


def start_database() -> None:
    """Start the database that keeps the job records."""
    folder, data, sock = FOLDER, FOLDER / "mysql", FOLDER / "run/mysql.sock"
    if not (data / "mysql").is_dir():
        run(
            "mariadb-install-db",
            "--no-defaults",
            "--user=root",
            f"--datadir={data}",
            "--auth-root-authentication-method=socket",
            "--skip-test-db",
        )
    port = (folder / "mariadb.port").read_text()
    with (folder / "log/mariadbd.log").open("w") as log:
        subprocess.Popen(
            [
                program("mariadbd"),
                "--no-defaults",
                "--user=root",
                f"--datadir={data}",
                f"--socket={sock}",
                f"--pid-file={folder}/run/mariadbd.pid",
                f"--port={port}",
                "--bind-address=127.0.0.1",
                "--innodb-buffer-pool-size=64M",
                "--innodb-lock-wait-timeout=900",
            ],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    client = ["--no-defaults", "-S", sock]
    wait_for("mariadbd", 60, lambda: works("mariadb-admin", *client, "ping"))
    run("mariadb", *client, "-e", DATABASE)


def start_node() -> None:
    """Start the node's own daemon and wait until it takes jobs."""
    host = socket.gethostname().split(".")[0]
    run("slurmd", "-f", FOLDER / "slurm.conf", "-N", host, "-c")
    usable = ("idle", "mixed", "allocated")
    wait_for("the node", 60, lambda: run("sinfo", "-hN", "-o", "%T").stdout.startswith(usable))


def stop(daemons: list[str] | None = None) -> None:
    """Cancel all jobs; stop the daemons this script started, by the numbers they wrote down."""
    if daemons is None and works("scontrol", "ping"):
        run("scancel", "--user=root")
    for name in daemons or DAEMONS:
        noted = FOLDER / f"run/{name}.pid"
        if not noted.exists() or not noted.read_text().strip():
            continue
        number = int(noted.read_text())
        for kind, seconds in ((signal.SIGTERM, 15), (signal.SIGKILL, 5)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, kind)
            end = time.monotonic() + seconds
            while alive(number, name) and time.monotonic() < end:
                time.sleep(0.1)
        noted.unlink(missing_ok=True)
    if daemons is None and LINK.is_symlink() and LINK.readlink() == FOLDER / "slurm.conf":
        LINK.unlink()


def alive(number: int, name: str) -> bool:
    """Whether a process runs and is what it should be; a zombie does not count."""
    try:
        status = Path(f"/proc/{number}/stat").read_text()
    except OSError:
        return False
    return f"({name[:15]})" in status and ") Z " not in status


if __name__ == "__main__":
    verb = sys.argv[1] if len(sys.argv) == 2 else ""
    try:
        if verb == "status":
            print(run("sinfo", "-N", "-o", "%N %P %T %c %m %G").stdout, end="")
            print(run("squeue").stdout, end="")
        elif verb == "check":
            sys.exit(why_not() or 0)
        elif verb in ("install", "start", "stop"):
            {"install": install, "start": start, "stop": stop}[verb]()
        else:
            sys.exit(__doc__)
    except CannotStartError as problem:
        sys.exit(f"node.py: {problem}")
