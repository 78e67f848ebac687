"""Runs a program that ends when its caller does, however that ends: `python supervise.py PROGRAM ARGUMENT...`.

Started as a file of its own, not imported. The caller holds the other end of standard input; the system
closes it when the caller dies, even of a kill that no handler sees, and the program with all that it
started is then killed.
"""

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress


def main() -> None:
    """Run the program of the command line and end with its exit status."""
    # A session of its own: Ctrl-C in the terminal is the campaign's business.
    program = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True)
    threading.Thread(target=_end_with_caller, args=(program.pid,), daemon=True).start()
    status = program.wait()
    sys.exit(status if status >= 0 else 128 - status)


def _end_with_caller(program: int) -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    with suppress(ProcessLookupError):
        os.killpg(program, signal.SIGKILL)


if __name__ == "__main__":
    main()
