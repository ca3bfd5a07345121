"""The objects that the learner reads and writes on S3 (docs/labeller.md 5.2, 5.4)."""

from __future__ import annotations

import csv
import io
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Environment variable: what goes wrong on purpose (``runbook.sandbox.emr.FAULTS``).
FAULT = "RUNBOOK_SANDBOX_FAULT"


def fault() -> str:
    """The fault that this cluster meets; empty for none."""
    return os.environ.get(FAULT, "")


@dataclass(frozen=True)
class Name:
    """A row of an incoming_names file, by the learner's fixed schema (docs/labeller.md 5.2.2)."""

    name: str
    run: int | None
    iteration: int | None
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
        """Rows of both files together, none taken out as a duplicate, of ``run`` and labelled."""
        both = [*self.table("incoming_names"), *self.table("incoming_names_static")]
        return [name for name in both if name.run == run and name.label]

    def table(self, option: str) -> list[Name]:
        """All rows of a file of names: by position, whatever its first line says."""
        text = self.read(self.planet(option)).decode()
        return [_name(row) for row in list(csv.reader(io.StringIO(text)))[1:]]

    def label(self, cell: str) -> bytes:
        """The label image of a cell ``NAME_COLUMN_ROW``; botocore's error when there is none."""
        prefix = self.config["labeller"]["consensus_directory"][1:-1]
        return self.read(f"{prefix}/{cell}.tif")


def _name(row: list[str]) -> Name:
    """A row with a number that is none is dropped by the real reader, and so is one of no run."""
    row = [*row, *[""] * (6 - len(row))]
    run, iteration = row[1:3]
    if not all(re.fullmatch(r"[+-]?\d+", number) for number in (run, iteration)):
        return Name("", None, None, "", label=False)
    label = row[5].lower() in ("t", "true", "y", "yes", "1")
    return Name(row[0], int(run), int(iteration), row[4], label)


def key_of(url: str) -> str:
    """The key in ``s3://BUCKET/KEY``."""
    return url.split("/", 3)[3]
