"""Serves the jobs of one run on one machine with forks of processes that have their imports done.

Snakemake starts `her2pipe VERB ...` for each job. In the shell of a run `her2pipe` is a function
that asks the run's server (`client.py`) by a bare Python, which starts in a third of the time, and
begins the command only where the server does not do the job. A *parent* imports what jobs of a step
are known to need (`libraries.py`), once, and each job is a fork of it; the first of each kind says
at its end which modules it has imported, and the parent imports what it lacks. First jobs of a step
that is not known do their work themselves, and say so as well. There are two parents at most for
each set of environment variables: one without torch, one with it. A parent has no threads, keeps no
file open and never touches a graphics card, so a fork begins where a process that has imported its
modules would.

Rules see nothing of it: the command, folder, environment, streams, umask, exit code, and signals
are the job's own; who kills the client kills the job. A job does its work itself where a fork would
not be the same: in a conda environment or an image, in another control group or under other limits
than the server's, on another machine, and whenever the server cannot answer.
"""
