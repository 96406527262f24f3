"""The demo's ZeroMQ client: sends pictures to the classifier and waits for each answer.

python -m edgert.demo.sender ENDPOINT PICTURES_PER_S PICTURE...
"""

from __future__ import annotations

import itertools
import sys
import time
from pathlib import Path

from edgert.client import Client, RequestError


def send_pictures(endpoint: str, pictures_per_s: float, pictures: list[Path]) -> None:
    """Send one picture after the other, from the start again, until the process is ended."""
    with Client(endpoint) as client:
        for picture in itertools.cycle(pictures):
            began = time.monotonic()
            try:
                client.infer(picture.read_bytes())
            except (RequestError, TimeoutError) as error:
                print(f"sender: {picture.name}: {error}", file=sys.stderr)
            time.sleep(max(0.0, began + 1 / pictures_per_s - time.monotonic()))


if __name__ == "__main__":
    try:
        send_pictures(sys.argv[1], float(sys.argv[2]), [Path(name) for name in sys.argv[3:]])
    except KeyboardInterrupt:
        sys.exit(130)
