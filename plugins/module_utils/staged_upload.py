# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""S3 objects that appear when a database transaction is committed, and only then.

The parts of a multipart upload lie on S3 before the commit, without being an object. The run marker
keeps the tokens; completing an upload is safe to repeat. No object is read to recognize it: S3
computes its ETag from the content, and where KMS encrypts, so that the ETag is another value, its
size and the SHA-256 that was noted with it say the same.
"""

from __future__ import annotations

import hashlib
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import IO, Any, Callable, List, Mapping, Optional, Sequence

from . import aws, files
from .change import Change
from .errors import ModuleFailure
from .s3 import md5

#: Size of a part in bytes; S3 wants at least 5 MiB for all but the last.
PART = 8 * 1024 * 1024
CONTENT_TYPE = "text/csv"

# Bytes that are hashed at a time.
_GATHERED = 64 * 1024


@dataclass
class Content:
    """The future content of an object; ``file`` is None when only its description is wanted."""

    rows: int
    size: int
    sha256: str
    etag: str
    file: Optional[IO[bytes]]


class Body:
    """A file to write a body to: hashes it on the way, keeps at most one part in memory."""

    def __init__(self, *, keep: bool) -> None:
        self._file: Optional[IO[bytes]] = None
        if keep:
            self._file = tempfile.SpooledTemporaryFile(max_size=PART)  # noqa: SIM115
        self._whole = hashlib.sha256()
        self._part = md5()  # what S3's ETag is made of
        self._in_part = 0
        self._parts: List[bytes] = []
        self._size = 0
        self._gathered = bytearray()

    def write(self, data: bytes) -> None:
        """Take the next bytes: of a COPY, one row."""
        self._gathered += data
        if len(self._gathered) >= _GATHERED:
            self._take()

    def _take(self) -> None:
        data = bytes(self._gathered)
        self._gathered.clear()
        if self._file:
            self._write(self._file, data)
        self._whole.update(data)
        self._size += len(data)
        view = memoryview(data)
        while view.nbytes:
            taken = view[: PART - self._in_part]
            self._part.update(taken)
            self._in_part += len(taken)
            view = view[len(taken) :]
            if self._in_part == PART:
                self._next_part()

    @staticmethod
    def _write(file: IO[bytes], data: bytes) -> None:
        """Write to the disk: what waited in memory could find no room later, where S3 reads it."""
        try:
            file.write(data)
            file.flush()
        except OSError as error:
            with suppress(OSError):
                file.close()
            raise files.no_temporary(error) from error

    def _next_part(self) -> None:
        self._parts.append(self._part.digest())
        self._part = md5()
        self._in_part = 0

    def finished(self, rows: int) -> Content:
        """The content, after the last write; ``rows`` is what it holds, without the header."""
        self._take()
        if self._in_part or not self._parts:
            self._next_part()
        joined = md5(b"".join(self._parts)).hexdigest()
        etag = "{}-{}".format(joined, len(self._parts))
        return Content(rows, self._size, self._whole.hexdigest(), etag, self._file)


@dataclass
class Upload:
    """An object to be: where, and with what content."""

    bucket: str
    key: str
    content: Content
    upload_id: str = ""
    needed: bool = True
    #: S3's answer about the object that is there.
    replaced: Optional[Mapping[str, Any]] = None

    def describe(self) -> str:
        """The object's text in diffs."""
        return _describe(self.content.rows, self.content.size, self.content.sha256)

    def change(self, s3: Any) -> Change:
        """The change that uploading it makes; reads the present object's head only.

        Afterwards ``needed`` says whether the object is not there with this content, and
        ``replaced`` what is there.
        """
        before = self._present(s3)
        self.needed = before != self.describe()
        return Change(
            "s3://{}/{}".format(self.bucket, self.key),
            "upload",
            before,
            self.describe(),
            {"rows": self.content.rows, "bytes": self.content.size},
        )

    def _present(self, s3: Any) -> str:
        self.replaced = head = aws.head_object(s3, self.bucket, self.key)
        if head is None:
            return ""
        if head["ETag"].strip('"') == self.content.etag:
            return self.describe()
        known = head.get("Metadata", {})
        if "sha256" in known:
            return _describe(int(known.get("rows", 0)), head["ContentLength"], known["sha256"])
        return "{:,} bytes\nETag {}\n".format(head["ContentLength"], head["ETag"])


