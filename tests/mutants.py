"""Faults put in on purpose: `python -m tests.mutants` fails if the tests miss one. Run nightly.

Add a line with every rule about tokens or money: the fault that a tired person would write. Each
is put into a copy of the checkout, so an interrupted run leaves nothing behind here.
`python -m tests.mutants grants` tries those in files with "grants" in their names.
"""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
DRAWDOWN, BLOCKS, DEBITING = "ledger/drawdown.py", "ledger/blocks.py", "ledger/debiting.py"
GRANTS, INTAKE, PARKING = "ledger/grants.py", "ledger/intake.py", "ledger/parking.py"
RATING, VALUE, QUERIES, UNITS = (
    "ledger/rating.py",
    "ledger/value.py",
    "ledger/queries.py",
    "ledger/units.py",
)
AMENDING, CORRECTIONS, HISTORY = "ledger/amending.py", "ledger/corrections.py", "ledger/history.py"
PARTS, RETAKES, RERATING = "ledger/parts.py", "ledger/retakes.py", "ledger/rerating.py"
FOLDING, SEVERAL, USAGE = "ledger/folding.py", "ledger/several.py", "ledger/usage.py"
FORECASTS, STATEMENTS, TOTALS = "ledger/forecasts.py", "ledger/statements.py", "ledger/totals.py"
LAYING, CHECKING, STANDINGS = "ledger/laying.py", "ledger/checking.py", "ledger/standings.py"
HOLDS, DECIDING, COUNTING = "ledger/holds.py", "ledger/deciding.py", "ledger/counting.py"
SETTLING, HELD = "ledger/settling.py", "ledger/held.py"
WAKING, MOVING, LIMITS = "ledger/api/waking.py", "ledger/moving.py", "ledger/limits.py"
REVIEWS, LEAVES, REVERSALS = "ledger/reviews.py", "ledger/leaves.py", "ledger/reversals.py"
TAKEN_BACK = "billing/reversals.py"
OPERATING, OVERAGE = "ledger/operating.py", "billing/overage.py"
CHANGES, CANCELLING = "billing/changes.py", "billing/cancelling.py"
CREDITING, ENDINGS = "billing/crediting.py", "ledger/endings.py"
SQL = "ledger/sql"
PREPARED = f"{SQL}/prepared.py"
MEMORY_BYTES_MAX = 6 * 1024**3

