"""Makes parquet/*.parquet: rows of the public forms as their publishers' Parquet files hold them."""

import json
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from scipy.stats import kendalltau

FOLDER = Path(__file__).resolve().parent
OUT = FOLDER / "parquet"

GSM8K = [
    {"question": "Ann has 2 boxes of 3 pens. How many pens?", "answer": "She has 2*3=<<2*3=6>>6 pens.\n#### 6"},
    {"question": "Ben had $1,500 and spent $250. How much is left?", "answer": "1500-250=<<1500-250=1250>>1250\n#### 1,250"},
]


def save(name, rows, **options):
    pq.write_table(pa.Table.from_pylist(rows), OUT / f"{name}.parquet", **options)


def make() -> None:
    OUT.mkdir(exist_ok=True)
    tasks = json.loads((FOLDER / "options.json").read_text())["tasks"]
    save("arc_easy", tasks["arc_easy"]["rows"], row_group_size=4)
    save("openbookqa", tasks["openbookqa"]["rows"], compression="zstd", use_dictionary=False)
    save("social_iqa", tasks["social_iqa"]["rows"], compression="gzip")
    save("gsm8k", GSM8K, compression="none", data_page_version="2.0")
    # What JSON has another form for, or none.
    save("types", [{"id": 1, "prompt": "a", "at": datetime(2026, 11, 23), "none": None, "nested": {"deep": [1.5, None]}}])
    save("large", [{"id": 2**60 + 1, "prompt": "a"}])
    # A list of equal rewards has no tau (scipy: nan); NaN and null side by side, as pandas and pyarrow write them.
    taus = [kendalltau([1, 2, 3], [1, 3, 2]).statistic, kendalltau([1, 2, 3], [1, 1, 1]).statistic, None]
    pairs = [{"id": f"p{i}", "prompt": "abc", "chosen": "de", "rejected": f"f{i}"} for i in range(3)]
    save("undefined_consistency", [{**p, "consistency": None if t is None else (t + 1) / 2} for p, t in zip(pairs, taus)])
    save("bytes", [{"id": 1, "prompt": "a", "image": b"\xff\xd8"}])
