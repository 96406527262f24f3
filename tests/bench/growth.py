"""Runs the no-op engine and samples (frames published, PSS): python tests/bench/growth.py FOLDER URI OUT."""

import json
import sys
import threading
from pathlib import Path

from edgert.pipeline.file import PipelineFile
from edgert.service import Service

PIPELINE = """\
node = "bench"
store = "store"
[sources.s0]
uri = "{uri}"
models = ["noop"]
[sinks.lines]
type = "lines"
path = "/dev/null"
[service]
log_level = "warning"
"""


def main(folder: Path, uri: str, out: Path) -> None:
    file = folder / "growth.toml"
    file.write_text(PIPELINE.format(uri=uri))
    service = Service(PipelineFile.load(file))
    samples: list[tuple[int, int]] = []
    is_over = threading.Event()
    sampler = threading.Thread(target=sample, args=(service, samples, is_over))
    sampler.start()
    service.run()
    is_over.set()
    sampler.join()
    out.write_text(json.dumps(samples))


def sample(service: Service, samples: list, is_over: threading.Event) -> None:
    while not is_over.wait(0.25):
        if service.is_ready():
            report = service.report()
            if "s0" in report["sources"]:
                samples.append((report["sources"]["s0"]["models"]["noop"]["published"], report["pss_bytes"]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
