"""Makes parquet/types-*.parquet and parquet-types.json: every type that pyarrow, polars, DuckDB, pandas and datasets write, and
what pyarrow reads. Numbers and texts stand as they are; what has no form in JSON as {"foreign": its text}."""

import json
import math
import uuid
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import datasets
import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

FOLDER = Path(__file__).resolve().parent
OUT = FOLDER / "parquet"

ARROW = {
    "text": pa.array(["a", "ü €\n\"", None]),
    "large": pa.array(["x", "", None], pa.large_string()),
    "category": pa.array(["b", "a", None]).dictionary_encode(),
    "int8": pa.array([-128, 127, None], pa.int8()),
    "uint32": pa.array([2**32 - 1, 0, None], pa.uint32()),
    "int64": pa.array([2**53 - 1, -(2**63), None], pa.int64()),
    "uint64": pa.array([2**64 - 1, 7, None], pa.uint64()),
    "half": pa.array(np.array([0.1, -65504.0, 6e-8], np.float16)),
    "single": pa.array([0.1, 16777216.0, None], pa.float32()),
    "tiny": pa.array([1e-45, 3.4028235e38, float("-inf")], pa.float32()),
    "double": pa.array([0.1, float("nan"), None], pa.float64()),
    "bool": pa.array([True, False, None]),
    "date32": pa.array([date(2024, 1, 1), date(1900, 2, 28), None]),
    "seconds": pa.array([datetime(2024, 1, 1), datetime(1969, 12, 31, 23, 59, 59), None], pa.timestamp("s")),
    "micros": pa.array([datetime(2024, 1, 1, 1, 2, 3, 456789), None, None], pa.timestamp("us", "UTC")),
    "nanos": pa.array([1, None, -1], pa.timestamp("ns")),
    "time": pa.array([time(1, 2, 3), time(23, 59, 59, 999999), None], pa.time64("us")),
    "money": pa.array([Decimal("0.57"), Decimal("-1234567.80"), None], pa.decimal128(12, 2)),
    "small": pa.array([Decimal("0.3"), Decimal("-0.1"), None], pa.decimal128(3, 1)),
    "wide": pa.array([Decimal("12345678901234567890.125"), Decimal("1.5"), None], pa.decimal256(40, 3)),
    "bytes": pa.array([b"\xff\xd8", b"", None]),
    "fixed": pa.array([b"ab", b"cd", None], pa.binary(2)),
    "list": pa.array([["a", None], [], None]),
    "matrix": pa.array([[[1, 2], []], None, [[3]]], pa.list_(pa.list_(pa.int64()))),
    "pair": pa.array([[1.5, 2.5], None, [0.1, 0.2]], pa.list_(pa.float32(), 2)),
    "messages": pa.array([[{"role": "user", "content": "hi"}, {"role": "assistant", "content": None}], [], None]),
    "options": pa.array([{"A": "x", "B": None}, None, {"A": None, "B": "y"}]),
    "deep": pa.array([{"at": {"day": date(2024, 1, 1), "n": [Decimal("0.1")]}}, None, {"at": None}]),
    "map": pa.array([[("A", "x"), ("B", "y")], [], None], pa.map_(pa.string(), pa.string())),
    "dated": pa.array([[("A", date(2024, 1, 1))], None, None], pa.map_(pa.string(), pa.date32())),
    "nothing": pa.array([None, None, None]),
}

DUCKDB = """
select * from (values
  ('a', 0.57, 12345678901234567890::hugeint, date '2024-01-01', timestamp '2024-01-01 01:02:03.5', time '12:00:00',
   interval 90 minutes, uuid '00112233-4455-6677-8899-aabbccddeeff', 'big'::enum('small', 'big'), '{"a": [1, 2.5]}'::json,
   'ab'::blob, map {'A': 'x'}, {'A': 'x', 'B': null}, ['p', null], 0.1::float, 255::utinyint, 'nan'::double, '101'::bit,
   timestamptz '2024-01-01 00:00:00+00', 18446744073709551615::ubigint, true, 3::decimal(18, 3), [{'k': date '2024-01-01'}]),
  (null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null)
) as t(text, decimal, huge, date, timestamp, time, interval, uuid, enum, json, blob, map, struct, list, single, tiny, nan, bit, tz,
       unsigned, bool, whole, dates)
"""


def plain(value: float) -> object:
    """A number as it is; JSON has no form for these three."""
    if math.isnan(value):
        return {"foreign": "NaN"}
    return {"foreign": "Infinity" if value > 0 else "-Infinity"} if math.isinf(value) else value


def of_decimal(value: Decimal) -> object:
    text = format(value.normalize(), "f")
    return float(text) if Decimal(repr(float(text))) == value and len(text) < 21 else {"foreign": text}


def moment(value: object) -> str:
    return str(value).removesuffix("+00:00")


