"""The ledger on the oldest PostgreSQL that is supported, where its server is installed."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config.embedded import places
from config.embedded.postgresql import Account

OLDEST = 15
ALREADY_THERE = "RUNLEDGER_TESTED_ON_OLDER_POSTGRESQL"


def programs() -> Path | None:
    """Where PostgreSQL 15's programs are: on the PATH, or where Debian puts them."""
    on_path = shutil.which("initdb")
    for folder in (Path(f"/usr/lib/postgresql/{OLDEST}/bin"), on_path and Path(on_path).parent):
        if folder and (folder / "postgres").exists():
            version = subprocess.run(
                [folder / "postgres", "--version"], capture_output=True, text=True, check=True
            ).stdout
            if f" {OLDEST}." in version:
                return Path(folder)
    return None


@pytest.fixture
def server() -> Iterator[str]:
    """The URL of a PostgreSQL 15 of its own; gone afterwards."""
    found = programs()
    if found is None or ALREADY_THERE in os.environ:
        pytest.skip("no PostgreSQL 15 here, or this is the run on it")
    account = Account.choose()
    folder = Path(tempfile.mkdtemp(prefix="rl15-", dir="/var/tmp"))
    account.own(folder)
    identity: dict[str, Any] = {"user": account.user, "group": account.group, "cwd": folder}
    subprocess.run(
        [found / "initdb", "-D", folder / "data", "-U", "runledger", "-A", "trust", "--no-sync"],
        capture_output=True,
        check=True,
        **identity,
    )
    process = subprocess.Popen(
        [
            found / "postgres",
            "-D",
            folder / "data",
            "-k",
            folder,
            "-h",
            "",
            "-c",
            "fsync=off",
            "-c",
            "jit=off",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **identity,
    )
    try:
        deadline = time.monotonic() + 60
        while not list(folder.glob(".s.PGSQL.5432")):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield f"postgresql://runledger@/postgres?host={folder}"
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def test_the_ledgers_tests_pass_on_postgresql_15_too(server):
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests/ledger"],
        cwd=places.CHECKOUT,
        env=os.environ | {"DATABASE_URL": server, "RUNLEDGER_DEVELOPMENT": "1", ALREADY_THERE: "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout[-3_000:]
