"""The loop that edgert is measured against: NumPy, OpenCV and onnxruntime, nothing around them.

    python tests/bench/bare_loop.py MODEL CLIP FRAMES THREADS INTRA_OP OUT

Takes decoded frames from memory, resizes into a reused array, runs the COCO detector, decodes with
edgert's own decoder, drops the result. Writes monotonic times of each result and the PSS to OUT, as JSON.
"""

import json
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort


def main(model: str, clip: str, count: int, threads: int, intra_op: int, out: str) -> None:
    cv2.setNumThreads(1)
    options = ort.SessionOptions()
    options.intra_op_num_threads = intra_op
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    frames = read_frames(clip)
    decode = make_decoder(session)
    done_ns: list[int] = []
    share = count // threads
    workers = [
        threading.Thread(target=loop, args=(session, frames, share, decode, done_ns)) for _ in range(threads)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    Path(out).write_text(json.dumps({"done_ns": sorted(done_ns), "pss_bytes": pss_bytes()}))


def loop(session, frames, count, decode, done_ns) -> None:
    small = np.empty((300, 300, 3), np.uint8)
    blue, green, red = (np.empty((300, 300), np.uint8) for _ in range(3))
    tensor = np.empty((1, 3, 300, 300), np.float32)
    for index in range(count):
        frame = frames[index % len(frames)]
        cv2.resize(frame, (300, 300), dst=small)
        cv2.split(small, [blue, green, red])
        for channel, plane in enumerate((red, green, blue)):
            np.copyto(tensor[0, channel], plane)
        np.subtract(tensor, np.float32(127.5), out=tensor)
        np.multiply(tensor, np.float32(0.00784313725), out=tensor)
        boxes, scores = session.run(None, {"images": tensor})
        decode(boxes[0], scores[0], frame)
        done_ns.append(time.monotonic_ns())


def read_frames(clip: str) -> list:
    capture = cv2.VideoCapture(clip)
    frames = []
    while len(frames) < 100:
        found, frame = capture.read()
        if not found:
            break
        frames.append(frame)
    return frames


def make_decoder(session):
    from edgert.decode.factory import open_decoder
    from edgert.decode.ssd import SsdOptions
    from edgert.frames.placement import Placement
    from edgert.models.tensor_spec import TensorSpec

    specs = tuple(
        TensorSpec(node.name, "float32", tuple(side if isinstance(side, int) else -1 for side in node.shape))
        for node in session.get_outputs()
    )
    decoder = open_decoder(SsdOptions(score_min=0.4), ["label"] * 90, specs)

    def decode(boxes, scores, frame):
        height, width = frame.shape[:2]
        return decoder.decode({"boxes": boxes, "scores": scores}, Placement.stretch(width, height, 300, 300))

    return decode


def pss_bytes() -> int:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024


if __name__ == "__main__":
    model, clip, count, threads, intra_op, out = sys.argv[1:]
    main(model, clip, int(count), int(threads), int(intra_op), out)