MUTANTS = [  # file, text, fault
    ("ledger/accounts.py", "        Book.objects.select_for_update(no_key=True).get(pk=book_id)\n", ""),
    ("ledger/accounts.py", "for shard in shards_of_code(book_id=book_id, code=code)", "for shard in [shard_of_code(book_id=book_id, code=code, shards=settings.SHARDS_IN_USE)]"),
    (DRAWDOWN, '    "priority",\n    "expires_at_us",', '    "expires_at_us",\n    "priority",'),
    (DRAWDOWN, '    "is_paid",\n    "issued_at_us",', '    "issued_at_us",\n    "is_paid",'),
    (DRAWDOWN, '    "is_paid",\n', ""),
    (DRAWDOWN, '    "issued_at_us",\n', ""),
    (DRAWDOWN, '"overage", "debt")', '"debt", "overage")'),
    (DRAWDOWN, "np.lexsort((*reversed(_ORDER(self)), self.account))", "np.lexsort((*_ORDER(self), self.account))"),
    (DRAWDOWN, "<= occurred_at_us < lot.expires_at_us:", "<= occurred_at_us <= lot.expires_at_us:"),
    (DRAWDOWN, "if not lot.effective_at_us <= occurred_at_us <", "if not lot.effective_at_us < occurred_at_us <"),
    (DRAWDOWN, "        if taken == left:\n", "        if taken > left:\n"),
    (DRAWDOWN, "is_open & (begins <= at) & (at < ends)", "is_open & (begins < at) & (at < ends)"),
    (DRAWDOWN, "is_open & (begins <= at) & (at < ends)", "is_open & (begins <= at) & (at <= ends)"),
    (DRAWDOWN, "is_open & (begins <= at)", "(begins <= at)"),
    (DRAWDOWN, "(instant <= at), instant, _LONG_AGO) for instant in (begins, ends)]", "(instant < at), instant, _LONG_AGO) for instant in (begins, ends)]"),
    (DRAWDOWN, "(instant > at), instant, _FAR_OFF) for instant in (begins, ends)]", "(instant > at), instant, _FAR_OFF) for instant in (ends, ends)]"),
    (DRAWDOWN, "[np.where(is_open & (instant > at)", "[np.where((instant > at)"),
    ("ledger/worths.py", " - row.rolled_micros", ""),
    ("ledger/worths.py", "if self.until < one <= day):", "if self.until < one < day):"),
    ("billing/books/tokens.py", "return lot.price_micros if lot.rolled_from_lot_id is None else 0", "return lot.price_micros"),
    ("billing/books/lines.py", "carried[series] = unbooked = exact - amount", "carried[series] = unbooked = micros - amount"),
    ("billing/books/fees.py", "(day - starts_on).days + 1", "(day - starts_on).days"),
    ("billing/books/days.py", "WHERE fact.micros <> coalesce(booked.micros_to_date, 0)", "WHERE fact.micros > coalesce(booked.micros_to_date, 0)"),
    ("billing/books/invoices.py", "(line.amount + credited.amount) * 1000000", "line.amount * 1000000"),
    ("billing/focus.py", "        billed_cost=cost,\n", "        billed_cost=cost * 2,\n"),
    ("ledger/chain.py", "at = max(at, after.recorded_at)", "at = at"),
    ("ledger/tasks.py", "failed = error", "raise"),
    (STANDINGS, "                memory.lots.pop(one, None)\n", "                pass\n"),
    (LAYING, "still_open = rows_say.pick(rows_say.remaining_microtokens > 0)", "still_open = rows_say"),
    (LAYING, "np.where(written, lots.out_microtokens, as_written.out_microtokens)", "as_written.out_microtokens"),
    (STANDINGS, "(self.out <= self.granted)", "(self.out <= self.granted + 1)"),
    (STANDINGS, "self.begins) >= self.from_at_us", "self.begins) >= self.from_at_us - 10**10"),
    (STANDINGS, "self.begins) < self.until_at_us", "self.begins) <= self.until_at_us"),
    (STANDINGS, "np.minimum.reduceat(times_us, self.begins)", "np.maximum.reduceat(times_us, self.begins)"),
    (BLOCKS, "ids << bits | np.arange(len(ids))", "ids << bits | np.arange(len(ids))[::-1]"),
    (BLOCKS, "np.repeat(last_of_account, costs.counts) - until", "np.repeat(last_of_account, costs.counts) - until + 1"),
    (LAYING, "np.repeat(accounts.out - accounts.totals, accounts.counts) + begins_within", "np.repeat(accounts.out - accounts.totals, accounts.counts) + begins_within + 1"),
    (LAYING, "laid.slices_counts[free] = laid.lot_ids[free]", "laid.lot_ids[free]"),
    (LAYING, "before = (accounts.out - accounts.totals)[lots.account]", "before = accounts.out[lots.account]"),
    (LAYING, "lots.out_microtokens != as_written.out_microtokens", "lots.remaining_microtokens == 0"),
    (LAYING, "            if len(slices) > 1:\n                laid.crossing", "            if len(slices) > 2:\n                laid.crossing"),
    (LAYING, "& (lots.expires_at_us > last)", "& (lots.expires_at_us >= last)"),
    (LAYING, "serves & (lots.effective_at_us <= first)", "serves"),
    (LAYING, "(left > 0) & (lots.effective_at_us <= last) & (lots.expires_at_us > first)", "(left > 0) & (lots.effective_at_us < last) & (lots.expires_at_us > first)"),
    (LAYING, "serves_all & (lots.price_micros != BY_TIERS)", "serves_all"),
    (LAYING, "    before -= before[np.searchsorted(account, account)]", "    before -= 0"),
    (LAYING, "& ~is_plain & (wanted > 0)", "& ~is_plain & (wanted > 1)"),
    (LAYING, "np.minimum(left, totals)", "np.minimum(lots.granted_microtokens, totals)"),
    (LAYING, 'begins, side="right")', 'begins, side="left")'),
    (LAYING, 'ends, side="left")', 'ends, side="right")'),
    (LAYING, "np.maximum(begins[run], lot_begins[lot])", "lot_begins[lot]"),
    (LAYING, "np.minimum(ends[run], lot_ends[lot])", "lot_ends[lot]"),
    (LEAVES, "of_account % RUNS_PER_LEAF == 0)", "of_account == 0)"),
    (LEAVES, 'begins, rows, side="right") - 1', 'begins, rows, side="left") - 1'),
    (LEAVES, "            begin = end\n", ""),
    ("ledger/merkle.py", "self._roots.append(root(", "self._roots.insert(0, root("),
    (f"{SQL}/runs_of_leaf.sql", "BETWEEN %(first_position)s AND", "BETWEEN 1 + %(first_position)s AND"),
    (f"{SQL}/sealed_leaf.sql", "BETWEEN block.first_submission_id AND", "BETWEEN 1 + block.first_submission_id AND"),
    (f"{SQL}/sealed_leaf.sql", "abs(id - %(submission_id)s)", "abs(%(submission_id)s)"),
    (f"{SQL}/blocks_to_fold.sql", "WHERE bytes_before < %(bytes_max)s\n", ""),
    (f"{SQL}/blocks_to_fold.sql", " - length(totals) AS bytes_before", " AS bytes_before"),
    (STANDINGS, "> REMEMBERED_MAX:", "> 2 * REMEMBERED_MAX + 10:"),
    (PREPARED, "        connection.close()\n        raise", "        raise"),
    (PREPARED, "            connection.close()\n        raise", "            pass\n        raise"),
    (PREPARED, "name not in self._prepared or not keeps", "True"),
    (PREPARED, "        _raise_error(self._connection, answers)\n        own = ", "        own = "),
    (f"{SQL}/__init__.py", "commits=not own.savepoint_ids", "commits=True"),
    (BLOCKS, "if is_last and not are_watched", "if is_last"),
    (DEBITING, "is_last=not (waiting.has_parts or have_retakes)", "is_last=True"),
    (STANDINGS, "            if not are_others.any():\n                return expected\n", "            if True:\n                return expected\n"),
    (PREPARED, "            names.append(name)\n", "            pass\n"),
    (PREPARED, '        _end_copy(connection, b"given up")\n', ""),
    (VALUE, "out_microtokens <= step.up_to_microtokens", "out_microtokens < step.up_to_microtokens"),
    (VALUE, "return -(-out_microtokens // package.microtokens)", "return out_microtokens // package.microtokens + 1"),
    (OVERAGE, "lot.out_microtokens == billed", "lot.out_microtokens <= billed"),
    (OVERAGE, "min(-row.micros, _paid_beyond_commitment(row, lot.tiers))", "min(-row.micros, 0)"),
    (OVERAGE, 'left = paid["true_up"] + kept["kept"] - paid["covered"]', 'left = paid["true_up"] - paid["covered"]'),
    (OVERAGE, "consumed[lot_id] != billed", "consumed[lot_id] > billed"),
    ("billing/lint.py", "min(least) > granted", "min(least) >= granted"),
    ("billing/catalog.py", "if finding.code not in confirmed", "if finding.code in confirmed"),
    ("billing/lint.py", "is not None and cap < first", "is not None and cap <= first"),
    ("billing/costing.py", "missing = self.terms.commitment - self.in_advance - self.overage", "missing = self.terms.commitment - self.in_advance"),
    (VALUE, "price = tiers.reached(out_microtokens)", "price = tiers.reached(0)"),
    (SETTLING, "if before + use.amount > use.cap.cap and use.amount > 0:", "if before + use.amount > use.cap.cap:"),
    (f"{SQL}/settle_holds.sql", "greatest(run.micros, 0)", "run.micros"),
    (VALUE, "whole * out_microtokens + quotient + np.floor_divide(remainder, granted_microtokens)", "whole * out_microtokens + quotient"),
    ("ledger/chain.py", "previous=after.hash,\n            root", "previous=NO_BLOCK,\n            root"),
    ("ledger/merkle.py", "        above.append(level[-1])\n", "        above.append(leaf_hash(level[-1]))\n"),
    (DEBITING, "        elif digests[key] != digest:\n            conflicts.append(row)\n", ""),
    (DEBITING, "            digests[key] = digest\n            new.append(row)", "            new.append(row)"),
    (f"{SQL}/take_oldest_intakes.sql", "    DELETE FROM ledger_intake\n    WHERE", "    SELECT id, runs_count, runs FROM ledger_intake\n    WHERE"),
    (DEBITING, "        _record_conflicts(one, at=at)\n", "        pass\n"),
    (f"{SQL}/take_oldest_intakes.sql", "runs_so_far <= %(runs_max)s", "runs_so_far < %(runs_max)s"),
    (f"{SQL}/take_oldest_intakes.sql", "position = 1 OR ", ""),
    (f"{SQL}/move_lots.sql", "moved.out_microtokens < lot.granted_microtokens", "true"),
    (f"{SQL}/put_away_lots.sql", "SET out_microtokens = standing.in_use_out_microtokens,", "SET out_microtokens = lot.out_microtokens,"),
    (f"{SQL}/debit_accounts.sql", "CASE WHEN abs(mark) = ", "CASE WHEN 0 < "),
    (f"{SQL}/put_away_lots.sql", ", mark = 0", ""),
    (f"{SQL}/debit_accounts.sql", "+ (%(receipts_counts)s::bigint[])[width_bucket(account_id, %(account_ids)s::bigint[])]", "+ 1"),
    (f"{SQL}/enter_slices.sql", "ORDER BY slice.position", "ORDER BY slice.position DESC"),
    (f"{SQL}/lock_shard.sql", "SELECT pg_advisory_xact_lock(1279607879, %(shard)s)", "SELECT %(shard)s"),
    (f"{SQL}/lots_now.sql", "expires_at NULLS LAST", "expires_at NULLS FIRST"),
    (f"{SQL}/lots_now.sql", "price_micros > 0, issued_at", "issued_at"),
    (f"{SQL}/consumed.sql", "'forgive') THEN -microtokens", "'forgive') THEN microtokens"),
    (TAKEN_BACK, "status not in GIVEN_BACK and status != LOST and not status.startswith(INQUIRY)", "status not in GIVEN_BACK and status != LOST"),
    (TAKEN_BACK, "return -(-granted * min(amount, gross) // gross)", "return granted * min(amount, gross) // gross"),
    (TAKEN_BACK, 'if not hasattr(refund, "failure")', "if True"),
    (TAKEN_BACK, "        may_owe=False,\n", ""),
    ("billing/refunds.py", "self.before.microtokens + microtokens,", "microtokens,"),
    ("billing/refunds.py", "0 if is_over else lot.remaining_microtokens", "lot.remaining_microtokens"),
    ("billing/refunds.py", "if wanted > scene.refundable_microtokens and not force:", "if False:"),
    ("billing/credit_notes.py", "if not 0 < amount.amount <= most.amount:", "if not 0 < amount.amount:"),
    (REVERSALS, 'left = lot.granted_microtokens - lot.out_microtokens + taken', 'left = lot.granted_microtokens - lot.out_microtokens'),
    (REVERSALS, " - _sum(lot, Entry.Kind.EXPIRE)\n", "\n"),
    (REVERSALS, "        frozen = min(frozen, left - revoked)\n", "        frozen = min(frozen, left)\n"),
    (REVERSALS, "missing = -more - self.debt.out_microtokens", "missing = 0"),
    (REVERSALS, "if microtokens > 0 and closing.exists():", "if microtokens > 0 and False:"),
    (f"{SQL}/untried_parked.sql", "parked.tried_revision < book.revision", "parked.tried_revision <= book.revision"),
    (GRANTS, "min(remaining, lot.rollover_microtokens_max)", "remaining"),
    (GRANTS, "Entry.Kind.EXPIRE, expired)", "Entry.Kind.EXPIRE, expired - 1)"),
    (GRANTS, "min(debt.out_microtokens, lot.granted_microtokens)", "debt.out_microtokens"),
    (GRANTS, "    writing.put_back(debt, Entry.Kind.REPAID, repaid)\n", ""),
    (GRANTS, "    repaid = min(debt", "    repaid = 0 * min(debt"),
    (GRANTS, "closes_at=None if expires_at is None else expires_at + grace", "closes_at=expires_at"),
    (GRANTS, "closes_at__lte=at", "closes_at__lt=at"),
    (GRANTS, 'assert lot.closes_at <= at, "a lot', 'assert lot.expires_at <= at, "a lot'),
    (GRANTS, "        effective_at=lot.expires_at,\n", "        effective_at=lot.effective_at,\n"),
    (GRANTS, "price_micros=_worth(lot, lot.out_microtokens, rolled)", "price_micros=lot.price_micros * rolled // lot.granted_microtokens"),
    (GRANTS, "        drain_shard(shard=shard, at=at)\n", "        pass\n"),
    (OPERATING, '"account_ids": sql.array([begun.account_id])', '"account_ids": "{}"'),
    (OPERATING, "(known_kind, known_digest) != (kind, digest)", "known_kind != kind"),
    (OPERATING, "        self._moved[lot.id] = lot\n", ""),
    (CHECKING, "            run.cost_centre\n            or self.book", "            self.book"),
    (CHECKING, "            raise InvalidRuns(faults=found[:FAULTS_MAX])", "            return"),
    ("ledger/faults.py", "at_us + _CLOCK_DIFFERENCE_US", "at_us + 100 * _CLOCK_DIFFERENCE_US"),
    (CHECKING, "microtokens > RUN_MICROTOKENS_MAX", "microtokens > 2 * RUN_MICROTOKENS_MAX"),
    ("ledger/faults.py", "if quantity > quantities.get(whole, 0):", "if quantity > quantities.get(whole, quantity):"),
    (PARKING, "tried_revision=one.revision,", "tried_revision=one.revision + 1,"),
    (PARKING, ", reason=reason[:300]", ""),
    (f"{SQL}/parked_waits.sql", "count(DISTINCT parked.run_key)", "count(*)"),
    (PARKING, "rows = ParkedRun.objects.filter(account_id__in=account_ids, priced_at__isnull=True)", "rows = ParkedRun.objects.filter(account_id__in=account_ids, priced_at__isnull=False)"),
    (RATING, "2 * billed * self.microtokens + self.per_quantity", "2 * billed * self.microtokens"),
    (RATING, "-(-quantity // self.block_quantity)", "(quantity // self.block_quantity)"),
    (RATING, "                (meter, None, workflow),\n                (meter, engine, \"\"),", "                (meter, engine, \"\"),\n                (meter, None, workflow),"),
    (RATING, "            quantity -= sum(\n                usage", "            quantity -= 0 * sum(\n                usage"),
    (RATING, "            yield from _priced_parts(card, version, part, usage, workflow)\n", "            pass\n"),
    (RATING, "bisect_right(self.versions, at_us", "bisect_right(self.versions, at_us - 1"),
    (RATING, "costs[subtotal.position] += max(0, ", "costs[subtotal.position] += min(0, "),
    (VALUE, "price_micros * out_microtokens // granted_microtokens", "round(price_micros * out_microtokens / granted_microtokens)"),
    (VALUE, "return Micros(after - before)", "return Micros(abs(after - before))"),
    (VALUE, "        start = reached\n", ""),
    (VALUE, "min(end, out_microtokens)", "end"),
    (QUERIES, "at < self.expires_at)", "at <= self.expires_at)"),
    (QUERIES, "self.effective_at <= at", "self.effective_at < at"),
    (QUERIES, 'lot.kind == "overage" and lot.serves(at)', 'lot.kind == "overage"'),
    (UNITS, 'translate(_ZEROS) + "\\n" != _UUID_LINE * len(run_ids)', 'translate(_ZEROS) + "\\n" != _UUID_LINE * (lines.count("\\n") + 1)'),
    (UNITS, '_ZEROS: Final = str.maketrans("123456789abcdef", "0" * 15)', '_ZEROS: Final = str.maketrans("123456789abcdefABCDEF", "0" * 21)'),
    ("ledger/bundling.py", "sorted(self._shards.items())", "self._shards.items()"),
    ("ledger/reported.py", "_spelled(astuple(run))", "_spelled(astuple(run)[:-1])"),
    (RATING, "if block != 1 or rest:", "if block != 1:"),
    (RATING, "            found[part] -= multiplier\n", "            pass\n"),
    (UNITS, "if len(run_id) == 36 and _is_uuid(run_id):", "if len(run_id) == 36 and _is_uuid(run_id.lower()):"),
    ("ledger/prices.py", "        revision = revisions([book_id])[book_id]\n", ""),
    ("ledger/invariants/movements.py", "is_summed = self._sums == self._out", "is_summed = self._sums >= self._out"),
    (AMENDING, "            draft.charge(charge)\n", "            pass\n"),
    (AMENDING, '            sql.execute("put_away_lots", shard=self.shard, account_ids=[account_id])\n', ""),
    (AMENDING, "missing = microtokens - debt.out_microtokens", "missing = microtokens"),
    (AMENDING, "if at is not None and at <= self.at}", "if at is None}"),
    (AMENDING, "over.update(closings.values_list(\"lot_id\", flat=True))", "pass"),
    (AMENDING, "                self._expire_again(piece.lot_id, given)\n", ""),
    (AMENDING, "                self._expire_again(repaying_id, given)\n", ""),
    (AMENDING, "sign = -1 if kind == Entry.Kind.RETURN else 1", "sign = 1"),
    (AMENDING, "                piece.microtokens -= given\n", ""),
    (AMENDING, "(after.accepted_first - self.accepted_first) if is_run", "(after.accepted_first - self.accepted_first) if True"),
    (HISTORY, 'and row.part not in self.uncounted', ""),
    (HISTORY, '        if kind == "return":', '        if kind == "void":'),
    (HISTORY, "self.has_failed or self.retaken_by or self.own.flags & RETAKE", "self.has_failed or self.retaken_by"),
    (f"{SQL}/repayments.sql", "WHERE entry.kind = 'repay') DESC", "WHERE entry.kind = 'repay')"),
    (f"{SQL}/rows_of_runs.sql", "run.block_number, run.block_position", "run.block_number, run.part"),
    (CORRECTIONS, "if not 0 < asked <= left:", "if not 0 < asked:"),
    (CORRECTIONS, "if known.digest != digest:", "if known.kind != kind:"),
    (CORRECTIONS, 'stays = 0 if fault == "vendor" else', 'stays = left if fault == "vendor" else'),
    (CORRECTIONS, "            _waive(history, at=at)\n", "            pass\n"),
    (PARTS, "elif digests[name] != PARTED_DIGEST:", "elif digests[name] is None:"),
    (PARTS, "give_back=history.left_microtokens if history.was_waived else 0", "give_back=0"),
    (PARTS, "self.has_ended |= bool(flags & LAST_PART)", "self.has_ended = bool(flags & LAST_PART)"),
    (PARTS, "quiet_since = at - quiet_for", "quiet_since = at"),
    (RETAKES, "        if not history.retaken_by:\n", "        if history.version:\n"),
    (RERATING, "return max(change, -history.left_microtokens)", "return change"),
    (RERATING, "if history.left_microtokens == 0 and known > 0:", "if history.left_microtokens < 0:"),
    (RERATING, "            drain_shard(shard=shard, at=at)\n", "            pass\n"),
    (RERATING, "        if before is None\n", "        if before is not None or True\n"),
    ("ledger/prices.py", '"published_at", "id"', '"-published_at", "-id"'),
    ("ledger/receipts.py", "min(of.rows, key=lambda row: (row.occurred_at, row.part))", "of.rows[-1]"),
    (FORECASTS, "if days_count < DAYS_MIN:", "if days_count <= DAYS_MIN:"),
    (FORECASTS, "daily_microtokens[-weeks_count * _DAYS_OF_WEEK :]", "daily_microtokens[: weeks_count * _DAYS_OF_WEEK]"),
    (FORECASTS, "pattern[number % _DAYS_OF_WEEK]", "pattern[(number + 1) % _DAYS_OF_WEEK]"),
    (FORECASTS, "if time_us < until_us)", "if time_us <= until_us)"),
    (FORECASTS, "min(remaining, supply.rollover_microtokens_max)", "remaining"),
    (STATEMENTS, "after = as_of + _MOMENT", "after = as_of"),
    (STATEMENTS, '"repaid": ("repaid_microtokens", 1)', '"repaid": ("repaid_microtokens", -1)'),
    (f"{SQL}/statement.sql", "recorded_at >= %(from_at)s", "recorded_at > %(from_at)s"),
    (f"{SQL}/statement.sql", "coalesce(block.recorded_at, entry.occurred_at)", "entry.occurred_at"),
    (FOLDING, "update(folded_number=blocks[-1].number)", "update(folded_number=blocks[0].number)"),
    (f"{SQL}/add_usage.sql", "micros = known.micros + excluded.micros,", "micros = excluded.micros,"),
    (f"{SQL}/unfolded_blocks.sql", "> coalesce(fold.folded_number, 0)", ">= coalesce(fold.folded_number, 0)"),
    (USAGE, '(rows["hour"] < until_at)', '(rows["hour"] <= until_at)'),
    (SEVERAL, "        rework = cost if run.flags & FAILED else (0, 0)", "        rework = (0, 0)"),
    (DECIDING, "account.spendable - account.held < ask.microtokens", "account.spendable - account.held <= ask.microtokens"),
    (DECIDING, "        account.held += ask.microtokens\n", "        pass\n"),
    (DECIDING, "standing.used + standing.held + asked > cap.cap else", "standing.used + standing.held + asked >= cap.cap else"),
    (HELD, "if at < self.expires_at and", "if at <= self.expires_at and"),
    (HELD, "and self.lapsed_at is None else", "else"),
    (DECIDING, "self.accounts[ended.account_id].held -= ended.microtokens", "pass"),
    (DECIDING, "hold.body_digest != ask.body_digest", "False"),
    (HOLDS, "            if _is_accepted(hold):\n", "            if False:\n"),
    (HOLDS, "            if hold.released_at is not None:\n", "            if False:\n"),
    (HOLDS, "        if _is_over(hold):\n            return\n", ""),
    (HOLDS, "due_at__gt=at,", "due_at__gte=at,"),
    (HOLDS, "claimed_at=at, due_at=NEVER", "claimed_at=at"),
    (COUNTING, "-cap.amount(hold.microtokens, hold.micros)", "cap.amount(hold.microtokens, hold.micros)"),
    (COUNTING, "standing.used + standing.held + added.used + added.held", "standing.used + standing.held"),
    (SETTLING, "if before + use.amount > use.cap.cap and", "if before + use.amount >= use.cap.cap and"),
    (SETTLING, "if used + use.amount > use.cap.cap and", "if use.amount > use.cap.cap and"),
    (SETTLING, "    give_back(ended, counts=counts, caps=caps)\n", ""),
    (f"{SQL}/let_time_pass.sql", "due_at <= %(at)s\n),", "due_at < %(at)s\n),"),
    (f"{SQL}/settle_holds.sql", "ELSE least(hold.counted_microtokens, run.microtokens) END", "ELSE hold.counted_microtokens END"),
    (f"{SQL}/settle_holds.sql", "captured_at = CASE WHEN settled.is_ended THEN", "captured_at = CASE WHEN true THEN"),
    (f"{SQL}/release_hold.sql", "counted_microtokens = 0, counted_micros = 0, ", ""),
    (f"{SQL}/spendable.sql", "lot.expires_at > %(at)s", "lot.expires_at >= %(at)s"),
    (f"{SQL}/known_of_asked.sql", "parted.ended_at IS NOT NULL", "false"),
    (TOTALS, '"accepted_first_count": is_run & ~failed & ~retakes', '"accepted_first_count": is_run & ~failed'),
    (USAGE, "if _by_time_zone(account_ids) == zones:", "if True:"),
    (MOVING, "        limits.count_anew(account_id=account_id, past=past)\n", ""),
    (MOVING, "        folding.refold_account(account_id=account_id, time_zone=time_zone)\n", ""),
    (LIMITS, "    _count_what_is_held(account_id, caps)\n", ""),
    (LIMITS, "cap.amount(hold.counted_microtokens", "cap.amount(hold.microtokens"),
    (FOLDING, "account_ids=[account_id]), {", "account_ids=None), {"),
    (FOLDING, "min(BLOCKS_PER_FOLD_MAX, until_number - after_number)", "BLOCKS_PER_FOLD_MAX"),
    (DECIDING, "cap.period_start(review.opened_at) == start", "review.period_start == start"),
    (REVIEWS, "        transaction.set_rollback(True)\n", ""),
    (REVIEWS, "(at - start) * _PACE_PARTS < ends_at", "(at - start) * _PACE_PARTS <= ends_at"),
    (REVIEWS, "cap.next_start(cap.period_start(row.opened_at))", "cap.next_start(row.period_start)"),
    (WAKING, "if oldest >= told[shard].intake_id", "if oldest > told[shard].intake_id"),
    (WAKING, "if oldest < told[shard].intake_id", "if False"),
    (WAKING, "min(self.intake_id, other.intake_id)", "max(self.intake_id, other.intake_id)"),
    (WAKING, "max(self.until, other.until)", "min(self.until, other.until)"),
    (WAKING, "if one.until > now", "if True"),
    # An account whose payment is overdue
    ("ledger/deciding.py", "if account.is_overdue:", "if account.is_overdue and account.held:"),
    ("ledger/overdue.py", "if standing.overdue_since is None:", "if account_id:"),
    # What is sold
    ("ledger/foreseen.py", 'lot.kind == "overage" and lot.serves(at)', 'lot.kind == "overage"'),
    (DECIDING, 'if cap.unit == "overage" and not asked:', 'if cap.unit == "overage" and asked < 0:'),
    ("billing/packs.py", "if price.from_quantity <= quantity]", "if price.from_quantity < quantity or price.from_quantity == 1]"),
    ("billing/packs.py", "day <= self.until_on", "day < self.until_on"),
    ("billing/packs.py", "self.from_on <= day", "self.from_on < day"),
    ("billing/gifts.py", "if not microtokens or was_given(customer=customer, plan_id=plan_id, kind=kind):", "if not microtokens:"),
    ("billing/top_ups.py", "        price_micros=0,\n", "        price_micros=money.to_micros(top_up.price),\n"),
    # How customers pay
    ("billing/auto_top_ups.py", "within=auto.ceiling - spent", "within=auto.ceiling"),
    ("billing/auto_top_ups.py", "if pause is not None:", "if pause is not None and pause.until is None:"),
    ("billing/top_up_charges.py", "if _declines_in_a_row(charge) >= SOFT_DECLINES_MAX:", "if _declines_in_a_row(charge) > SOFT_DECLINES_MAX:"),
    ("billing/dunning.py", "if not _take(case, Kind.AGAIN, come[-1],", "if not _take(case, Kind.AGAIN, come[0],"),
    ("billing/dunning.py", "if at < told.taken_at + LAST_NOTICE_BEFORE:", "if at < told.taken_at:"),
    ("billing/payment_methods.py", "if calls.default_under_way(customer=customer):", "if False:"),
    # Other terms, ends, and what is shared out
    (CHANGES, "max(map(_billed_by, self.levels), key=", "max(map(_billed_by, self.levels[-1:]), key="),
    (CHANGES, "        if place.digest(cost) != quoted[\"digest\"]:\n            raise QuoteOutdated\n", ""),
    (CHANGES, "self._share(fees_micros(self.applying), at)", "self._share(fees_micros(self.levels[0]), at)"),
    (CHANGES, "        self.last.save(update_fields=[\"cancelled_at\"])\n", ""),
    (CANCELLING, "microtokens = min(left, lot.remaining_microtokens)", "microtokens = lot.remaining_microtokens"),
    (CANCELLING, "changes.fees_micros(place.applying)", "changes.fees_micros(period.subscription)"),
    (CREDITING, "part = min(rest, due[position])", "part = rest"),
    ("billing/statements.py", "if line.kind in KINDS_OF_THEIR_OWN_PERIOD else own", "if False else own"),
    ("billing/periods.py", "max(at, starts_at)))", "at))"),
    ("billing/subscriptions.py", "period.number == 1 and subscription.continues_id is None", "period.number == 1"),
    (ENDINGS, "until = ends_at if last is None else last + _MOMENT", "until = ends_at"),
    (USAGE, "        edges = [(from_at, first), (last, until_at)]\n", "        edges = []\n"),
    (f"{SQL}/cost_centres_between.sql", "WHERE (change ->> 0)::bigint = run.part", ""),
]  # fmt: skip

