"""Ctrl-C as a question."""

import signal
import threading

from .. import report


class Interrupt:
    """Ctrl-C as a question: the first sets `asked`, the second stops at once."""

    def __init__(self, progress: report.Progress):
        self.progress, self.asked = progress, False

    def __enter__(self):
        self.mine = threading.current_thread() is threading.main_thread()  # only there signals can be caught
        if self.mine:
            self.before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *_):
        if self.mine:
            signal.signal(signal.SIGINT, self.before)

    def _ask(self, *_):
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self.progress.say("stopping after this step (Ctrl-C again stops at once)")
