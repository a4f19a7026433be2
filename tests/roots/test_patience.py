"""One thread per device: callers wait so long and no longer, and nothing is done twice or late."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from nodeclient.roots.base import RootBusy, RootError, RootQueued
from nodeclient.roots.patience import Patience

LONG, SHORT = 30.0, 0.05


def test_run__result_and_error__come_back() -> None:
    patience = Patience("device", LONG)
    assert patience.run(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        patience.run(lambda: 1 // 0)
    with pytest.raises(TimeoutError, match="own"):
        patience.run(own_timeout)
    patience.close(lambda: None)


def own_timeout() -> None:
    raise TimeoutError("own")


def test_run__device_that_hangs__is_given_up_and_works_again_later() -> None:
    patience, over, done = Patience("device", SHORT), threading.Event(), []
    with pytest.raises(RootBusy, match="device"):
        patience.run(over.wait)
    with pytest.raises(RootBusy) as caught:  # behind it: given up, so it is never made
        patience.run(lambda: done.append("late"))
    assert not isinstance(caught.value, RootQueued)
    over.set()
    last = threading.Event()
    patience.close(last.set)
    assert last.wait(LONG)
    assert done == []


def test_run__behind_another_call__is_no_fault_of_the_device() -> None:
    """A slow command of ours (an RSA key is derived) must not look like a device that is lost."""
    patience, begun, over = Patience("device", SHORT), threading.Event(), threading.Event()

    def slow() -> bool:
        begun.set()
        return over.wait(LONG)

    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(patience.run, slow, LONG)
        assert begun.wait(LONG)
        with pytest.raises(RootQueued, match="own commands"):
            patience.run(lambda: None)
        over.set()
        assert working.result(LONG), "it was waited for beyond the patience for other calls"
    assert patience.run(lambda: 7) == 7
    patience.close(lambda: None)


def test_run__device_that_hangs_while_it_is_let_go__is_silent() -> None:
    resting, over, used = threading.Event(), threading.Event(), threading.Event()

    def idle() -> None:
        if used.is_set():
            resting.set()
            over.wait(LONG)

    patience = Patience("device", SHORT, idle)
    patience.run(used.set, LONG)
    assert resting.wait(LONG)
    with pytest.raises(RootBusy, match="did not answer") as caught:
        patience.run(lambda: None)
    assert not isinstance(caught.value, RootQueued)
    over.set()
    patience.close(lambda: None)


def test_run__many_callers__one_at_a_time() -> None:
    patience, inside, most = Patience("device", LONG), [], []

    def call() -> None:
        inside.append(1)
        most.append(len(inside))
        inside.pop()

    callers = [threading.Thread(target=patience.run, args=(call,)) for _ in range(16)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert most == [1] * 16
    patience.close(lambda: None)


def test_close__root__ends_its_thread_and_refuses() -> None:
    patience, ended = Patience("device", LONG), []
    patience.run(lambda: None)
    patience.close(lambda: ended.append(1))
    patience.close(lambda: ended.append(2))
    patience._thread.join()
    assert ended == [1]
    with pytest.raises(RootError, match="closed"):
        patience.run(lambda: None)
