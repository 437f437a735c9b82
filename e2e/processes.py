"""Processes of a check, each with its log, gone when the check ends."""

import atexit
import json
import pathlib
import select
import subprocess
import tempfile

START_S = 60
END_S = 15

folder = tempfile.TemporaryDirectory(prefix="lethe-e2e-")
running = []


@atexit.register
def _():
    for process in reversed(running):
        process.terminate()
    for process in running:
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()


def start(name, *command):
    """Starts a process; its first line."""
    log = open(pathlib.Path(folder.name) / f"{name}.log", "a+")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    running.append(process)
    ready, _, _ = select.select([process.stdout], [], [], START_S)
    line = process.stdout.readline() if ready else ""
    if not line:
        log.seek(0)
        raise RuntimeError(f"{name} did not start within {START_S} s: {log.read()[-500:]}")
    return process, line.strip()


def role(lethe, name, command, *flags):
    """A role of the node, with a data folder of this name; what it says when it is ready."""
    data = pathlib.Path(folder.name) / name
    process, line = start(name, lethe, command, "--data", str(data), "--json", *flags)
    return process, json.loads(line)
