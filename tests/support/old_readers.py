"""How labeller's Python 2 code and R scripts read each key of ``configuration``.

Equivalents of what they do with a value (docs/labeller.md 1.3): the conversion, the SQL or the
``%`` that the value goes into, and the arithmetic that fails. Nothing of the collection is used.
A reader raises what the old code raises, or UselessError when it goes on and never does its work.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from decimal import Decimal

Text = str | None
Reader = Callable[[Text], object]

BLANK = " \t\n\r\v\f"
LARGEST_INTEGER, LARGEST_BIGINT = 2**31 - 1, 2**63 - 1


class UselessError(Exception):
    """The reader survives, and does nothing useful."""


class DatabaseError(Exception):
    """PostgreSQL refuses the statement that the value is spliced into."""


def as_int(value: Text) -> int:
    """Python 2's int of a str: blanks around, sign and leading zeros; no underscore."""
    if value is None:
        raise TypeError("int() argument must be a string or a number")
    text = value.strip(BLANK)
    if not re.fullmatch(r"[+-]?[0-9]+", text):
        raise ValueError(value)
    return int(text)


def as_float(value: Text) -> float:
    """Python 2's float of a str."""
    if value is None:
        raise TypeError("float() argument must be a string or a number")
    text = value.strip(BLANK)
    if "_" in text or not text.isascii():
        raise ValueError(value)
    return float(text)


def as_decimal(value: Text) -> Decimal:
    """Python 2.7's Decimal of a str; blank raises InvalidOperation."""
    if value is None:
        raise TypeError("Cannot convert None to Decimal")
    text = value.strip(BLANK)
    if "_" in text or not text.isascii():
        raise ValueError(value)
    return Decimal(text)


def strtobool(value: Text) -> int:
    """distutils.util.strtobool, which does not strip."""
    if value is None:
        raise AttributeError("'NoneType' object has no attribute 'lower'")
    word = value.lower()
    if word in ("y", "yes", "t", "true", "on", "1"):
        return 1
    if word in ("n", "no", "f", "false", "off", "0"):
        return 0
    raise ValueError(f"invalid truth value {word!r}")


def as_numeric(value: Text) -> float:
    """R's as.numeric: whatever is no number is NA, with a warning that spoils the label."""
    number = as_float(value)
    if math.isnan(number):
        raise ValueError("NA")
    return number


def spliced(value: Text) -> float:
    """A number in an SQL text without quotes, for an integer column."""
    if value is None:
        raise DatabaseError('column "none" does not exist')
    text = value.strip(BLANK)
    if not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text):
        raise DatabaseError(f"syntax error at or near {text!r}")
    number = float(text)
    if abs(number) > LARGEST_INTEGER + 1 or number == LARGEST_INTEGER + 1:
        raise DatabaseError("integer out of range")
    return number


def quoted(value: Text) -> str:
    """A value between single quotes in an SQL text; None becomes the word."""
    text = str(value)
    if "'" in text:
        raise DatabaseError("syntax error")
    return text


def useful(condition: bool) -> None:
    if not condition:
        raise UselessError


def integer_column(number: int) -> None:
    if abs(number) > LARGEST_INTEGER:
        raise DatabaseError("integer out of range")


def sleep(seconds: int) -> None:
    if seconds < 0:
        raise OSError(22, "Invalid argument")
    useful(seconds <= LARGEST_INTEGER)


def _polling(value: Text) -> None:
    sleep(as_int(value))
    3600 // as_int(value)


def _interval(value: Text) -> None:
    sleep(as_int(value))


def _positive(value: Text) -> None:
    useful(0 < as_int(value) <= LARGEST_INTEGER)


