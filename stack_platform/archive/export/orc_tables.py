"""Read the stripes of an ORC file of a Software Heritage export, whatever dates it holds.

Arrow reads ORC timestamps as 64-bit nanoseconds and refuses a stripe with a date before 1677 or after 2262, which
real revisions have. Columns without dates are read by Arrow; dates too, unless the stripe has such a one: then
pyorc (Apache-2.0, the same C++ library) gives seconds and nanoseconds as they are written.
Known limit of the format: a time within the last second of 1969 loses its sign.
"""

from collections.abc import Sequence
from typing import Any, BinaryIO
from zoneinfo import ZoneInfo

import pyarrow as pa
from pyarrow import orc

from stack_platform.schemas import DATE


class OrcStripes:
    """The stripes of one file; dates come as seconds and microseconds."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._file = orc.ORCFile(stream)
        self.schema: pa.Schema = self._file.schema
        self.count: int = self._file.nstripes
        self._dates = [field.name for field in self.schema if pa.types.is_timestamp(field.type)]

    def read(self, stripe: int, columns: Sequence[str]) -> pa.Table:
        """Read columns of one stripe."""
        dates = [name for name in columns if name in self._dates]
        plain = [name for name in columns if name not in self._dates]
        arrays = {}
        if plain:
            batch = self._file.read_stripe(stripe, columns=plain)
            arrays = dict(zip(batch.schema.names, batch.columns, strict=True))
        for name in dates:
            try:
                arrays[name] = self._file.read_stripe(stripe, columns=[name]).column(0)
            except pa.ArrowInvalid as error:
                if "out of range" not in str(error):
                    raise
                arrays[name] = self._raw_dates(stripe, name)
        return pa.table({name: arrays[name] for name in columns})

    def _raw_dates(self, stripe: int, name: str) -> pa.Array:
        import pyorc
        from pyorc.enums import TypeKind

        converters: Any = {TypeKind.TIMESTAMP: _Raw, TypeKind.TIMESTAMP_INSTANT: _Raw}
        self._stream.seek(0)
        reader = pyorc.Reader(self._stream, column_names=[name], converters=converters)
        dates = [row[0] for row in reader.read_stripe(stripe)]
        return pa.array(dates, DATE)


class _Raw:
    """Timestamps as the file has them."""

    @staticmethod
    def from_orc(seconds: int, nanoseconds: int, timezone: ZoneInfo) -> dict[str, int]:  # noqa: ARG004  pyorc's form
        return {"seconds": seconds, "microseconds": nanoseconds // 1000}

    @staticmethod
    def to_orc(value: dict[str, int], timezone: ZoneInfo) -> tuple[int, int]:  # noqa: ARG004  pyorc's form
        return value["seconds"], value["microseconds"] * 1000
