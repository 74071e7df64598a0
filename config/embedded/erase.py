"""`python -m config.embedded.erase`: remove the embedded database, and all else in the home."""

import shutil
import sys
import time
from contextlib import suppress

from config.embedded import locks, places

# By name: the home may be a folder that somebody also keeps other things in.
CONTENTS = (
    "postgresql",
    "logs",
    "mail",
    "secrets",
    "*.lock",
    "*.json",
    "*.mark",
    "celerybeat-*",
    "stripe-*",
)
PATIENCE_SECONDS = 3.0  # the keeper of a command that has just ended takes a moment


def main() -> None:
    home = places.home()
    if not home.exists():
        return
    deadline = time.monotonic() + PATIENCE_SECONDS
    while locks.is_held(places.keeper_lock(home)):
        if time.monotonic() > deadline:
            sys.exit(f"error: {home} is in use: end manage.py up, or whatever uses its database.")
        time.sleep(0.1)
    found = [places.database_folder(home), *(path for c in CONTENTS for path in home.glob(c))]
    for path in found:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    with suppress(OSError):  # somebody's other things
        home.rmdir()


if __name__ == "__main__":
    main()
