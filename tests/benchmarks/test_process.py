"""What the kernel says of this very process and of a child."""

import os
import subprocess
import sys
import time

from benchmarks.process import cpu_seconds, pss_bytes, tree


def test_a_tree_holds_its_children() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in tree(os.getpid())
        assert pss_bytes((child.pid,)) > 1_000_000
        child.communicate(b"\n")
    assert child.pid not in tree(os.getpid())


def test_cpu_time_is_work_and_not_waiting() -> None:
    before = cpu_seconds((os.getpid(),))
    busy_until = time.process_time() + 0.2
    while time.process_time() < busy_until:
        pass
    time.sleep(0.2)
    assert 0.15 < cpu_seconds((os.getpid(),)) - before < 0.35
