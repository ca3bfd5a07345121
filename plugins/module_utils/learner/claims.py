# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The attempts at an iteration, each claimed by an object on S3 that only one caller can create."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Callable, Dict, List, Mapping, Optional

from .. import aws
from ..errors import InvalidInput, Locked

with suppress(ImportError):  # aws.client says what to install
    from botocore.exceptions import ClientError


@dataclass
class Attempt:
    """One claim: the ``number``-th attempt at the iteration."""

    number: int
    key: str
    content: Dict[str, Any]
    modified: Optional[datetime] = None

    @property
    def cluster_id(self) -> str:
        """The cluster's id, empty while it is not noted."""
        return str(self.content.get("cluster_id") or "")


class Claims:
    """The claims of an iteration: the objects below ``prefix``; ``name`` is the learner's.

    ``ask`` calls a client's method and gives its answer.
    """

    def __init__(
        self, s3: Any, bucket: str, prefix: str, name: str, ask: Callable[..., Dict[str, Any]]
    ) -> None:
        self.s3, self.bucket, self.prefix, self.name, self._ask = s3, bucket, prefix, name, ask

    def attempts(self) -> List[Attempt]:
        """All claims in their order."""
        claims = aws.objects(self.s3, self.bucket, self.prefix)
        found = [self._read(claim["Key"]) for claim in claims]
        return sorted(found, key=lambda attempt: attempt.number)

    def _read(self, key: str) -> Attempt:
        with aws.translated("read s3://{}/{}".format(self.bucket, key)):
            answer = self._ask(self.s3.get_object, Bucket=self.bucket, Key=key)
            body = answer["Body"].read()
        try:
            content = json.loads(body)
            return Attempt(int(content["attempt"]), key, content, answer["LastModified"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InvalidInput(
                "s3://{}/{} is no claim of runbook: look at it, and remove it if no cluster of "
                "this iteration is there".format(self.bucket, key)
            ) from error

    def claim(self, number: int) -> Attempt:
        """Claim an attempt; raises Locked when another caller has."""
        key = "{}{}.json".format(self.prefix, number)
        content: Dict[str, Any] = {"attempt": number, "by": socket.gethostname()}
        with aws.translated("claim s3://{}/{}".format(self.bucket, key)):
            try:
                self.s3.put_object(
                    Bucket=self.bucket,
                    Key=key,
                    Body=_json(content),
                    ContentType="application/json",
                    IfNoneMatch="*",
                )
            except ClientError as error:
                if aws.error_code(error) not in aws.TAKEN_CODES:
                    raise
                raise Locked(
                    "{}: another caller is starting its cluster".format(self.name)
                ) from error
        return Attempt(number, key, content)

    def note(self, attempt: Attempt, **facts: Any) -> None:
        """Add facts to a claim."""
        attempt.content.update(facts)
        with aws.translated("write s3://{}/{}".format(self.bucket, attempt.key)):
            self.s3.put_object(
                Bucket=self.bucket,
                Key=attempt.key,
                Body=_json(attempt.content),
                ContentType="application/json",
            )

    def forget(self, attempt: Attempt) -> None:
        """Remove a claim."""
        with aws.translated("remove s3://{}/{}".format(self.bucket, attempt.key)):
            self.s3.delete_object(Bucket=self.bucket, Key=attempt.key)


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()
