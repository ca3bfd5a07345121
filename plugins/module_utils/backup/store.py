# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""List the backups below one prefix of a bucket; find incomplete ones and leftovers."""

from __future__ import annotations

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from itertools import islice
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence

from ..errors import InvalidInput
from . import dump as dumps
from . import manifest as manifests

if TYPE_CHECKING:
    from ..s3 import Bucket, Upload
    from .manifest import Manifest, ObjectEntry

#: Leftovers of another database's run are removed when nothing was added to them for this long.
OTHERS_LEFTOVERS = timedelta(days=1)
_AT_ONCE = 16
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}\Z")


class Leftovers(NamedTuple):
    """Objects and unfinished uploads that belong to no backup."""

    keys: List[str]
    uploads: List[Upload]


class OldFolder(NamedTuple):
    """TABLE.sql files that the old scripts uploaded: below the backups' root, named by a date.

    ``written`` is when the last file was, at the latest the end of that day: copies are younger.
    ``keys`` and ``sizes`` are by table.
    """

    backup_id: str
    written: datetime
    keys: Dict[str, str]
    sizes: Dict[str, int]


def prefix_of(root: str, backup_id: str) -> str:
    """Where a backup's objects are."""
    return "{}{}/".format(root, backup_id)


def manifest_key(root: str, backup_id: str) -> str:
    """Where a backup's manifest is."""
    return prefix_of(root, backup_id) + manifests.FILE


def ids(bucket: Bucket, root: str) -> List[str]:
    """The ids of all backups below ``root``, complete or not, the newest first."""
    names = bucket.folders(root)
    return sorted((name for name in names if manifests.time_of(name) is not None), reverse=True)


def load(bucket: Bucket, root: str, backup_id: str) -> Optional[Manifest]:
    """A backup's manifest; None when it has none, that is, when it is no backup."""
    key = manifest_key(root, backup_id)
    body = bucket.read(key)
    return None if body is None else manifests.parse(body, bucket.url(key))


def newest(bucket: Bucket, root: str, day: str = "") -> Optional[Manifest]:
    """The newest backup, of a ``day`` (``2026-01-14``, UTC) if one is given; None without one."""
    for backup_id in ids(bucket, root):
        if backup_id.startswith(day.replace("-", "")):
            found = load(bucket, root, backup_id)
            if found is not None:
                return found
    return None


def is_day(backup_id: str) -> bool:
    """Whether this is a date (``2026-01-14``)."""
    return _DAY.match(backup_id) is not None


def precedes(backup_id: str, folder: OldFolder) -> bool:
    """Whether a backup was begun before an old folder was written, by S3's times, in seconds."""
    begun = manifests.time_of(backup_id)
    return begun is None or begun.replace(microsecond=0) <= folder.written


def old_folder(bucket: Bucket, root: str, backup_id: str) -> Optional[OldFolder]:
    """The folder of this name, None when no TABLE.sql files lie in it."""
    prefix = prefix_of(root, backup_id)
    found = bucket.keys(prefix)
    keys = dumps.tables(found, prefix)
    if not keys:
        return None
    written = max(found[key][1] for key in keys.values())
    if is_day(backup_id):
        with suppress(ValueError):  # 2026-13-41 is a name like any other
            day = datetime.strptime(backup_id + "+0000", "%Y-%m-%d%z")
            written = min(written, day + timedelta(days=1))
    return OldFolder(backup_id, written, keys, {name: found[key][0] for name, key in keys.items()})


def old_folders(bucket: Bucket, root: str) -> List[OldFolder]:
    """The folders of the old scripts directly below ``root``, the newest first."""
    folders = [old_folder(bucket, root, name) for name in bucket.folders(root) if is_day(name)]
    found = [folder for folder in folders if folder is not None]
    return sorted(found, key=lambda folder: (folder.written, folder.backup_id), reverse=True)


def old_location(bucket: Bucket, root: str) -> str:
    """Where the old scripts put this host's files, if not below ``root``; empty when nowhere.

    Their last version wrote ``HOST/DATE/``, earlier ones ``backups/database/HOST/DATE/``.
    """
    parent, _, name = root.strip("/").rpartition("/")
    locations = [name + "/", "backups/database/{}/".format(name), parent + "/"]
    for location in locations:
        if location not in (root, "/") and old_folders(bucket, location):
            return bucket.url(location).rstrip("/")
    return ""


def named(bucket: Bucket, root: str, backup_id: str) -> Manifest:
    """The backup of this id, the newest one for ``newest``, of a day for ``2026-01-14``.

    The beginning of an id names the only complete backup whose id begins so. Raises InvalidInput
    when there is none, or several.
    """
    if backup_id == "newest":
        found = newest(bucket, root)
        if found is None:
            others = old_location(bucket, root)
            raise InvalidInput(
                "there is no backup below {}{}".format(
                    bucket.url(root),
                    "; files of the old scripts are below {0}: give restore_from={0}".format(others)
                    if others
                    else "",
                )
            )
        return found
    found = newest(bucket, root, backup_id) if is_day(backup_id) else load(bucket, root, backup_id)
    return found or _beginning(bucket, root, backup_id)


