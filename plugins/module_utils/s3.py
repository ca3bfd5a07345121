# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One S3 bucket: listing, small objects, uploads that stream and are checked.

Every call names its object in its error (``aws.translated``).
"""

from __future__ import annotations

import base64
import hashlib
import sys
from contextlib import suppress
from threading import BoundedSemaphore
from time import sleep
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from . import aws
from .errors import InvalidInput, ModuleFailure, Unreachable

with suppress(ImportError):  # aws.client says what to install
    from botocore.exceptions import ClientError, HTTPClientError, IncompleteReadError

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future
    from datetime import datetime

PART_SIZE = 8 << 20
#: S3 takes 10,000 parts; growing them allows objects of 5 TB while small ones stay small in memory.
PARTS_BEFORE_GROWTH = 1000
READ_SIZE = 1 << 20
#: How often in a row a body may break off without a byte before it is given up.
READ_ATTEMPTS = 5


class Upload(NamedTuple):
    """A multipart upload that was begun and neither completed nor aborted."""

    key: str
    upload_id: str
    initiated: datetime


class Attested(NamedTuple):
    """The properties of an object; ``sha256`` (base64, ``-N`` for N parts) where S3 keeps one."""

    size: int
    etag: str
    sha256: str


class Written(NamedTuple):
    """A finished upload: ``sha256`` in hex of the whole object, and what S3 has to attest."""

    size: int
    sha256: str
    checksum_sha256: str
    etag: str


class Bucket:
    """A bucket seen through one client, which threads may share."""

    def __init__(self, name: str, params: Mapping[str, Any]) -> None:
        self.name = name
        self.client = aws.client("s3", params, aws.ATTEMPTS)

    def url(self, key: str) -> str:
        """``s3://BUCKET/KEY``."""
        return "s3://{}/{}".format(self.name, key)

    def check(self) -> Mapping[str, Any]:
        """S3's answer about the bucket.

        Raises InvalidInput when it is not there, ModuleFailure when it is closed.
        """
        with aws.translated("use bucket {}".format(self.name)):
            try:
                answer: Mapping[str, Any] = self.client.head_bucket(Bucket=self.name)
                return answer
            except ClientError as error:
                if aws.error_code(error) in ("404", "NoSuchBucket"):
                    raise InvalidInput(
                        "bucket {} does not exist; check the parameter bucket".format(self.name)
                    ) from error
                raise

    def folders(self, prefix: str) -> List[str]:
        """The names directly below ``prefix`` that are prefixes of keys, sorted."""
        with aws.translated("list {}".format(self.url(prefix))):
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.name, Prefix=prefix, Delimiter="/"
            )
            return sorted(
                entry["Prefix"][len(prefix) : -1]
                for page in pages
                for entry in page.get("CommonPrefixes", [])
            )

    def keys(self, prefix: str) -> Dict[str, Tuple[int, datetime]]:
        """Size in bytes and time of the last change of every object below ``prefix``."""
        return {
            entry["Key"]: (entry["Size"], entry["LastModified"])
            for entry in aws.objects(self.client, self.name, prefix)
        }

    def uploads(self, prefix: str) -> List[Upload]:
        """Unfinished multipart uploads below ``prefix``."""
        with aws.translated("list unfinished uploads of {}".format(self.url(prefix))):
            pages = self.client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self.name, Prefix=prefix
            )
            try:
                return [
                    Upload(entry["Key"], entry["UploadId"], entry["Initiated"])
                    for page in pages
                    for entry in page.get("Uploads", [])
                ]
            except ClientError as error:
                if aws.error_code(error) == "NoSuchUpload":  # how rclone's server says none
                    return []
                raise

    def abort(self, key: str, upload_id: str) -> None:
        """Remove an unfinished upload with its parts; one that is gone already is no error."""
        with aws.translated("abort the upload of {}".format(self.url(key))):
            try:
                self.client.abort_multipart_upload(Bucket=self.name, Key=key, UploadId=upload_id)
            except ClientError as error:
                if aws.error_code(error) != "NoSuchUpload":
                    raise

    def delete(self, keys: List[str]) -> None:
        """Delete objects; those that are gone already are no error."""
        for start in range(0, len(keys), 1000):
            some = keys[start : start + 1000]
            with aws.translated("delete {} objects from {}".format(len(some), self.url(some[0]))):
                answer = self.client.delete_objects(
                    Bucket=self.name,
                    Delete={"Objects": [{"Key": key} for key in some], "Quiet": True},
                )
            for problem in answer.get("Errors", []):
                raise ModuleFailure(
                    "cannot delete {}: {}".format(self.url(problem["Key"]), problem.get("Message"))
                )

    def read(self, key: str) -> Optional[bytes]:
        """A small object's content; None when there is none."""
        return aws.read_object(self.client, self.name, key)

    def create(self, key: str, body: bytes, options: Mapping[str, Any]) -> bool:
        """Write an object that must not exist yet; False if another session was faster.

        A repeated request whose first answer was lost finds its own object: that is no other's.
        """
        with aws.translated("write {}".format(self.url(key))):
            try:
                answer = self.client.put_object(
                    Bucket=self.name,
                    Key=key,
                    Body=body,
                    IfNoneMatch="*",
                    ChecksumSHA256=_base64(hashlib.sha256(body).digest()),
                    **options,
                )
            except ClientError as error:
                if aws.error_code(error) in aws.TAKEN_CODES:
                    return self.read(key) == body
                raise
        aws.require_encrypted(answer, self.url(key), options.get("ServerSideEncryption"))
        return True

    def attested(self, key: str) -> Optional[Attested]:
        """The properties of an object, without reading it; None when there is none."""
        head = aws.head_object(self.client, self.name, key, ChecksumMode="ENABLED")
        if head is None:
            return None
        return Attested(
            head["ContentLength"], head["ETag"].strip('"'), head.get("ChecksumSHA256", "")
        )

    def tail(self, key: str, size: int) -> bytes:
        """The last ``size`` bytes of an object that is not empty."""
        with aws.translated("read {}".format(self.url(key))):
            answer = self.client.get_object(
                Bucket=self.name, Key=key, Range="bytes=-{}".format(size)
            )
            return answer["Body"].read()  # type: ignore[no-any-return]

    def stream(self, key: str) -> Iterator[bytes]:
        """An object's content piece by piece; a body that breaks off is taken up where it ended."""
        received, size, etag, failures = 0, -1, "", 0
        while size < 0 or received < size:
            options = {"Range": "bytes={}-".format(received), "IfMatch": etag} if received else {}
            with aws.translated("read {}".format(self.url(key))):
                answer = self.client.get_object(Bucket=self.name, Key=key, **options)
            etag = answer["ETag"]
            size = received + answer["ContentLength"]
            before = received
            try:
                for piece in _pieces(answer["Body"]):
                    received += len(piece)
                    yield piece
            except (HTTPClientError, IncompleteReadError) as error:
                failures = failures + 1 if received == before else 1
                if failures > READ_ATTEMPTS:
                    raise Unreachable(
                        "cannot read {}: it broke off at byte {} of {}: {}".format(
                            self.url(key), received, size, error
                        )
                    ) from error
                sleep(0.1 * 2**failures)


