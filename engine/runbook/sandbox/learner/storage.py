"""What the learner reads and writes on S3 (reference 4.1)."""

from __future__ import annotations

import csv
import io
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

FAULT = "RUNBOOK_SANDBOX_FAULT"
"""Environment variable: what goes wrong on purpose (``runbook.sandbox.emr.FAULTS``)."""


def fault() -> str:
    """The fault that this cluster meets; empty for none."""
    return os.environ.get(FAULT, "")


@dataclass(frozen=True)
class Name:
    """A row of an incoming_names file."""

    name: str
    run: int
    iteration: int
    usage: str
    label: bool


class Storage:
    """The bucket, as the configuration names its objects."""

    def __init__(self, bucket: str, config_key: str) -> None:
        import boto3

        self.s3: Any = boto3.client("s3")
        self.bucket = bucket
        self.config: dict[str, Any] = yaml.safe_load(self.read(config_key))
        self.learner: dict[str, Any] = self.config["learner"]

    def read(self, key: str) -> bytes:
        """An object; botocore's error when there is none."""
        content: bytes = self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return content

    def write(self, key: str, content: bytes) -> None:
        """Replace an object."""
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=content)

    def rows(self, key: str) -> list[dict[str, str]]:
        """The rows of a CSV file with a header."""
        return list(csv.DictReader(io.StringIO(self.read(key).decode("utf-8-sig"))))

    def write_rows(self, key: str, rows: Sequence[Mapping[str, object]]) -> None:
        """A CSV file; the first row's keys are the header."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        self.write(key, text.getvalue().encode())

    def planet(self, option: str) -> str:
        """Key of the file that the learner's option names below its prefix."""
        return f"{self.learner['prefix']}/{self.learner[option]}"

    def names(self, run: int) -> list[Name]:
        """This run's labelled or open names, and the static training names.

        The real learner drops static names unless their run is the run's number, which only
        happens for run 0; it means to train on them.
        """
        incoming = [name for name in self._names("incoming_names") if name.run == run]
        known = {name.name for name in incoming}
        return incoming + [
            name for name in self._names("incoming_names_static") if name.name not in known
        ]

    def _names(self, option: str) -> Iterable[Name]:
        for row in self.rows(self.planet(option)):
            yield Name(
                row["name"],
                int(row.get("run") or 0),
                int(row.get("iteration") or 0),
                row.get("usage") or "train",
                (row.get("label") or "true").lower() in ("t", "true", "1"),
            )

    def labels(self) -> dict[str, tuple[str, int, int]]:
        """Key, column and row of every label image, by name."""
        prefix = self.config["labeller"]["consensus_directory"].strip("/") + "/"
        found = {}
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        for page in pages:
            for entry in page.get("Contents", []):
                if match := re.fullmatch(r".*/(.+)_(\d+)_(\d+)\.tif", entry["Key"]):
                    found[match[1]] = (entry["Key"], int(match[2]), int(match[3]))
        return found


def key_of(url: str) -> str:
    """The key in ``s3://BUCKET/KEY``."""
    return url.split("/", 3)[3]