# Quick tests first, but before all others those that look most closely at what a file does.
TESTS = ["drawdown", "merkle", "rating", "value", "queries", "lots", "exactly_once", "corrections"]
TESTS += ["corrections_in_any_order", "outcomes", "parts", "rerating", "holds", "limits"]
TESTS += ["forecasts", "statements", "several"]
TESTS += ["usage", "moving", "intake", "check_ledger", "concurrency", "parking", "holds_model"]
TESTS += [
    "reviews",
    "prepared",
    "paths",
    "whole_model",
    "model",
    "api/waking",
    "shards",
    "bundling",
    "leaves",
    "standings",
    "overdue",
    "faults/every_statement",
    "overage_models",
    "limits_on_overage",
    "billing/overage",
    "billing/packs",
    "billing/gifts",
    "billing/auto_top_ups",
    "billing/dunning",
    "billing/payment_methods",
]
TESTS += ["endings", "billing/changes", "billing/cancelling", "billing/credits"]
TESTS += ["billing/statements", "billing/periods"]
CLOSEST = {
    "billing/auto_top_ups.py": ["billing/auto_top_ups"],
    "billing/top_up_charges.py": ["billing/auto_top_ups"],
    "billing/dunning.py": ["billing/dunning"],
    "billing/payment_methods.py": ["billing/payment_methods"],
    "billing/packs.py": ["billing/packs"],
    "billing/gifts.py": ["billing/gifts"],
    "billing/top_ups.py": ["billing/packs"],
    "ledger/foreseen.py": ["limits_on_overage"],
    OVERAGE: ["billing/overage"],
    "billing/lint": ["billing/lint"],
    "billing/catalog": ["billing/lint"],
    "billing/costing": ["billing/commitment"],
    CHANGES: ["billing/changes"],
    CANCELLING: ["billing/cancelling"],
    CREDITING: ["billing/credits"],
    "billing/statements": ["billing/statements"],
    "billing/periods": ["billing/periods"],
    "billing/subscriptions": ["billing/changes"],
    f"{SQL}/cost_centres_between": ["billing/statements"],
    VALUE: ["overage_models"],
    UNITS: ["bundling"],
    "ledger/bundling.py": ["bundling"],
    "ledger/merkle.py": ["leaves"],
    "ledger/reported.py": ["bundling"],
    "ledger/accounts.py": ["shards", "concurrency"],
    DRAWDOWN: ["whole_model"],
    LAYING: ["paths", "standings", "whole_model"],
    STANDINGS: ["standings", "paths", "whole_model"],
    BLOCKS: ["paths", "whole_model", "faults/every_statement"],
    DEBITING: ["exactly_once", "whole_model", "faults/every_statement"],
    GRANTS: ["lots", "whole_model"],
    OPERATING: ["lots", "whole_model"],
    INTAKE: ["intake"],
    CHECKING: ["intake", "exactly_once"],
    AMENDING: ["corrections", "outcomes", "rerating", "parts"],
    CORRECTIONS: ["corrections", "outcomes", "parts"],
    HISTORY: ["parts", "outcomes", "corrections"],
    HOLDS: ["holds", "whole_model"],
    HELD: ["holds", "whole_model"],
    WAKING: ["api/waking"],
    MOVING: ["moving"],
    REVIEWS: ["reviews", "limits", "moving"],
    LIMITS: ["moving", "limits"],
    DECIDING: ["holds", "limits", "limits_on_overage", "moving", "whole_model"],
    COUNTING: ["limits"],
    SETTLING: ["limits", "holds", "overage_models"],
    "ledger/sql/let_time_pass": ["holds", "whole_model"],
    "ledger/sql/settle_holds": ["holds", "overage_models", "whole_model"],
    "ledger/sql/release_hold": ["holds"],
    "ledger/sql/spendable": ["holds", "whole_model"],
    "ledger/sql/known_of_asked": ["holds", "whole_model"],
    "ledger/faults.py": ["exactly_once", "rating", "intake"],
    "ledger/sql/runs_of_leaf": ["leaves"],
    "ledger/sql/sealed_leaf": ["leaves"],
    "ledger/sql/blocks_to_fold": ["usage"],
    f"{SQL}/__init__": ["prepared"],
    "ledger/sql/": ["lots", "corrections", "parts", "statements", "usage", "model"],
    "ledger/totals.py": ["usage"],
    FOLDING: ["usage", "moving"],
    USAGE: ["usage", "moving"],
    "ledger/invariants/": ["check_ledger"],
    "ledger/prices.py": ["queries", "rerating"],
    "ledger/retakes.py": ["outcomes"],
    "ledger/receipts.py": ["parts"],
}
SECONDS_MAX = 900


