"""Asks a process server (`process_server.py`) to run Python code, and waits for its exit code."""

import json
import os
import socket

COMMAND = "import sys; from her2pipe.cli import main; sys.exit(main())"
SNAKEMAKE = "from snakemake.cli import main; main()"


def run(address, code, words, streams=(0, 1, 2), environment=None, folder=None):
    """Run code in a fork of the server; return its exit code, negative if a signal ended it.

    Parameters
    ----------
    address : str
        Path of the server's socket.
    code : str
        Python code.
    words : list of str
        Becomes sys.argv.
    streams : tuple of int
        File descriptors that become standard input, output and error.
    environment : dict, optional
        Environment variables; those of this process by default.
    folder : str, optional
        Working directory; that of this process by default.
    """
    request = {
        "code": code,
        "words": list(map(str, words)),
        "environment": dict(os.environ if environment is None else environment),
        "folder": str(folder or os.getcwd()),
    }
    text = json.dumps(request).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        socket.send_fds(connection, [len(text).to_bytes(8, "big")], streams)
        connection.sendall(text)
        answer = connection.recv(4)
    return int.from_bytes(answer, "big", signed=True) if len(answer) == 4 else 255
