"""Of overage: how far it is billed, and what for."""

from typing import Final

from billing import money

# Of which no part of a unit can be paid.
WHOLE_CURRENCIES: Final = ", ".join(
    f"'{code}'" for code in sorted(money.ZERO_DECIMAL | money.WHOLE_IN_HUNDREDTHS)
)
# What the first tokens of an overage lot are worth, as ledger.value has it.
WORTH: Final = """
    CASE lot.tiers ->> 'model'
    WHEN 'package' THEN
        ceil({out} / (lot.tiers #>> '{{package,0}}')::numeric)
        * (lot.tiers #>> '{{package,1}}')::numeric
    WHEN 'volume' THEN (
        SELECT div({out} * (step ->> 1)::numeric, 1000000)
        FROM jsonb_array_elements(lot.tiers -> 'steps') WITH ORDINALITY AS steps (step, place)
        WHERE step ->> 0 IS NULL OR {out} <= (step ->> 0)::numeric
        ORDER BY place LIMIT 1
    ) ELSE (
        SELECT div(sum(greatest(least(coalesce(until, {out}), {out}) - since, 0) * price), 1000000)
        FROM (
            SELECT (step ->> 0)::numeric AS until, (step ->> 1)::numeric AS price,
                   coalesce(lag((step ->> 0)::numeric) OVER (ORDER BY place), 0) AS since
            FROM jsonb_array_elements(lot.tiers -> 'steps') WITH ORDINALITY AS steps (step, place)
        ) AS tier
    ) END
"""

INVARIANTS: Final[dict[str, str]] = {
    "overage is billed no further than runs have used": """
        SELECT period.id
        FROM billing_period AS period
        JOIN LATERAL (
            SELECT to_microtokens FROM billing_overagestep AS step
            WHERE step.period_id = period.id ORDER BY number DESC LIMIT 1
        ) AS last ON true
        LEFT JOIN ledger_lot_now AS lot ON lot.id = period.overage_lot_id
        -- What was given back since had been used: its invoice stays until the next.
        LEFT JOIN (
            SELECT lot_id, sum(microtokens) AS microtokens FROM ledger_entry
            WHERE kind = 'return' GROUP BY lot_id
        ) AS given_back ON given_back.lot_id = lot.id
        WHERE last.to_microtokens
              > coalesce(lot.out_microtokens, 0) + coalesce(given_back.microtokens, 0)
    """,
    "steps of billed overage follow one another, from nothing on": """
        SELECT period_id
        FROM (
            SELECT period_id, number, from_microtokens,
                   row_number() OVER steps AS expected_number,
                   coalesce(lag(to_microtokens) OVER steps, 0) AS expected
            FROM billing_overagestep
            WINDOW steps AS (PARTITION BY period_id ORDER BY number)
        ) AS step
        WHERE from_microtokens <> expected OR number <> expected_number
    """,
    "a step of overage comes to what its tiers ask": f"""
        SELECT step.period_id, step.number
        FROM billing_overagestep AS step
        JOIN billing_period AS period ON period.id = step.period_id
        LEFT JOIN ledger_lot AS lot ON lot.id = period.overage_lot_id
        WHERE step.micros IS DISTINCT FROM
              {WORTH.format(out="step.to_microtokens")}
              - {WORTH.format(out="step.from_microtokens")}
    """,  # noqa: S608 - of our own
    "lines ask for what overage came to at the steps that made it more": """
        SELECT period.id
        FROM billing_period AS period
        LEFT JOIN (
            SELECT period_id, sum(micros) AS micros FROM billing_overagestep
            WHERE micros > 0 GROUP BY period_id
        ) AS step ON step.period_id = period.id
        LEFT JOIN (
            SELECT period_id, sum(micros + covered_micros) AS micros FROM billing_invoiceline
            WHERE kind IN ('overage', 'late_overage') GROUP BY period_id
        ) AS line ON line.period_id = period.id
        WHERE coalesce(step.micros, 0) <> coalesce(line.micros, 0)
    """,
    "what overage came to less, and the commitment does not keep, is a credit": f"""
        SELECT step.key, credit.key
        FROM (
            SELECT period_id, 'overage:' || period_id || ':' || number AS key,
                   - micros - kept_micros AS micros
            FROM billing_overagestep WHERE micros < 0
        ) AS step
        FULL JOIN (
            SELECT * FROM billing_credit WHERE reason = 'overage'
        ) AS credit ON credit.key = step.key
        LEFT JOIN billing_period AS period ON period.id = step.period_id
        LEFT JOIN billing_subscription AS subscription ON subscription.id = period.subscription_id
        LEFT JOIN billing_customer AS customer ON customer.id = subscription.customer_id
        WHERE step.key IS NULL OR step.period_id <> credit.period_id
           OR customer.id <> credit.customer_id
           OR abs(step.micros / 1000000.0 - coalesce(credit.amount, 0))
              > CASE WHEN customer.currency IN ({WHOLE_CURRENCIES}) THEN 0.5 ELSE 0.005 END
    """,  # noqa: S608 - codes of our own
    "a commitment pays for no more late overage than was paid for it": """
        SELECT line.period_id
        FROM billing_invoiceline AS line
        LEFT JOIN (
            SELECT period_id, sum(kept_micros) AS micros FROM billing_overagestep
            GROUP BY period_id
        ) AS kept ON kept.period_id = line.period_id
        GROUP BY line.period_id, kept.micros
        HAVING sum(covered_micros)
               > coalesce(sum(line.micros) FILTER (WHERE kind = 'true_up'), 0)
                 + coalesce(kept.micros, 0)
    """,
}
