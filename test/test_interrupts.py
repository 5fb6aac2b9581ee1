import os
import signal
import threading
import time

import numpy as np
import pytest

from pixloc_ros.interrupts import held, interruptible, let_through, never_ignored
from pixloc_ros.mapping import map_writer
from pixloc_ros.mapping.map_writer import MapWriter, atomic_map


@pytest.fixture(autouse=True)
def handlers():
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    before = {number: signal.getsignal(number) for number in numbers}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_held_interrupt_comes_at_the_end():
    done = []

    def work():
        with held():
            signal.raise_signal(signal.SIGINT)
            with held():
                done.append("inner")
            done.append("outer")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["inner", "outer"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with held():
        done.append("undisturbed")
    assert len(done) == 3


def test_interrupts_are_let_through_where_something_is_waited_for():
    done = []

    def work():
        with held():
            for number in interruptible(range(3)):
                done.append(number)
                signal.raise_signal(signal.SIGINT)
                done.append("whole")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == [0, "whole"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with held():
        assert list(interruptible("ab")) == ["a", "b"]
        with let_through():
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler


def test_nothing_is_held_for_other_threads():
    done = []

    def work():
        with held():
            done.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [signal.default_int_handler]


class Ended:
    def __init__(self, error):
        self.error = error

    def __del__(self):
        raise self.error


def test_an_interrupt_in_a_finalizer_comes_again():
    def work():
        with never_ignored():
            Ended(KeyboardInterrupt())
            time.sleep(10)

    with pytest.raises(KeyboardInterrupt):
        work()


def test_other_errors_in_finalizers_are_told(monkeypatch):
    told = []
    monkeypatch.setattr("sys.unraisablehook", told.append)
    with never_ignored():
        Ended(ValueError("x"))
    assert [str(what.exc_value) for what in told] == ["x"]


@pytest.mark.parametrize("when", ["append", "close"])
def test_hdf5_is_not_left_in_the_middle(tmp_path, monkeypatch, when):
    """An interrupt inside one of its callbacks is a failed write to it, at which it crashes."""
    write, interrupted, now = map_writer._Disk.write, [], ["append"]

    def interrupting(disk, data):
        if now[-1] == when and not interrupted:
            interrupted.append(when)
            signal.raise_signal(signal.SIGINT)
        return write(disk, data)

    def work():
        with atomic_map(tmp_path / "a.pixmap.h5") as file:
            # more than HDF5 keeps in memory
            rows = 1_000_000
            writer = MapWriter(file, [8], patches=False)
            writer.append(np.ones(rows), [(np.zeros((rows, 8)), np.zeros(rows))], None)
            now.append("close")

    monkeypatch.setattr(map_writer._Disk, "write", interrupting)
    with pytest.raises(KeyboardInterrupt):
        work()
    assert interrupted == [when]
    assert now[-1] == "close"
    assert not os.listdir(tmp_path)