def caught_by(copy: Path, file: str, text: str, fault: str) -> str:
    """The first test that fails when the fault is in; empty if none does."""
    path = copy / file
    original = path.read_text("utf-8")
    path.write_text(original.replace(text, fault, 1), "utf-8")
    try:
        tests = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "--create-db", "-p", "no:cacheprovider"]
            + [_path(name) for name in _nearest_first(file)],
            cwd=copy,
            env=os.environ | {"HYPOTHESIS_PROFILE": "mutation", "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS_MAX,
            preexec_fn=_limit_memory,
        )
    except subprocess.TimeoutExpired:
        return "the clock"  # a ledger that no longer ends is noticed
    finally:
        path.write_text(original, "utf-8")
    if tests.returncode == 0:
        return ""
    told = [line for line in tests.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return told[0].split(" - ")[0] if told else tests.stdout[-200:] or "a crash"


def _path(test: str) -> str:
    """Of one in TESTS: the ledger's, if it names no other folder."""
    folder, _, name = test.rpartition("/")
    return f"tests/{folder or 'ledger'}/test_{name}.py"


def _nearest_first(file: str) -> list[str]:
    app, stem = file.split("/")[0], Path(file).stem
    close = [stem if app == "ledger" else f"{app}/{stem}"]
    close += [name for start, names in CLOSEST.items() if file.startswith(start) for name in names]
    there = [name for name in close if (ROOT / _path(name)).exists()]
    return list(dict.fromkeys([*there, *TESTS]))


def _limit_memory() -> None:
    """A fault that never ends must not take the machine with it."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))


def main(parts: Sequence[str]) -> int:
    chosen = [one for one in MUTANTS if not parts or any(part in one[0] for part in parts)]
    stale = [one for one in chosen if one[1] not in (ROOT / one[0]).read_text("utf-8")]
    for file, text, _ in stale:
        print(f"STALE   {file} no longer says {text!r}")
    missed = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "checkout"
        ignored = shutil.ignore_patterns(".venv", ".git", ".runledger", ".tools", "__pycache__")
        shutil.copytree(ROOT, copy, ignore=ignored, symlinks=True)
        for file, text, fault in [one for one in chosen if one not in stale]:
            by = caught_by(copy, file, text, fault)
            told = f"{file}: {text!r} -> {fault!r}"
            print(f"caught  {told} by {by}" if by else f"MISSED  {told}", flush=True)
            if not by:
                missed.append(file)
    print(f"{len(chosen) - len(stale) - len(missed)} of {len(chosen)} faults caught")
    return len(missed) + len(stale)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