@dataclass(frozen=True)
class Staged:
    """An upload whose parts lie on S3: all that completing it needs."""

    bucket: str
    key: str
    upload_id: str
    parts: Sequence[str]
    etag: str
    rows: int
    size: int
    sha256: str

    def token(self) -> Mapping[str, Any]:
        """Its JSON form for the run marker."""
        return asdict(self)

    def completion(self) -> Change:
        """The change that completing it is, after a crash."""
        return Change(
            "s3://{}/{}".format(self.bucket, self.key),
            "upload",
            "",
            _describe(self.rows, self.size, self.sha256),
            {"rows": self.rows, "bytes": self.size},
        )

    def complete(self, s3: Any) -> bool:
        """Turn the parts into the object; False when S3 has neither the upload nor the object."""
        with aws.translated("complete the upload of s3://{}/{}".format(self.bucket, self.key)):
            if self.upload_id in _unfinished(s3, self.bucket, self.key):
                parts = [{"ETag": etag, "PartNumber": n} for n, etag in enumerate(self.parts, 1)]
                s3.complete_multipart_upload(
                    Bucket=self.bucket,
                    Key=self.key,
                    UploadId=self.upload_id,
                    MultipartUpload={"Parts": parts},
                )
                return True
        head = aws.head_object(s3, self.bucket, self.key)
        if head is None:
            return False
        noted = head["ContentLength"], head.get("Metadata", {}).get("sha256")
        return head["ETag"].strip('"') == self.etag or noted == (self.size, self.sha256)


def stage(s3: Any, uploads: Sequence[Upload]) -> List[Staged]:
    """Put the parts of those objects on S3 that are not there with the same content already.

    Uploads of the same keys that an earlier crash left behind are removed: no marker names them.
    """
    return [_stage(s3, upload) for upload in uploads if upload.needed]


def _stage(s3: Any, upload: Upload) -> Staged:
    content, place = upload.content, {"Bucket": upload.bucket, "Key": upload.key}
    if content.file is None:
        raise ModuleFailure("s3://{}/{} was not kept".format(upload.bucket, upload.key))
    with aws.translated("upload s3://{}/{}".format(upload.bucket, upload.key)):
        for stale in _unfinished(s3, upload.bucket, upload.key):
            s3.abort_multipart_upload(UploadId=stale, **place)
        upload.upload_id = s3.create_multipart_upload(
            ContentType=CONTENT_TYPE,
            Metadata={"sha256": content.sha256, "rows": str(content.rows)},
            **place,
        )["UploadId"]
        parts: List[str] = []
        content.file.seek(0)
        data = content.file.read(PART)
        while data or not parts:
            answer = s3.upload_part(
                UploadId=upload.upload_id, PartNumber=len(parts) + 1, Body=data, **place
            )
            parts.append(answer["ETag"])
            data = content.file.read(PART)
    content.file.close()
    return Staged(
        upload.bucket, upload.key, upload.upload_id, parts,
        content.etag, content.rows, content.size, content.sha256,
    )  # fmt: skip


def _unfinished(s3: Any, bucket: str, key: str) -> List[str]:
    """The ids of the key's multipart uploads that are neither completed nor aborted."""
    pages = s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=key)
    return [
        upload["UploadId"]
        for page in pages
        for upload in page.get("Uploads", [])
        if upload["Key"] == key
    ]


def abort(uploads: Sequence[Upload], s3: Callable[[], Any]) -> None:
    """Remove the parts that ``stage`` put on S3; for a transaction that was rolled back.

    Best effort: the error that ended the transaction is the one to report, and the next
    transaction removes what is left.
    """
    for upload in uploads:
        if upload.content.file:
            upload.content.file.close()
        if upload.upload_id:
            try:
                with aws.translated("abort"):
                    s3().abort_multipart_upload(
                        Bucket=upload.bucket, Key=upload.key, UploadId=upload.upload_id
                    )
            except ModuleFailure:
                continue


def _describe(rows: int, size: int, sha256: str) -> str:
    return "{:,} rows\n{:,} bytes\nsha256 {}\n".format(rows, size, sha256)
