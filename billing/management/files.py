"""Files that a command writes: whole, or not at all, and never over another."""

import os
from collections.abc import Iterable
from pathlib import Path

from django.core.management.base import CommandError


def written(path: Path, pieces: Iterable[str]) -> None:
    """Write a new file piece by piece. Whoever looks for it finds it when it is whole."""
    if path.exists():
        raise CommandError(f"{path} is there already: name a new file")
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            file.writelines(pieces)
        os.link(part, path)
    except FileExistsError:
        raise CommandError(f"{path} is there already: name a new file") from None
    except OSError as error:
        raise CommandError(f"can't write {path}: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)
