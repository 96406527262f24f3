"""What a program for the first API does, with its own client; run by a Python that has it, not by edgert's.

Asks the server at ADDRESS and prints what it got as JSON, a line each. Needs tensorrtserver 1.11.0, and with
it NumPy below 1.24 or the names that are put back here.
"""

from __future__ import annotations

import json
import sys

import numpy as np

np.object, np.bool = object, bool  # names that the client uses and NumPy no longer has

from google.protobuf.message import Message  # noqa: E402

_parse = Message.ParseFromString
Message.ParseFromString = lambda self, data: _parse(self, bytes(data))

import tensorrtserver.api as first  # noqa: E402
import tensorrtserver.shared_memory as shm  # noqa: E402

HTTP = first.ProtocolType.HTTP
RAW, CLASS = first.InferContext.ResultFormat.RAW, first.InferContext.ResultFormat.CLASS
REGION = "edgert_first_api"


def main(address):
    say("health", health(address))
    status = first.ServerStatusContext(address, HTTP).get_server_status()
    say("status", [status.ready_state, sorted(status.model_status)])
    one = first.ServerStatusContext(address, HTTP, "identity").get_server_status().model_status["identity"]
    say(
        "config",
        [one.config.max_batch_size, list(one.config.input[0].dims), one.version_status[1].ready_state],
    )
    index = first.ModelRepositoryContext(address, HTTP).get_model_repository_index()
    say("index", sorted(model.name for model in index.models))
    say("unknown", failure(lambda: first.ServerStatusContext(address, HTTP, "nope").get_server_status()))
    infer(address)
    control(address)
    share(address)


def health(address):
    context = first.ServerHealthContext(address, HTTP)
    return [context.is_live(), context.is_ready()]


def infer(address):
    rows = [np.arange(16, dtype=np.float32), np.ones(16, np.float32)]
    context = first.InferContext(address, HTTP, "identity", 1)
    say("raw", [row.tolist() for row in context.run({"INPUT0": rows}, {"OUTPUT0": RAW}, 2)["OUTPUT0"]])
    say("model", [context.get_last_request_model_name(), context.get_last_request_model_version()])
    too_many = {"INPUT0": rows * 5}
    say("over", failure(lambda: context.run(too_many, {"OUTPUT0": RAW}, 10)))
    context = first.InferContext(address, HTTP, "add")
    pair = {"INPUT0": [np.arange(16, dtype=np.int32)], "INPUT1": [np.ones(16, np.int32)]}
    results = context.run(pair, {"OUTPUT0": RAW, "OUTPUT1": RAW})
    say("two", {name: results[name][0].tolist() for name in sorted(results)})
    context = first.InferContext(address, HTTP, "classify")
    scores = [np.array([0.25, 0.5, 1e-9, 0], np.float32), np.array([2, 1, 0, 4], np.float32)]
    say("classes", context.run({"IN": scores}, {"SCORES": (CLASS, 2)}, 2)["SCORES"])
    context = first.InferContext(address, HTTP, "identity_bytes")
    texts = np.array(["a", "", "long text"], object)
    say("text", [text.decode() for text in context.run({"INPUT0": [texts]}, {"OUTPUT0": RAW})["OUTPUT0"][0]])
    context = first.InferContext(address, HTTP, "failing")
    say("failing", failure(lambda: context.run({"INPUT0": rows}, {"OUTPUT0": RAW}, 2)))
    sequence(address)


def sequence(address):
    context = first.InferContext(address, HTTP, "accumulate", correlation_id=5)
    flags = {1: "start", 0: "", 2: "end"}
    sums = [
        context.run({"IN": [np.array([value], np.int32)]}, {"OUT": RAW}, flags=flag)["OUT"][0].tolist()
        for value, flag in zip((3, 4, 5), flags, strict=True)
    ]
    say("sequence", sums)


def control(address):
    context = first.ModelControlContext(address, HTTP)
    say("unload", failure(lambda: context.unload("slow")))
    say("load", failure(lambda: context.load("slow")))
    say("load unknown", failure(lambda: context.load("nope")))


def share(address):
    memory = first.SharedMemoryControlContext(address, HTTP)
    handle = shm.create_shared_memory_region(REGION, f"/{REGION}", 128)
    try:
        memory.register(handle)
        shm.set_shared_memory_region(handle, [np.arange(16, dtype=np.float32)] * 2)
        status = memory.get_shared_memory_status()
        say("regions", [[one.name, one.byte_size] for one in status.shared_memory_region])
        context = first.InferContext(address, HTTP, "identity")
        results = context.run({"INPUT0": (handle, [16])}, {"OUTPUT0": (RAW, handle)}, 2)
        say("shared", [row.tolist() for row in results["OUTPUT0"]])
        memory.unregister(handle)
        memory.unregister_all()
        say("no regions", len(memory.get_shared_memory_status().shared_memory_region))
    finally:
        shm.destroy_shared_memory_region(handle)


def failure(ask):
    """Return the message that the client raises; None if it raises nothing."""
    try:
        ask()
    except first.InferenceServerException as error:
        return [error.message(), error.server_id(), error.request_id() > 0]
    return None


def say(name, value):
    print(json.dumps([name, value]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
