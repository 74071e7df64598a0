"""Runs on their way in: what is done for all at a time comes to what is done for one."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.bundling import Bundle, Bundling
from ledger.checking import CheckedRun
from ledger.familiar import Bearer
from ledger.instants import to_us
from ledger.packing import (
    InferenceDetails,
    RunDetails,
    Unusual,
    details_digest,
    details_text,
    unpack_details,
    unpack_runs,
)
from ledger.reported import NewInference, NewPart, NewRun, body, body_digest
from ledger.units import part_key, run_key_bytes, run_keys, shard_of

NOON = datetime(2026, 6, 15, 12, tzinfo=UTC)
A_UUID = "0198f1a2-7c3d-7e4f-8a9b-0123456789ab"
RUN = NewRun(
    id="run-1",
    account="acme",
    workflow="review",
    occurred_at=NOON,
    inferences=[NewInference("engine", {"input": 3, "output": 5})],
)
BEARER = Bearer(3 * 256 + 7, 7, 1, "", ("review", "", "", "sales", "", ""), b"k" * 16)


def bundles(*some: Sequence[CheckedRun]) -> list[Bundle]:
    bundling = Bundling()
    for taken in some:
        bundling.add(taken)
    return bundling.bundles()


def taken(run_id: str, *, account_id: int = BEARER.account_id, part: str = "") -> CheckedRun:
    run = msgspec.structs.replace(RUN, id=run_id, part=NewPart(part) if part else None)
    return CheckedRun(
        run,
        replace(BEARER, account_id=account_id, shard=shard_of(account_id)),
        to_us(NOON) + account_id,
        8,
        [("engine", to_us(NOON), {"output": 5, "input": 3}, 4, 8)],
        9,
        0,
        Unusual(part=part) if part else None,
    )


ids = st.lists(
    st.one_of(
        st.uuids().map(str),
        st.sampled_from([A_UUID, A_UUID.upper(), A_UUID.replace("-", "0"), f"{A_UUID}\n{A_UUID}"]),
        st.text("0123456789abcdefgh-\né", min_size=34, max_size=38),
        st.text(min_size=1, max_size=5),
    ),
    max_size=6,
)


@given(run_ids=ids | st.lists(st.uuids().map(str), max_size=6))
def test_the_keys_of_many_runs_are_those_of_each(run_ids: list[str]) -> None:
    assert run_keys(run_ids) == [run_key_bytes(run_id) for run_id in run_ids]


def test_ids_that_look_like_uuids_only_when_put_together_keep_keys_of_their_own() -> None:
    run_ids = [f"{A_UUID}\n", A_UUID[:-1], f"{A_UUID}\n{A_UUID}", "é" * 36, A_UUID.upper(), A_UUID]
    keys = [run_keys(run_ids), *([key] for one in run_ids for key in run_keys([one]))]
    assert keys[0] == [key for one in keys[1:] for key in one]
    assert len({*keys[0]}) == len(run_ids)
    assert keys[0][-1] == UUID(A_UUID).bytes


def test_each_shard_gets_its_runs_in_their_order_with_what_they_say() -> None:
    accounts = [5 * 256 + 9, 3 * 256 + 7, 6 * 256 + 9, 3 * 256 + 7, 5 * 256 + 9]
    runs = [taken(f"run\n{n}", account_id=one) for n, one in enumerate(accounts)]
    runs[3] = taken("run\n3", account_id=accounts[3], part="step")
    found = bundles(runs[:2], runs[2:])
    assert [(one.shard, one.runs_count) for one in found] == [(7, 2), (9, 3)]
    for bundle, expected in zip(
        found, ([runs[1], runs[3]], [runs[0], runs[2], runs[4]]), strict=True
    ):
        _check(bundle, expected)


def _check(bundle: Bundle, expected: list[CheckedRun]) -> None:
    rows = unpack_runs(bundle.runs)
    said = unpack_details(bundle.details, bundle.runs_count, range(bundle.runs_count))
    assert len(rows) == bundle.runs_count == len(expected)
    for place, (row, one) in enumerate(zip(rows, expected, strict=True)):
        part = "" if one.run.part is None else one.run.part.id
        text = details_text(bundle.details, bundle.runs_count, place)
        assert said[place] == RunDetails(
            one.run.id,
            one.bearer.account_id,
            [InferenceDetails("engine", to_us(NOON), {"input": 3, "output": 5}, 4, 8)],
            one.unusual,
        )
        assert text == msgspec.json.Encoder(order="deterministic").encode(said[place])
        assert (row["account_id"], row["occurred_at_us"]) == (one.bearer.account_id, one.at_us)
        assert (row["microtokens"], row["engine_id"], row["flags"]) == (8, 9, 0)
        assert row["part"] == part_key(part)
        assert row["run_key"].tobytes() == run_key_bytes(one.run.id)
        assert row["attribution_key"].tobytes() == one.bearer.attribution_key
        assert row["details_digest"].tobytes() == details_digest(text)
        assert row["body_digest"] == body_digest(one.run)


def test_the_same_run_has_the_same_digest_however_it_is_written() -> None:
    written = b"""{"workflow": "review", "account": "acme", "id": "run-1", "project": "",
        "occurred_at": "2026-06-15T14:00:00.000+02:00", "fault": "",
        "inferences": [{"quantities": {"output": 5, "input": 3}, "engine": "\\u0065ngine"}]}"""
    assert body_digest(msgspec.json.decode(written, type=NewRun)) == body_digest(RUN)
    assert body_digest(msgspec.msgpack.decode(body(RUN), type=NewRun)) == body_digest(RUN)
    elsewhere = NOON.astimezone(timezone(timedelta(hours=-7)))
    assert body_digest(msgspec.structs.replace(RUN, occurred_at=elsewhere)) == body_digest(RUN)


@pytest.mark.parametrize(
    "changed",
    [
        {"id": "run-2"},
        {"account": "other"},
        {"workflow": "other"},
        {"occurred_at": NOON + timedelta(microseconds=1)},
        {"inferences": [NewInference("engine", {"input": 3, "output": 6})]},
        {"inferences": [NewInference("engine", {"input": 3, "outputs": 5})]},
        {"inferences": [NewInference("other", {"input": 3, "output": 5})]},
        {"inferences": [NewInference("engine", {"input": 3, "output": 5}, NOON)]},
        {"inferences": RUN.inferences * 2},
        *[
            {field: "failed" if field == "outcome" else "vendor"}
            for field in (
                "project", "job", "cost_centre", "department", "actor", "outcome", "fault",
                "retake_of",
            )
        ],
        {"part": NewPart("step")},
        {"part": NewPart("step", last=True)},
    ],
    ids=str,
)  # fmt: skip
def test_another_run_has_another_digest(changed) -> None:
    digests = {body_digest(RUN), body_digest(msgspec.structs.replace(RUN, **changed))}
    digests.add(body_digest(msgspec.structs.replace(RUN, part=NewPart("other"))))
    assert len(digests) == 3