def _alerts(value: Text) -> None:
    number = as_int(value)
    1 % (number * 60 // 10)
    useful(0 < number <= LARGEST_INTEGER)


def _at_least_0(value: Text) -> None:
    useful(0 <= as_int(value) <= LARGEST_INTEGER)


def _percentage(value: Text) -> None:
    useful(0 <= as_int(value) <= 100)


def _duration(value: Text) -> None:
    integer_column(as_int(quoted(value)))
    useful(as_int(value) > 0)


def _assignments(value: Text) -> None:
    integer_column(as_int(value))
    useful(as_int(value) > 0)


def _reward(value: Text) -> None:
    integer_column(as_int(value))


def _increment(value: Text) -> None:
    # createHit of a cell of weight 2
    integer_column(int(round(float(as_decimal(value)), 2) * 100))
    useful(abs(as_float(value)) <= 1e6)


def _replacement(value: Text) -> None:
    int(max(round(as_float(value) * 5), 1))
    useful(abs(as_float(value)) <= 1e6)


def _threshold(value: Text) -> None:
    useful(math.isfinite(as_float(value)))


def _spliced_threshold(value: Text) -> None:
    # str() of the float goes into the statement
    if not math.isfinite(as_float(value)):
        raise DatabaseError('column "nan" does not exist')


def _stopping(value: Text) -> None:
    useful(not math.isinf(as_float(value)))


def _risk(value: Text) -> None:
    useful(not math.isinf(as_numeric(value)))


def _bonus_threshold(value: Text) -> None:
    if value != "ignore":
        useful(math.isfinite(as_float(value)))


def _depth(value: Text) -> None:
    depth = as_int(value)
    if depth < 0:
        raise ValueError("maxlen must be non-negative")
    1 / depth
    useful(depth <= LARGEST_INTEGER)


def _share(value: Text) -> None:
    number = as_float(value)
    if int(100 * number) < 0 or number < 0:
        raise ValueError("sample larger than population")
    useful(number <= 1e6)


def _initial(value: Text) -> None:
    if as_int(value) < 0:
        raise DatabaseError("LIMIT must not be negative")
    useful(0 < as_int(value) <= LARGEST_INTEGER)


def _half_cell(value: Text) -> None:
    useful(0 < as_float(value) < math.inf)


def _description(value: Text) -> None:
    if value is None:
        raise TypeError("unsupported operand")
    quoted(value % 0.6)
    # Conversions that are not the same in every Python.
    odd = r"%[-+ #0]*[0-9]*(\.[0-9]+)?[hlL]?[acruxXo]"
    useful(not re.search(odd, value.replace("%%", "")))


def _mapping(*names: str) -> Reader:
    def read(value: Text) -> None:
        if value is None:
            raise TypeError("unsupported operand")
        if re.search(
            r"%(?!\([a-zA-Z]+\)[-+ #0]*[0-9]*(\.[0-9]+)?[a-zA-Z])", value.replace("%%", "")
        ):
            raise TypeError("format requires a mapping")
        value % dict.fromkeys(names, 3)

    return read


def _label(value: Text) -> None:
    # PyGithub asserts this itself.
    assert isinstance(value, str)
    useful(value != "")


def _assignee(value: Text) -> None:
    assert isinstance(value, str)


def _pixels(value: Text) -> None:
    useful(value is None or re.fullmatch(r"[1-9][0-9]*(px|%)?", value) is not None)


def _tolerance(value: Text) -> None:
    # Goes into a call in an HTML attribute.
    number = r"[+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|-0+(\.0*)?"
    text = "0" if value is None else value.strip(BLANK)
    useful(re.fullmatch(number, text) is not None and math.isfinite(float(text)))


def _bucket(value: Text) -> None:
    if value is None:
        raise KeyError("NoSuchBucket")
    useful(re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", value) is not None)


def _text(value: Text) -> None:
    del value


def _path(value: Text) -> None:
    useful(value is None or value.startswith("/"))


def _address(value: Text) -> None:
    useful(value is None or not re.search(r"\s", value))


def _of(reader: Reader, *keys: str) -> Iterable[tuple[str, Reader]]:
    return ((key, reader) for key in keys)


#: By key; the readers are labeller's (docs/labeller.md 1.3).
READERS: dict[str, Reader] = dict(
    [
        *_of(_polling, "Hit_PollingInterval"),
        *_of(_interval, "FKMLCheckingInterval", "KMLPollingInterval"),
        *_of(
            strtobool, "Hit_StandAlone", "Hit_NeedFKmlsAlert", "Hit_NeedNKmlsAlert",
            "WI_GithubIssue", "WI_Prompt",
        ),
        *_of(
            _positive, "Hit_AvailTarget", "Hit_PendingAssignLimit", "NKMLBatchSize", "KMLMapHeight",
            "SessionLifetime", "StoppingFunc_MaxIterations",
        ),
        *_of(_alerts, "Hit_AlertFrequency"),
        *_of(_at_least_0, "MinAvailNKMLTarget"),
        *_of(_percentage, "Hit_QaqcPercentage", "Hit_FqaqcPercentage"),
        *_of(_duration, "Hit_Duration"),
        *_of(_assignments, "Hit_MaxAssignmentsF", "Hit_MaxAssignmentsN"),
        *_of(_reward, "Hit_Reward"),
        *_of(_increment, "Hit_RewardIncrement", "Hit_RewardIncrement2"),
        *_of(_replacement, "Hit_ReplacementThreshold_F", "Hit_ReplacementThreshold_N"),
        *_of(
            _threshold, "HitQ_AcceptThreshold", "HitQ_NoWarningThreshold", "HitN_TrustThreshold",
            "Qual_RevocationThreshold", "Quality_ReturnWeight", "Consensus_WarningThreshold",
        ),
        *_of(_spliced_threshold, "HitI_AcceptThreshold"),
        *_of(_stopping, "StoppingFunc_AccThres", "StoppingFunc_AccGainThres"),
        *_of(_risk, "Consensus_RiskyPixelThreshold"),
        *_of(_bonus_threshold, *(f"Bonus_Threshold{level}" for level in "1234")),
        *_of(spliced, *(f"Bonus_Amount{level}" for level in (*"1234", "Training"))),
        *_of(quoted, *(f"Bonus_Reason{level}" for level in (*"1234", "Training"))),
        *_of(_depth, "Quality_ScoreHistDepth", "Quality_ReturnHistDepth"),
        *_of(_share, "ProportionHoldout", "ProportionHoldout1"),
        *_of(_initial, "InitialFnum"),
        *_of(_half_cell, "KMLdlat", "KMLdlon"),
        *_of(_description, "HitQ_WarningDescription", "Hit_RejectDescription"),
        *_of(_mapping("totCount"), "QualTest_TF_TextStart"),
        *_of(_mapping("doneCount", "totCount"), "QualTest_TF_TextMiddle"),
        *_of(_label, *(f"Issue{kind}Label" for kind in ("Alert", "GeneralInquiry", "WorkerInquiry"))),
        *_of(
            _assignee,
            *(f"Issue{kind}Assignee" for kind in ("Alert", "GeneralInquiry", "WorkerInquiry")),
        ),
        *_of(
            _pixels, "KMLFrameHeight",
            *(f"QualTest_{kind}Video{side}" for kind in ("Instructional", "Intro")
              for side in ("Height", "Width")),
        ),
        *_of(_tolerance, "SnapTolerance"),
        *_of(_bucket, "S3BucketDir"),
        *_of(_path, "APIUrl"),
        *_of(_address, "Hit_NotificationEmailAddress"),
        *_of(
            _text, "KMLFrameScript", "KMLGenScript", "KMLInstructions", "MapUrl", "VideoUrl",
            "MinimumMappedCount", "Qual_RevocationDescription", "QualTest_InstructionalVideo",
            "QualTest_IntroVideo", "QualTest_TF_TextEnd", "WI_Message",
            *(f"instance{kind}" for kind in "IQFNE"),
        ),
    ]
)  # fmt: skip
