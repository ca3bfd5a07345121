"""Reading objects back: whole or refused, in small pieces, a few of them ahead."""

from __future__ import annotations

import gzip
import hashlib
from typing import TYPE_CHECKING, Any

import pytest
import zstandard
from ansible_collections.labeller.runbook.plugins.module_utils import errors, s3
from ansible_collections.labeller.runbook.plugins.module_utils.backup import load
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

COMPRESSORS = pytest.mark.parametrize(
    ("compression", "compress"),
    [("gzip", gzip.compress), ("zstd", zstandard.ZstdCompressor().compress)],
)


@COMPRESSORS
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, ""),
        ({"sha256": "0" * 64}, "size or SHA-256 differ"),
        ({"size": 7}, "size or SHA-256 differ"),
        ({"size": 7, "sha256": ""}, "is not what was written"),
    ],
    ids=["right", "checksum", "size", "cut off"],
)
def test_an_object_is_held_against_the_manifest_as_it_is_read(
    aws: dict[str, Any], bucket: str, compression: str, compress: Any, wrong: Any, message: str
) -> None:
    body = compress(b"id\n1\n")
    digest = hashlib.sha256(body).hexdigest()
    entry: Any = {"key": "k", "size": len(body), "sha256": digest, **wrong}
    held = s3.Bucket(bucket, aws)
    held.create("k", body[:-3] if wrong.get("sha256") == "" else body, {})
    if not message:
        assert b"".join(load.contents(held, entry, compression)) == b"id\n1\n"
        return
    with pytest.raises(errors.ModuleFailure, match=rf"s3://{bucket}/k .*{message}"):
        list(load.contents(held, entry, compression))


def test_frames_that_follow_each_other_are_one_file() -> None:
    """As `zstd` reads what `cat` put together."""
    frames = [zstandard.ZstdCompressor().compress(data) for data in (b"id\n", b"1\n")]
    assert b"".join(load.decompressed(iter(frames), "zstd")) == b"id\n1\n"


@COMPRESSORS
def test_a_small_object_of_much_data_is_no_large_piece(compression: str, compress: Any) -> None:
    data = b"0123456789" * (1 << 20)
    for size in (7, 1 << 20):
        packed = compress(data)
        pieces = (packed[start : start + size] for start in range(0, len(packed), size))
        found = list(load.decompressed(pieces, compression))
        assert b"".join(found) == data
        assert max(map(len, found)) <= load.PIECE


def test_an_endpoint_that_is_none_is_an_input_error(aws: dict[str, Any], bucket: str) -> None:
    with pytest.raises(errors.InvalidInput, match="Invalid endpoint: nonsense; check aws_endpoint"):
        s3.Bucket(bucket, {**aws, "endpoint_url": "nonsense"})


def test_only_so_many_pieces_are_fetched_ahead() -> None:
    taken: list[int] = []

    def pieces() -> Iterator[bytes]:
        for number in range(100):
            taken.append(number)
            yield b"x"

    with load.Ahead(pieces()) as ahead:
        until(lambda: ahead._fetched.full() or len(taken) == 100)
        assert len(taken) <= load._AHEAD + 1
        assert ahead.read() == b"x"
    assert not ahead._thread.is_alive()


def test_what_goes_wrong_ahead_is_raised_where_it_is_read() -> None:
    def pieces() -> Iterator[bytes]:
        yield b"x"
        raise errors.InvalidInput("cut off")

    with load.Ahead(pieces()) as ahead:
        assert ahead.read() == b"x"
        with pytest.raises(errors.InvalidInput, match="cut off"):
            ahead.read()
