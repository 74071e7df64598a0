"""The queue of webhook deliveries: rows in the store, written in the transaction of their event."""

from billing.stripe.simulator import faults
from billing.stripe.simulator.store import Store

RETRY_AFTER_MIN, RETRY_AFTER_MAX = 0.5, 60.0  # seconds
ATTEMPTS_MAX = 40


def enqueue(store: Store, *, event_id: str, event_type: str, endpoint_id: str) -> None:
    copies = 2 if faults.strike_event(store, "webhook_duplicate", event_type) else 1
    shuffling = faults.strike_event(store, "webhook_shuffle", event_type)
    held = bool(shuffling) or store.setting("webhooks_held", False)
    for _ in range(copies):
        store.run(
            "INSERT INTO delivery (event, endpoint, due_at, held) VALUES (?, ?, 0, ?)",
            event_id,
            endpoint_id,
            held,
        )
    if shuffling and shuffling["left"] == 0:
        release(store, order="reversed")


def hold(store: Store) -> None:
    store.set("webhooks_held", True)


def release(store: Store, *, order: str) -> None:
    store.set("webhooks_held", False)
    direction = "DESC" if order == "reversed" else "ASC"
    held = store.rows(f"SELECT id FROM delivery WHERE held ORDER BY id {direction}")  # noqa: S608
    # One by one, so that their order is the order asked for.
    for before, row in zip([None, *held], held, strict=False):
        store.run(
            "UPDATE delivery SET held = 0, after = ? WHERE id = ?",
            before and before["id"],
            row["id"],
        )


def retry_after(attempts: int) -> float | None:
    """Seconds until the next attempt after this many; none if it is time to give up."""
    if attempts >= ATTEMPTS_MAX:
        return None
    return float(min(RETRY_AFTER_MIN * 2 ** (attempts - 1), RETRY_AFTER_MAX))