def _beginning(bucket: Bucket, root: str, start: str) -> Manifest:
    """The only complete backup whose id begins with ``start``. Raises InvalidInput without one."""

    def complete(names: Sequence[str]) -> Iterator[str]:
        return (each for each in names if bucket.attested(manifest_key(root, each)) is not None)

    every = ids(bucket, root)
    unfinished = start in every
    begun = list(complete([each for each in every if each.startswith(start)]))
    if len(begun) > 1:
        raise InvalidInput(
            "several backups below {} begin with {}: {}".format(
                bucket.url(root), start, ", ".join(begun)
            )
        )
    found = load(bucket, root, begun[0]) if begun else None
    if found is None:
        problem = "backup {} below {} was never finished; the newest there: {}"
        if not unfinished:
            problem = "there is no backup {} below {}; the newest there: {}"
        others = ", ".join(islice(complete(every), 5)) or "none"
        raise InvalidInput(problem.format(start, bucket.url(root), others))
    return found


def problems(bucket: Bucket, manifest: Manifest) -> List[str]:
    """The problems of a backup's objects as S3 reports them; none when all are as written.

    Size and checksum are S3's own; an object for which it keeps no checksum is read back.
    """
    entries = [entry for table in manifest["tables"].values() for entry in table["objects"]]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = pool.map(lambda entry: _problem(bucket, entry), entries)
        return [text for text in found if text]


def _problem(bucket: Bucket, entry: ObjectEntry) -> str:
    where = bucket.url(entry["key"])
    attested = bucket.attested(entry["key"])
    if attested is None:
        return "{} is missing".format(where)
    if attested.size != entry["size"]:
        return "{} has {} bytes, {} were written".format(where, attested.size, entry["size"])
    # Some servers leave away the count of parts that S3 adds to a multipart upload's checksum.
    if (
        attested.sha256.partition("-")[0]
        == entry.get("checksum_sha256", "").partition("-")[0]
        != ""
    ):
        return ""
    if attested.etag and attested.etag == entry.get("etag") and not attested.sha256:
        return ""
    digest = hashlib.sha256()
    for piece in bucket.stream(entry["key"]):
        digest.update(piece)
    if digest.hexdigest() != entry["sha256"]:
        return "{} is not what was written: its SHA-256 differs".format(where)
    return ""


def leftovers(bucket: Bucket, root: str, owner: str, now: datetime) -> Leftovers:
    """The leftovers of unfinished runs below ``root``.

    The caller holds the lock of the database ``owner``, so its own unfinished backups are dead;
    those of others are taken for dead after a day without a new object or upload.
    """
    pending: Dict[str, List[Upload]] = {}
    for upload in bucket.uploads(root):
        pending.setdefault(upload.key[len(root) :].partition("/")[0], []).append(upload)
    left = Leftovers([], [])
    for backup_id in sorted({*ids(bucket, root), *pending}):
        begun = manifests.time_of(backup_id)
        if begun is None:
            continue
        found, uploads = bucket.keys(prefix_of(root, backup_id)), pending.get(backup_id, [])
        complete = manifest_key(root, backup_id) in found
        changes = [begun, *(time for _, time in found.values()), *(u.initiated for u in uploads)]
        dead = manifests.owner_of(backup_id) == owner or now - max(changes) > OTHERS_LEFTOVERS
        if dead and not complete:
            left.keys.extend(found)
        # What a complete backup still has of uploads, requests that were repeated began.
        if dead or complete:
            left.uploads.extend(uploads)
    return left


def remove(bucket: Bucket, found: Leftovers) -> None:
    """Remove leftovers: parts first, which cost money and are invisible."""
    for upload in found.uploads:
        bucket.abort(upload.key, upload.upload_id)
    bucket.delete(found.keys)


def write_options(params: Mapping[str, Any]) -> Dict[str, Any]:
    """Storage class and encryption of objects, as S3's API names them.

    Encrypted at rest unless it says ``none``: a table may hold secrets, as ``configuration`` does.
    """
    key = params["sse_kms_key_id"]
    asked = params["server_side_encryption"] or ("aws:kms" if key else "AES256")
    options = {
        "StorageClass": params["storage_class"],
        "ServerSideEncryption": "" if asked == "none" else asked,
        "SSEKMSKeyId": key,
    }
    return {name: value for name, value in options.items() if value}


def utc_now() -> datetime:
    """The time, with its zone."""
    return datetime.now(timezone.utc)
