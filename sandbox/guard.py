"""Ends the sandbox's processes when the sandbox itself was killed and could not.

It reads from a pipe that only the supervisor holds open: `+<process group>` when one starts, `-<process
group>` when one has ended. The end of the pipe is the end of the supervisor: what is left then is killed.
Run as a file with `python -I -S`: it must cost next to nothing.
"""

import contextlib
import os
import signal
import sys


def main() -> None:
    groups: set[int] = set()
    for line in sys.stdin:
        change, group = line[0], int(line[1:])
        if change == "+":
            groups.add(group)
        else:
            groups.discard(group)
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