def _pieces(body: Any) -> Iterator[bytes]:
    try:
        while True:
            piece = body.read(READ_SIZE)
            if not piece:
                return
            yield piece
    finally:
        body.close()


class Sender:
    """Sends parts in the background; at most ``in_flight`` of them are in memory."""

    def __init__(self, executor: Executor, in_flight: int) -> None:
        self._executor = executor
        self._places = BoundedSemaphore(in_flight)

    def send(self, call: Any, **arguments: Any) -> Future[Any]:
        """Begin ``call(**arguments)``; waits for a free place first."""
        self._places.acquire()
        try:
            future = self._executor.submit(call, **arguments)
        except BaseException:
            self._places.release()
            raise
        future.add_done_callback(lambda _: self._places.release())
        return future


class Writer:
    """One object written as a stream: a plain PUT when it is small, else a multipart upload.

    Every request carries the SHA-256 of what it sends, so that S3 refuses what arrives damaged.
    ``finish`` completes the object; as a context manager it removes the parts of one that was not
    finished.
    """

    def __init__(
        self, bucket: Bucket, key: str, sender: Sender, options: Mapping[str, Any]
    ) -> None:
        self._bucket, self._key, self._sender = bucket, key, sender
        self._options = dict(options)
        self._whole = hashlib.sha256()
        self._parts: List[Tuple[bytes, bytes]] = []
        self._futures: List[Future[Any]] = []
        self._buffer = bytearray()
        self._upload_id = ""
        self._done = False
        self.size = 0

    def write(self, data: bytes) -> None:
        """Take more of the object; blocks while too many parts are on their way."""
        self._buffer += data
        while len(self._buffer) >= self._part_size():
            size = self._part_size()
            part = bytes(memoryview(self._buffer)[:size])
            del self._buffer[:size]
            self._send(part)

    def finish(self) -> Written:
        """Complete the object and say what it is. S3's answers to all parts have been checked."""
        with aws.translated("write {}".format(self._bucket.url(self._key))):
            written = self._finish_parts() if self._parts else self._finish_small()
        self._done = True
        return written

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._done or not self._upload_id:
            return
        for future in self._futures:
            future.cancel()
        for future in self._futures:
            if not future.cancelled():
                future.exception()
        try:
            self._bucket.abort(self._key, self._upload_id)
        except ModuleFailure:
            # The error of the block says more; the next backup removes the parts.
            if kind is None:
                raise

    def _part_size(self) -> int:
        return PART_SIZE * (1 + len(self._parts) // PARTS_BEFORE_GROWTH)

    def _send(self, part: bytes) -> None:
        client = self._bucket.client
        with aws.translated("write {}".format(self._bucket.url(self._key))):
            if not self._upload_id:
                answer = client.create_multipart_upload(
                    Bucket=self._bucket.name,
                    Key=self._key,
                    ChecksumAlgorithm="SHA256",
                    **self._options,
                )
                self._upload_id = answer["UploadId"]
                self._require_encrypted(answer)
            for future in self._futures:
                if future.done():
                    future.result()  # a part that failed ends the copy early
        digest = self._digest(part)
        self._futures.append(
            self._sender.send(
                client.upload_part,
                Bucket=self._bucket.name,
                Key=self._key,
                UploadId=self._upload_id,
                PartNumber=len(self._parts),
                Body=part,
                ChecksumSHA256=_base64(digest),
            )
        )

    def _digest(self, part: bytes) -> bytes:
        digest = hashlib.sha256(part).digest()
        self._whole.update(part)
        self._parts.append((digest, md5(part).digest()))
        self.size += len(part)
        return digest

    def _finish_small(self) -> Written:
        body = bytes(self._buffer)
        digest = self._digest(body)
        answer = self._sender.send(
            self._bucket.client.put_object,
            Bucket=self._bucket.name,
            Key=self._key,
            Body=body,
            ChecksumSHA256=_base64(digest),
            **self._options,
        ).result()
        self._require_encrypted(answer)
        return Written(self.size, self._whole.hexdigest(), _base64(digest), self._parts[0][1].hex())

    def _require_encrypted(self, answer: Mapping[str, Any]) -> None:
        asked = self._options.get("ServerSideEncryption")
        aws.require_encrypted(answer, self._bucket.url(self._key), asked)

    def _finish_parts(self) -> Written:
        if self._buffer:
            self._send(bytes(self._buffer))
        etags = [future.result()["ETag"] for future in self._futures]
        digests, md5s = zip(*self._parts)
        count = len(self._parts)
        written = Written(
            self.size,
            self._whole.hexdigest(),
            "{}-{}".format(_base64(hashlib.sha256(b"".join(digests)).digest()), count),
            "{}-{}".format(md5(b"".join(md5s)).hexdigest(), count),
        )
        try:
            self._bucket.client.complete_multipart_upload(
                Bucket=self._bucket.name,
                Key=self._key,
                UploadId=self._upload_id,
                MultipartUpload={
                    "Parts": [
                        {"PartNumber": number, "ETag": etag, "ChecksumSHA256": _base64(digest)}
                        for number, (etag, digest) in enumerate(zip(etags, digests), start=1)
                    ]
                },
            )
        except ClientError as error:
            if aws.error_code(error) != "NoSuchUpload":
                raise
            # Done already, if the answer to a first request was lost: the object shows.
            there = self._bucket.attested(self._key)
            if there is None or there.size != self.size:
                raise
        return written


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def md5(data: bytes = b"") -> Any:
    """S3's own tag of a part; no security rests on it."""
    if sys.version_info >= (3, 9):  # hosts in FIPS mode refuse MD5 without it
        return hashlib.md5(data, usedforsecurity=False)
    return hashlib.md5(data)  # noqa: S324
