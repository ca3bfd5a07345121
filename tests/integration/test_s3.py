"""One bucket: lists of many pages, writes that are conditional and checked, bounded memory."""

from __future__ import annotations

import base64
import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.labeller.runbook.plugins.module_utils import aws as aws_clients
from ansible_collections.labeller.runbook.plugins.module_utils import errors, s3, staged_upload
from backup_support import content
from backup_support import s3 as client
from faulty import Fault, Proxy, on
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def held(aws: dict[str, Any], bucket: str) -> s3.Bucket:
    return s3.Bucket(bucket, {**aws, "access_key": bucket})  # a client of its own, for handlers


@pytest.fixture
def proxy(aws_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    monkeypatch.setattr(aws_clients, "ATTEMPTS", 1)
    with Proxy(aws_endpoint).running() as running:
        yield running


@pytest.fixture
def far(aws: dict[str, Any], bucket: str, proxy: Proxy) -> s3.Bucket:
    """The same bucket, through the proxy."""
    return s3.Bucket(bucket, {**aws, "endpoint_url": proxy.url})


@pytest.fixture
def sender() -> Iterator[s3.Sender]:
    with ThreadPoolExecutor(4) as executor:
        yield s3.Sender(executor, 4)


def test_lists_have_all_their_pages(held: s3.Bucket, aws: Any, bucket: str) -> None:
    def small_pages(params: dict[str, Any], **_: Any) -> None:
        params["MaxKeys"] = 2

    held.client.meta.events.register("provide-client-params.s3.ListObjectsV2", small_pages)
    names = [f"b/{number}/x" for number in range(5)]
    for name in names:
        client(aws).put_object(Bucket=bucket, Key=name, Body=b"123")
    assert [(key, size) for key, (size, _) in held.keys("b/").items()] == [(n, 3) for n in names]
    assert held.folders("b/") == ["0", "1", "2", "3", "4"]


def test_a_completed_upload_is_recognized_where_kms_encrypts(held: s3.Bucket) -> None:
    """ETags are no MD5 there; moto's are, so they are replaced in S3's answers."""
    body = staged_upload.Body(keep=True)
    body.write(b"name\nGH0001\n")
    upload = staged_upload.Upload(held.name, "learner/pool.csv", body.finished(1))

    def other_etag(parsed: dict[str, Any], **_: Any) -> None:
        if "ETag" in parsed:
            parsed["ETag"] = '"{}"'.format(hashlib.sha256(parsed["ETag"].encode()).hexdigest()[:32])

    (staged,) = staged_upload.stage(held.client, [upload])
    assert staged.complete(held.client)
    held.client.meta.events.register("after-call.s3.HeadObject", other_etag)
    assert staged.complete(held.client)  # as a run after a crash does
    assert upload.change(held.client).changed is False
    held.client.put_object(Bucket=held.name, Key=upload.key, Body=b"name\nGH0002\n")
    assert not staged.complete(held.client)


def test_unfinished_uploads_have_all_their_pages(far: s3.Bucket, proxy: Proxy) -> None:
    """On the wire: moto knows no pages of them."""
    page = (
        "<ListMultipartUploadsResult><IsTruncated>{}</IsTruncated><NextKeyMarker>{}</NextKeyMarker>"
        "<NextUploadIdMarker>i</NextUploadIdMarker><Upload><Key>{}</Key><UploadId>i</UploadId>"
        "<Initiated>2026-01-14T09:30:12Z</Initiated></Upload></ListMultipartUploadsResult>"
    )
    pages = [page.format("true", "b/0", "b/0"), page.format("false", "", "b/1")]
    answers = [on("GET", "uploads", Fault("status", 200, body=body), 1) for body in pages]
    proxy.rule = lambda request: answers[0](request) or answers[1](request)
    assert [upload.key for upload in far.uploads("b/")] == ["b/0", "b/1"]


def test_a_key_that_cannot_be_deleted_is_named(far: s3.Bucket, proxy: Proxy) -> None:
    refused = (
        "<DeleteResult><Error><Key>b/k</Key><Code>AccessDenied</Code>"
        "<Message>under retention</Message></Error></DeleteResult>"
    )
    proxy.rule = on("POST", "delete", Fault("status", 200, body=refused))
    with pytest.raises(errors.ModuleFailure, match=r"cannot delete s3://.*/b/k: under retention"):
        far.delete(["b/j", "b/k"])


def test_more_keys_than_one_request_deletes(held: s3.Bucket, aws: Any, bucket: str) -> None:
    for name in ("k0000", "k1000"):
        client(aws).put_object(Bucket=bucket, Key=name, Body=b"x")
    held.delete([f"k{number:04}" for number in range(1001)])
    assert held.keys("") == {}


def test_an_object_is_created_once(held: s3.Bucket, far: s3.Bucket, proxy: Proxy, aws: Any, bucket: str) -> None:  # fmt: skip
    assert held.create("m", b"first", {})
    assert not held.create("m", b"other", {})
    assert content(aws, bucket, "m") == b"first"
    proxy.rule = on("PUT", "m", Fault("status", 409, "ConditionalRequestConflict"))
    assert not far.create("m", b"other", {})


@pytest.mark.parametrize("size", [1, s3.PART_SIZE])
def test_an_object_that_the_server_does_not_encrypt_is_an_error(
    far: s3.Bucket, proxy: Proxy, sender: s3.Sender, size: int
) -> None:
    """Servers other than AWS's may ignore it: of a large object no part is sent then."""
    options = {"ServerSideEncryption": "AES256"}
    assert far.create("m", b"first", options)
    proxy.rule = lambda _: Fault("unencrypted")
    with pytest.raises(errors.Refused, match=r"s3://.*/n is not encrypted: .*asked for AES256"):
        far.create("n", b"first", options)

    def write() -> None:
        with s3.Writer(far, "k", sender, options) as writer:
            writer.write(bytes(size))
            writer.finish()

    with pytest.raises(
        errors.Refused, match=r"s3://.*/k is not encrypted.* server_side_encryption"
    ):
        write()
    assert not any("partNumber" in request.path for request in proxy.seen)


def test_an_object_that_cannot_be_looked_at_is_not_taken_for_missing(
    far: s3.Bucket, proxy: Proxy
) -> None:
    assert (far.read("m"), far.attested("m")) == (None, None)
    proxy.rule = lambda _: Fault("status", 403, "AccessDenied")
    for look in (far.read, far.attested):
        with pytest.raises(errors.ModuleFailure, match=r"s3://.*/m: access denied"):
            look("m")


def test_an_upload_that_is_gone_is_aborted(held: s3.Bucket, aws: Any, bucket: str) -> None:
    begun = client(aws).create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    assert [(upload.key, upload.upload_id) for upload in held.uploads("")] == [("k", begun)]
    held.abort("k", begun)
    held.abort("k", begun)
    assert held.uploads("") == []


def test_servers_that_have_no_uploads_to_list(far: s3.Bucket, proxy: Proxy) -> None:
    proxy.rule = on("GET", "uploads", Fault("status", 404, "NoSuchUpload"))
    assert far.uploads("") == []


def test_a_body_that_breaks_off_again_and_again(
    far: s3.Bucket, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time with some bytes it goes on for ever, without a byte it is given up."""
    monkeypatch.setattr(s3, "READ_ATTEMPTS", 2)
    monkeypatch.setattr(s3, "sleep", lambda _: None)
    far.create("k", bytes(range(256)), {})
    proxy.rule = on("GET", "k", Fault("truncate"), 5)
    assert b"".join(far.stream("k")) == bytes(range(256))
    far.create("one", b"x", {})
    proxy.rule = on("GET", "one", Fault("truncate"))  # half of one byte
    with pytest.raises(errors.Unreachable, match=r"s3://.*/one: it broke off at byte 0 of 1"):
        list(far.stream("one"))


def test_a_body_is_not_taken_up_in_another_object(
    far: s3.Bucket, proxy: Proxy, aws: Any, bucket: str
) -> None:
    far.create("k", b"old" * 100, {})

    def rule(request: Any) -> Fault | None:
        if request.method == "GET" and len(proxy.seen) == 2:
            return Fault("truncate")
        client(aws).put_object(Bucket=bucket, Key="k", Body=b"new" * 100)
        return None

    proxy.rule = rule
    with pytest.raises(errors.ModuleFailure, match=r"s3://.*/k"):
        list(far.stream("k"))


def test_what_s3_says_of_an_upload_is_what_was_written(
    held: s3.Bucket, sender: s3.Sender, aws: Any, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "PARTS_BEFORE_GROWTH", 1)
    body = b"0123456789abcdef" * (1 << 20)
    options = {"StorageClass": "STANDARD_IA", "ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "k"}
    for name, data in (("small", body[:100]), ("large", body * 2)):
        with s3.Writer(held, name, sender, options) as writer:
            writer.write(data)
            written = writer.finish()
        attested = held.attested(name)
        assert attested is not None
        assert (attested.size, attested.etag) == (len(data), written.etag)
        # moto keeps it of multipart uploads only, without their count of parts
        checksum, _, count = written.checksum_sha256.partition("-")
        assert attested.sha256 == (checksum if count else "")
        head = client(aws).head_object(Bucket=bucket, Key=name)
        assert {key: head[key] for key in options} == options
        assert content(aws, bucket, name) == data
    sizes = [
        client(aws).head_object(Bucket=bucket, Key="large", PartNumber=number)["ContentLength"]
        >> 20
        for number in (1, 2, 3)
    ]
    assert sizes == [8, 16, 8]


def test_every_request_carries_the_checksum_of_its_body(held: s3.Bucket, sender: s3.Sender) -> None:
    sent = []

    def note(request: Any, **_: Any) -> None:
        body = request.body if isinstance(request.body, bytes) else request.body.getvalue()
        digest = base64.b64encode(hashlib.sha256(body).digest())
        sent.append((request.headers["x-amz-checksum-sha256"], digest))

    completed = []

    def complete(request: Any, **_: Any) -> None:
        completed.append(request.body.count(b"</ChecksumSHA256>"))

    held.client.meta.events.register("before-send.s3.CompleteMultipartUpload", complete)
    for operation in ("PutObject", "UploadPart"):
        held.client.meta.events.register(f"before-send.s3.{operation}", note)
    held.create("m", b"manifest", {})
    for name, size in (("small", 100), ("large", s3.PART_SIZE + 1)):
        with s3.Writer(held, name, sender, {}) as writer:
            writer.write(bytes(size))
            writer.finish()
    assert len(sent) == 4
    assert all(carried == digest for carried, digest in sent)
    assert completed == [2]


def test_parts_of_a_failed_upload_are_removed(held: s3.Bucket, sender: s3.Sender) -> None:
    def fail() -> None:
        with s3.Writer(held, "k", sender, {}) as writer:
            writer.write(bytes(s3.PART_SIZE))
            assert len(held.uploads("")) == 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert held.uploads("") == []


def test_parts_on_their_way_arrive_before_the_upload_is_removed(
    far: s3.Bucket, proxy: Proxy, sender: s3.Sender
) -> None:
    """One that comes later would stay."""
    seen, begun = [], threading.Event()

    def rule(request: Any) -> None:
        if "partNumber=1" in request.path:
            begun.set()
            threading.Event().wait(0.2)
            seen.append("part")
        elif request.method == "DELETE":
            seen.append("removal")

    proxy.rule = rule
    with s3.Writer(far, "k", sender, {}) as writer:
        writer.write(bytes(s3.PART_SIZE))
        assert begun.wait(10)
    assert seen == ["part", "removal"]
    assert far.uploads("") == []


def test_a_completion_that_is_refused_is_an_error_whatever_lies_there(
    far: s3.Bucket, proxy: Proxy, sender: s3.Sender
) -> None:
    body = bytes(s3.PART_SIZE)
    far.create("k", body, {})
    proxy.rule = on("POST", "uploadId=", Fault("status", 400, "InvalidPart"))
    with s3.Writer(far, "k", sender, {}) as writer:
        writer.write(body)
        with pytest.raises(errors.ModuleFailure, match=r"write s3://.*/k: .*InvalidPart"):
            writer.finish()
    assert far.uploads("") == []


@pytest.mark.parametrize("there", [b"", b"another object"])
def test_an_upload_that_somebody_removed_is_an_error(
    far: s3.Bucket, proxy: Proxy, sender: s3.Sender, there: bytes
) -> None:
    if there:
        far.create("k", there, {})
    proxy.rule = on("POST", "uploadId=", Fault("status", 404, "NoSuchUpload"))
    with s3.Writer(far, "k", sender, {}) as writer:
        writer.write(bytes(s3.PART_SIZE))
        with pytest.raises(errors.ModuleFailure, match=r"write s3://.*/k: .*NoSuchUpload"):
            writer.finish()


def test_a_part_that_fails_ends_the_copy_early(
    far: s3.Bucket, proxy: Proxy, sender: s3.Sender
) -> None:
    proxy.rule = on("PUT", "partNumber=1", Fault("status", 403, "AccessDenied"))
    with s3.Writer(far, "k", sender, {}) as writer:
        writer.write(bytes(s3.PART_SIZE))
        until(writer._futures[0].done)
        with pytest.raises(errors.ModuleFailure, match=r"s3://.*/k: access denied"):
            writer.write(bytes(s3.PART_SIZE))


def test_the_first_error_of_an_upload_is_the_one_that_is_said(
    far: s3.Bucket, proxy: Proxy, sender: s3.Sender
) -> None:
    """Not that its parts could not be removed either, as where a server is down."""
    refused = on("PUT", "partNumber=1", Fault("status", 400, "EntityTooLarge"))
    kept = on("DELETE", "uploadId", Fault("status", 403, "AccessDenied"))
    proxy.rule = lambda request: refused(request) or kept(request)

    def write(*, whole: bool) -> None:
        with s3.Writer(far, "k", sender, {}) as writer:
            writer.write(bytes(s3.PART_SIZE))
            if whole:
                writer.finish()

    with pytest.raises(errors.ModuleFailure, match=r"cannot write s3://.*/k: .*EntityTooLarge"):
        write(whole=True)
    with pytest.raises(errors.ModuleFailure, match=r"cannot abort the upload of s3://.*/k: access"):
        write(whole=False)


def test_only_so_many_parts_are_in_memory() -> None:
    let_go = threading.Event()
    with ThreadPoolExecutor(4) as executor:
        sender = s3.Sender(executor, 2)
        futures = [sender.send(let_go.wait), sender.send(let_go.wait)]
        third = threading.Thread(target=sender.send, args=(let_go.wait,))
        third.start()
        third.join(0.1)
        assert third.is_alive()
        let_go.set()
        third.join(10)
        assert not third.is_alive()
    assert all(future.done() for future in futures)
