"""Senders of requests that wait for the answers."""

from __future__ import annotations

import queue
import threading

import numpy as np

from edgert.frames.request import InferRequest

TIMEOUT_S = 10.0


class Answered:
    """A Responder that keeps copies of its responses; `final` waits for the last."""

    def __init__(self):
        self.responses = []
        self._final = queue.Queue()
        self.done = threading.Event()

    def respond(self, response):
        """Keep it."""
        response.outputs = {name: np.array(array) for name, array in response.outputs.items()}
        self.responses.append(response)
        if response.is_final:
            self._final.put(response)
            self.done.set()

    def final(self):
        """Return the final response; there must be one within seconds, and only one."""
        response = self._final.get(timeout=TIMEOUT_S)
        assert self._final.empty()
        return response


def ask(infer, model, inputs, **options):
    """Send a request and return the responder that waits for it."""
    answered = Answered()
    infer(InferRequest(model=model, inputs=inputs, responder=answered, **options))
    return answered


def answer(infer, model, inputs, **options):
    """Send a request, wait, and return its outputs; raises what it failed with."""
    response = ask(infer, model, inputs, **options).final()
    if response.error is not None:
        raise response.error
    return response.outputs
