"""Records of an event file as TensorBoard's own code writes them.

    .cache/golden/bin/pip install tensorboard==2.21.0
    .cache/golden/bin/python test/golden/tensorboard_records.py > test/golden/tensorboard.json
"""

import io
import json

import tensorboard
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter, masked_crc32c


def record(event: Event) -> str:
    stream = io.BytesIO()
    RecordWriter(stream).write(event.SerializeToString())
    return stream.getvalue().hex()


def scalars(time: float, step: int, values: dict) -> dict:
    summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
    event = Event(wall_time=time, step=step, summary=summary)
    return {"time": time, "step": step, "scalars": values, "record": record(event)}


def main() -> None:
    texts = ["", "a", "123456789", "cream" * 100]
    print(
        json.dumps(
            {
                "versions": {"tensorboard": tensorboard.__version__},
                "crc": [{"text": text, "masked": masked_crc32c(text.encode())} for text in texts],
                "version": record(Event(wall_time=1795442857.25, file_version="brain.Event:2")),
                "start": {
                    "step": 300,
                    "record": record(
                        Event(
                            wall_time=1795442857.25,
                            step=300,
                            session_log=SessionLog(status=SessionLog.START),
                        )
                    ),
                },
                "scalars": [
                    scalars(1795442857.25, 1, {"train/loss": 0.6931471805599453}),
                    scalars(1795442860.5, 128, {"train/rewards/margins": -1.5, "train/grad_norm": 0.0}),
                    scalars(0.125, 3_000_000_000, {"evaluation/accuracy/a b é": 1.0}),
                ],
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
