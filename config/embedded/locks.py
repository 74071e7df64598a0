"""flock, as the processes of one home use it: the kernel lets go when a process ends, however."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def take(path: Path, *, shared: bool = False, wait: bool = False) -> int | None:
    """The lock, as an open file to be closed, or None if others have it and we do not wait."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if upgrade(descriptor, shared=shared, wait=wait):
        return descriptor
    os.close(descriptor)
    return None


def upgrade(descriptor: int, *, shared: bool = False, wait: bool = False) -> bool:
    """Take the lock on a file that is open already. False if others have it."""
    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(descriptor, how if wait else how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_held(path: Path) -> bool:
    """Whether some process has the lock for itself alone."""
    descriptor = take(path, shared=True)
    if descriptor is None:
        return True
    os.close(descriptor)
    return False


def is_shared(path: Path) -> bool:
    """Whether some process has the lock together with others."""
    for shared in (False, True):
        descriptor = take(path, shared=shared)
        if descriptor is not None:
            os.close(descriptor)
            return shared
    return False


def still_there(descriptor: int, path: Path) -> bool:
    """Whether the open file is the one at that path: false once its folder was deleted."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


@contextmanager
def held(path: Path) -> Iterator[None]:
    """The lock for ourselves alone; waits for it."""
    descriptor = take(path, wait=True)
    assert descriptor is not None, "waiting ends with the lock"
    try:
        yield
    finally:
        os.close(descriptor)
