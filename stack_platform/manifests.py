"""What one committed version of a partition holds, and the one way to hash a JSON value.

A manifest is readable, sorted JSON: stage, partition, version, fingerprint of the inputs, for each table its
Parquet files with SHA-256, size and rows, counts, and a digest. The digest covers tables and counts, not version
and fingerprint: equal data has an equal digest, whenever and wherever it was written.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

from stack_platform.errors import TableError


def canonical_json(value: Any) -> str:
    """Write a value as JSON in the one form that is hashed and compared."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest_of(value: Any) -> str:
    """Return the SHA-256 of a JSON value, as 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class DataFile:
    """One Parquet file of a partition."""

    path: str  # relative to the lake's root
    sha256: str
    size_bytes: int
    rows: int


@dataclass(frozen=True)
class Manifest:
    """What one committed version of a partition holds."""

    stage: str
    partition: str
    version: int
    fingerprint: str
    tables: Mapping[str, tuple[DataFile, ...]]
    counts: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the data: equal for equal tables and counts, whenever and wherever written."""
        tables = {name: [f.sha256 for f in files] for name, files in self.tables.items()}
        return digest_of([self.stage, self.partition, tables, self.counts])

    def table_digest(self, table: str) -> str:
        """Return the SHA-256 over one table's files; of a table that is not there, that of no files."""
        return digest_of([f.sha256 for f in self.tables.get(table, ())])

    def rows(self, table: str) -> int:
        """Count a table's rows without reading it."""
        return sum(f.rows for f in self.tables.get(table, ()))

    def to_json(self) -> str:
        """Write the manifest as readable, sorted JSON."""
        tables = {
            name: [{s: getattr(f, s) for s in DataFile.__slots__} for f in files]
            for name, files in self.tables.items()
        }
        document = {
            "stage": self.stage,
            "partition": self.partition,
            "version": self.version,
            "fingerprint": self.fingerprint,
            "digest": self.digest,
            "tables": tables,
            "counts": self.counts,
        }
        return json.dumps(document, sort_keys=True, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote.

        Raises:
            TableError: the text is no manifest, or its digest does not fit its content.

        """
        try:
            document = json.loads(text)
            tables = {n: tuple(DataFile(**f) for f in files) for n, files in document["tables"].items()}
            manifest = cls(
                stage=document["stage"],
                partition=document["partition"],
                version=document["version"],
                fingerprint=document["fingerprint"],
                tables=tables,
                counts=document["counts"],
            )
            stated = document["digest"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise TableError(f"not a manifest: {text[:80]!r} ({error})") from error
        if stated != manifest.digest:
            raise TableError(
                f"the manifest of {manifest.stage}/{manifest.partition} version {manifest.version} was altered: "
                f"it states digest {stated[:12]}, its content has {manifest.digest[:12]}"
            )
        return manifest
