import io
import os
import signal

import pytest

from tinyseg.report import Progress
from tinyseg.train.interrupt import Interrupt


def test_the_first_ctrl_c_asks_and_the_second_stops():
    before = signal.getsignal(signal.SIGINT)
    with Interrupt(Progress(io.StringIO())) as interrupt:
        assert not interrupt.asked
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            signal.sigtimedwait([], 1)
    assert signal.getsignal(signal.SIGINT) is before
