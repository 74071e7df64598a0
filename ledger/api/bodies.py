"""Read JSON bodies into typed structures, or say which field broke which rule."""

import re
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec

from ledger.api.problems import Unreadable
from ledger.errors import Fault, InvalidCorrection, InvalidHold, InvalidLimit, InvalidRuns
from ledger.intake import NewRun


class _Runs(msgspec.Struct, forbid_unknown_fields=True):
    runs: list[NewRun]


_runs_decoder: Final = msgspec.json.Decoder(_Runs)
_run_decoder: Final = msgspec.json.Decoder(NewRun)
_object_decoder: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])

# What msgspec says, and the rule that it means.
_RULES: Final = (
    (re.compile(r"^Object missing required field `(?P<name>[^`]+)`"), "required"),
    (re.compile(r"^Object contains unknown field `(?P<name>[^`]+)`"), "unknown_field"),
    (re.compile(r"^Expected `datetime` with a timezone"), "time_zone"),
    (re.compile(r"^Invalid RFC3339"), "datetime"),
    (re.compile(r"^Expected `\w+` of length"), "length"),
    (re.compile(r"^Expected `\w+` (>=|<=|>|<)"), "range"),
    (re.compile(r"^Invalid enum value"), "choice"),
    (re.compile(r"^Expected `"), "type"),
    (re.compile(r"^Integer value out of range"), "range"),
)

Body = TypeVar("Body")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """A request with its key, unread."""

    secret: str
    body: bytes
    content_type: str


def read(
    decoder: msgspec.json.Decoder[Body],
    body: bytes,
    content_type: str,
    refusal: type[InvalidCorrection | InvalidHold | InvalidLimit | InvalidRuns],
) -> Body:
    """One object. Raises Unreadable, and `refusal` with the field that breaks a rule."""
    if not body:
        raise _malformed(ValueError("it is empty"))
    _check_content_type(content_type)
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise refusal(faults=_invalid(error, "").faults) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed(error) from None


def runs(body: bytes, content_type: str) -> list[NewRun]:
    """`{"runs": [...]}`, or one run by itself. Raises Unreadable and InvalidRuns."""
    if not body:
        raise _malformed(ValueError("it is empty"))
    _check_content_type(content_type)
    try:
        return _runs_decoder.decode(body).runs
    except msgspec.ValidationError as error:
        if "runs" in _names(body):
            raise _invalid(error, "") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed(error) from None
    try:
        return [_run_decoder.decode(body)]
    except msgspec.ValidationError as error:
        raise _invalid(error, "runs[0]") from None


def _check_content_type(content_type: str) -> None:
    if content_type.partition(";")[0].strip().lower() != "application/json":
        message = f"must be application/json, not {content_type or 'missing'}"
        raise Unreadable(
            status=415,
            code="unsupported_media_type",
            fault=Fault(field="Content-Type", rule="media_type", message=message),
        )


def _names(body: bytes) -> dict[str, Any]:
    try:
        return _object_decoder.decode(body)
    except msgspec.ValidationError:
        message = 'must be an object: {"runs": [...]} or one run'
        raise InvalidRuns(faults=[Fault(field="body", rule="type", message=message)]) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed(error) from None


def _malformed(error: Exception) -> Unreadable:
    message = f"is not JSON in UTF-8: {error}"
    return Unreadable(
        status=400,
        code="malformed_json",
        fault=Fault(field="body", rule="malformed", message=message),
    )


def _invalid(error: msgspec.ValidationError, root: str) -> InvalidRuns:
    message, _, path = str(error).partition(" - at `$")
    path = path.rstrip("`")
    field = root + path if root else path.lstrip(".")
    rule = "invalid"
    for pattern, meant in _RULES:
        if found := pattern.match(message):
            rule = meant
            if name := found.groupdict().get("name"):
                field = f"{field}.{name}" if field else name
            break
    return InvalidRuns(faults=[Fault(field=field or "body", rule=rule, message=message)])