def expected(value: object, kind: pa.DataType) -> object:
    """What a reader that loses nothing makes of a cell that pyarrow has read."""
    if value is None:
        return None
    if pa.types.is_dictionary(kind):
        return expected(value, kind.value_type)
    if pa.types.is_map(kind):
        return {key: expected(item, kind.item_type) for key, item in value}
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return [expected(item, kind.value_type) for item in value]
    if pa.types.is_struct(kind):
        return {field.name: expected(value[field.name], field.type) for field in kind}
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, bytes):
        return {"foreign": f"of {len(value)} bytes"}
    if pa.types.is_float16(kind) or pa.types.is_float32(kind):
        narrow = np.float16(value) if pa.types.is_float16(kind) else np.float32(value)
        return plain(float(np.format_float_scientific(narrow, unique=True)))
    if isinstance(value, float):
        return plain(value)
    if isinstance(value, Decimal):
        return of_decimal(value)
    if isinstance(value, bool) or isinstance(value, str):
        return value
    if isinstance(value, int):
        return value if int(float(value)) == value and abs(value) < 2**53 else {"foreign": str(value)}
    if isinstance(value, timedelta):
        return value // timedelta(microseconds=1)
    return {"foreign": moment(value)}


def described(name: str) -> list[dict[str, object]]:
    # Without pandas: its timestamps would print otherwise.
    table = pq.read_table(OUT / f"types-{name}.parquet")
    nanos = [i for i, field in enumerate(table.schema) if field.type == pa.timestamp("ns")]
    rows = table.drop_columns([table.column_names[i] for i in nanos]).to_pylist()
    kinds = {field.name: field.type for field in table.schema}
    result = [{key: expected(value, kinds[key]) for key, value in row.items()} for row in rows]
    for i in nanos:
        column = table.column(i).cast(pa.string()).to_pylist()
        for row, text in zip(result, column):
            row[table.column_names[i]] = None if text is None else {"foreign": text.removesuffix(".000000000")}
    if name == "duckdb":
        # pyarrow gives the text of what is JSON in DuckDB.
        for row in result:
            row["json"] = None if row["json"] is None else json.loads(row["json"])
    return result


def make() -> None:
    table = pa.table(ARROW)
    pq.write_table(table, OUT / "types-arrow.parquet", compression="zstd")
    pq.write_table(table.drop_columns(["nanos"]), OUT / "types-v1.parquet", version="1.0", use_dictionary=False,
                   store_schema=False, data_page_version="2.0", use_deprecated_int96_timestamps=True)
    duckdb.sql(DUCKDB).write_parquet(str(OUT / "types-duckdb.parquet"))
    frame = pd.DataFrame({
        "text": ["a", None], "whole": [1, 2], "gaps": [1.0, float("nan")], "when": pd.to_datetime(["2024-01-01", None]),
        "category": pd.Categorical(["x", "y"]), "nullable": pd.array([1, None], "Int64"), "words": pd.array(["p", None], "string"),
        "list": [["a"], None], "single": np.array([0.1, 0.2], np.float32),
    })
    frame.to_parquet(OUT / "types-pandas.parquet")
    pl.DataFrame({
        "text": ["a", None], "choices": [{"A": "x", "B": None}, {"A": "y", "B": "z"}], "day": [date(2024, 1, 1), None],
        "at": [datetime(2024, 1, 1, 0, 0, 0, 1), None], "time": [time(1, 2, 3), None], "price": [Decimal("0.57"), None],
        "nan": [float("nan"), 1.0], "list": [[1, 2], None], "category": pl.Series(["a", "b"], dtype=pl.Categorical),
        "enum": pl.Series(["a", "b"], dtype=pl.Enum(["a", "b"])), "binary": [b"x", None], "long": [timedelta(seconds=1), None],
        "pair": pl.Series([[1, 2], [3, 4]], dtype=pl.Array(pl.Int32, 2)),
    }).write_parquet(OUT / "types-polars.parquet")
    datasets.Dataset.from_dict({
        "text": ["a", None], "label": [0, 1], "messages": [[{"role": "user", "content": "hi"}], []],
        "when": [datetime(2024, 1, 1), None], "floats": [[0.1], [0.2]],
    }, features=datasets.Features({
        "text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"]),
        "messages": datasets.List({"role": datasets.Value("string"), "content": datasets.Value("string")}),
        "when": datasets.Value("timestamp[s]"), "floats": datasets.List(datasets.Value("float32")),
    })).to_parquet(str(OUT / "types-datasets.parquet"))
    names = ["arrow", "v1", "duckdb", "pandas", "polars", "datasets"]
    versions = {module.__name__: module.__version__ for module in (pa, pl, duckdb, pd, datasets)}
    result = {"versions": versions, "files": {name: described(name) for name in names}}
    (FOLDER / "parquet-types.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    make()
