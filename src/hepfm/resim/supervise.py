"""Runs a program in a folder that lasts as long as its caller wants: `python supervise.py FOLDER PROGRAM ARGUMENT...`.

Started as a file of its own, not imported. Writes the program's exit status to standard output, and what it prints to
standard error. The caller holds the other end of standard input; the system closes it when the caller dies, even of a
kill that no handler sees. The program, if it still runs, is then killed with all that it started, and FOLDER deleted.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import suppress


def main() -> None:
    """Run the program of the command line, and delete the folder when the caller lets go of it."""
    folder, *words = sys.argv[1:]
    # A session of its own: Ctrl-C in the terminal is the campaign's business.
    program = subprocess.Popen(
        words, cwd=folder, stdin=subprocess.DEVNULL, stdout=sys.stderr, stderr=sys.stderr, start_new_session=True
    )
    caller = threading.Thread(target=_end_with_caller, args=(program,))
    caller.start()
    status = program.wait()
    with suppress(BrokenPipeError):
        os.write(sys.stdout.fileno(), b"%d\n" % (status if status >= 0 else 128 - status))
    caller.join()
    shutil.rmtree(folder, ignore_errors=True)


def _end_with_caller(program: "subprocess.Popen[bytes]") -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    if program.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
