"""One service on a leash: `python -m config.embedded.leash COMMAND…`, started by the supervisor.

We lead a process group with the service in it, and hold the reading end of a pipe from the
supervisor. A byte on it says that the service shall end in its own time. If the pipe just ends,
the supervisor was killed, and so is the service: nothing it does can be harmed by that. Whichever
ends first, the service or the supervisor, the group ends too: no child of a service outlives it.
"""

import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress

POLL_SECONDS = 0.1
GRACE_SECONDS = 15.0  # a worker takes four, even if it has nothing to do


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # The pipe is the only way to end us. A handler, as children would inherit SIG_IGN.
        signal.signal(number, lambda *_: None)
    service = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)  # noqa: S603
    while service.poll() is None:
        word, _, _ = select.select([sys.stdin], [], [], POLL_SECONDS)
        if word:
            if os.read(sys.stdin.fileno(), 1):
                end_in_time(service)
            break
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    print(f"{moment} leash: ended with {service.poll()}", file=sys.stderr, flush=True)  # noqa: T201
    os.killpg(os.getpgrp(), signal.SIGKILL)


def end_in_time(service: "subprocess.Popen[bytes]") -> None:
    service.terminate()
    with suppress(subprocess.TimeoutExpired):
        service.wait(GRACE_SECONDS)


if __name__ == "__main__":
    main()
