"""A command as a user runs it: in a process of its own."""

import subprocess
import sys

TINY = ["--width", "4", "--batch", "2"]


def run(*args, code=0, script=None):
    """Run a command; returns what it printed. Errors must be one paragraph on stderr, never a traceback."""
    start = ["-c", script] if script else ["-m", "tinyseg"]
    done = subprocess.run([sys.executable, *start, *map(str, args)], capture_output=True, text=True, timeout=600)
    assert done.returncode == code, f"{args} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    if code > 0:
        assert done.stderr.startswith(("tinyseg", "usage:")) and "\n\n" not in done.stderr.strip()
    return done.stdout + done.stderr
