"""How throughput grows with PostgreSQL nodes: a simulation from what one worker does here.

The measured figure is one worker's debits a second on one shard. A node is taken to run as many
workers as this machine has cores, each at the speed that two reach here side by side. Accounts
are as unlike as customers are (Zipf: the k-th largest sends 1/k of what the largest sends); each
falls into one of all shards by a hash (RUNLEDGER_SHARDS=256, as one would set it for many nodes),
and shards are dealt to nodes in turn, as Citus does. The throughput is what the whole can take
until its busiest node, or its busiest shard, is full.
"""

import os
from collections.abc import Iterator
from typing import Final

import numpy as np

from bench import backlog
from bench.figures import Figure
from bench.scenes import SHARD
from ledger.units import SHARDS

NODES: Final = (1, 10, 100)
ACCOUNTS: Final = 100_000
DRAWS: Final = 50


def measure(*, batches: int, repetitions: int) -> Iterator[Figure]:
    alone = backlog.runs_a_second([SHARD], batches)
    together = backlog.runs_a_second([SHARD, SHARD + 1], batches) / 2
    a_node = together * (os.cpu_count() or 1)
    for nodes in NODES:
        yield Figure(
            name=f"simulated: {nodes} node{'s' if nodes > 1 else ''}",
            value=_throughput(nodes, a_shard=alone, a_node=a_node),
            unit="runs/s",
            limit=a_node * nodes,
            limit_name="spread evenly",
        )


def _throughput(nodes: int, *, a_shard: float, a_node: float) -> float:
    """The mean over many ways in which accounts may fall into shards."""
    random = np.random.default_rng(1)
    loads = 1 / np.arange(1, ACCOUNTS + 1)
    loads /= loads.sum()
    found = []
    for _ in range(DRAWS):
        shards = np.bincount(random.integers(0, SHARDS, ACCOUNTS), loads, SHARDS)
        of_nodes = np.bincount(np.arange(SHARDS) % nodes, shards, nodes)
        found.append(min(a_shard / shards.max(), a_node / of_nodes.max()))
    return float(np.mean(found))
