# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Objects on S3 before they are replaced: copied beside the backup of the same run, for undo.

S3 copies them itself. The copies end with the backup, below whose prefix they lie.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional

from . import aws

if TYPE_CHECKING:
    from .staged_upload import Upload

#: Below the prefix of a backup: ``FOLDER/RUN/KEY``.
FOLDER = "objects-before"


def identity(answer: Optional[Mapping[str, Any]]) -> Optional[str]:
    """The content of an object (``aws.head_object``): the SHA-256 that runbook notes, or ETag."""
    if answer is None:
        return None
    digest = answer.get("Metadata", {}).get("sha256")
    return "sha256 {}".format(digest) if digest else "ETag {}".format(answer["ETag"].strip('"'))


def reference(backup: Mapping[str, Any]) -> Optional[Dict[str, Any]]:
    """A manifest's id and where it is, as the target's journal keeps them; None without one."""
    names = ("backup_id", "bucket", "prefix")
    return {name: backup.get(name) for name in names} if backup else None


def place(backup: Mapping[str, Any], run: Optional[str], key: str) -> Optional[Dict[str, str]]:
    """Where an object is kept; None without a backup or a run."""
    if not (backup and run):
        return None
    return {
        "bucket": backup["bucket"],
        "key": "{}{}/{}/{}".format(backup["prefix"], FOLDER, run, key),
    }


def copy(s3: Any, source: Mapping[str, str], bucket: str, key: str) -> None:
    """Have S3 copy an object, with what it notes about it."""
    with aws.translated("copy s3://{bucket}/{key}".format(**source)):
        s3.copy_object(
            Bucket=bucket, Key=key, CopySource=dict(zip(("Bucket", "Key"), source.values()))
        )


def keep(s3: Any, upload: Upload, backup: Mapping[str, Any], run: Optional[str]) -> Dict[str, Any]:
    """Copy the object that an upload will replace; what the target's journal says of both.

    The object is the one that the upload's change names; undo compares the copy with it.
    """
    there = identity(upload.replaced)
    kept = place(backup, run, upload.key) if there else None
    if kept:
        copy(s3, {"bucket": upload.bucket, "key": upload.key}, **kept)
    return {
        "bucket": upload.bucket,
        "key": upload.key,
        "before": {"is": there, "kept": kept},
        "after": {"is": "sha256 {}".format(upload.content.sha256), "kept": None},
    }
