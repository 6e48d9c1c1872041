"""Work in a child process: what crashes, hangs or is stopped by a sanitizer there is only a result here."""

import os
import signal
import sys
import time
import traceback


def forked(work, seconds: float = 60, quiet: bool = True) -> int:
    """The exit status of work() in a child: 0 where it returned, 1 where it raised, 124 where it took too long,
    -signal where it was killed, and a sanitizer's own status."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if quiet:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, 1)
                os.dup2(nowhere, 2)
            status = int(work() or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    deadline = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return 124
        time.sleep(0.01)
