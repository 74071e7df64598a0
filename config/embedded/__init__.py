"""PostgreSQL without installing it: the binaries of a wheel, under a small keeper of our own.

    a process that uses the database                keeper (one a home)
    ────────────────────────────────                ───────────────────
    flock(users.lock, shared)  ◀── held while ──▶   runs postgres as its child, starts it again
    starts the keeper if there is none              when it dies; as soon as it gets users.lock
    connects through a unix socket                  for itself alone, nobody is left: it stops it

The kernel frees a dead process's locks, so this needs no count of users, no registered process
ids and no goodbye: kill -9 of any process is an ordinary end. The database stays on disk.

`places` says where everything is; `postgresql` runs the binaries; `keeper` keeps one server;
`server.ensure()` is all that a user of the database calls, and `engine` (the database engine of
the settings) calls it before each connection. `supervisor` runs the other
services, each on a `leash`.
"""
