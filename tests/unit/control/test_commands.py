"""Commands from their arrival to their one answer."""

from __future__ import annotations

import json
import logging
import queue
import threading

import pytest

from edgert.control.commands import WAITING, Commands
from edgert.control.limits import BURST
from edgert.control.options import ControlOptions
from edgert.errors import ModelError, OutOfDeviceMemoryError
from edgert.publish.session import Received
from tests.fakes.clock import WAIT_S, FakeClock

EVERYTHING = ControlOptions(allow=("*",))


class Node:
    """A target that notes what it is told; `load` waits for `gate`, and raises `failure` if there is one."""

    def __init__(self):
        self.done = []
        self.failure = None
        self.begun = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()

    def load(self, model):
        self.begun.release()
        assert self.gate.wait(WAIT_S)
        if self.failure is not None:
            raise self.failure
        self.done.append(("load", model))

    def unload(self, model):
        self.done.append(("unload", model))

    def reload_all(self):
        self.done.append(("reload_all",))

    def pause(self, source):
        self.done.append(("pause", source))

    def resume(self, source):
        self.done.append(("resume", source))

    def snapshot(self, source):
        return f"edgert/here/source/{source}/snapshot"

    def set_score_min(self, model, score_min):
        self.done.append(("set_score_min", model, score_min))

    def drain(self):
        self.done.append(("drain", threading.current_thread()))

    def status(self):
        return {"boot": "b1", "uptime_s": 1.5}


class Rig:
    """Commands with a node, a clock, and the answers in their order."""

    def __init__(self, options):
        self.node = Node()
        self.clock = FakeClock()
        self.answers = queue.SimpleQueue()
        self.commands = Commands(
            options,
            self.node,
            lambda received, payload: self.answers.put((received, json.loads(payload))),
            self.clock,
        )
        self.commands.open()

    def send(self, verb, payload=b"", **more):
        """Hand in a command; a payload that is no bytes becomes JSON."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self.commands.handle(Received(f"edgert/here/cmd/{verb}", body, **more))

    def answer(self):
        return self.answers.get(timeout=WAIT_S)[1]

    def ask(self, verb, payload=b"", **more):
        self.send(verb, payload, **more)
        return self.answer()


@pytest.fixture
def make_rig():
    rigs = []

    def make(options=EVERYTHING):
        rigs.append(Rig(options))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.node.gate.set()
        rig.commands.close(WAIT_S)
        assert rig.answers.empty(), "answered more than once"


@pytest.fixture
def rig(make_rig):
    return make_rig()


@pytest.mark.parametrize(
    ("verb", "payload", "done"),
    [
        ("load", {"model": "coco"}, ("load", "coco")),
        ("unload", {"model": "coco"}, ("unload", "coco")),
        ("reload", {"model": "coco"}, ("load", "coco")),
        ("reload", {}, ("reload_all",)),
        ("pause", {"source": "door"}, ("pause", "door")),
        ("resume", {"source": "door"}, ("resume", "door")),
        ("threshold", {"model": "coco", "score_min": 0.6}, ("set_score_min", "coco", 0.6)),
    ],
)
def test_a_command_is_done_and_its_fields_come_back(rig, verb, payload, done):
    assert rig.ask(verb, payload) == {"status": "ok", "message": "", "verb": verb, **payload}
    assert rig.node.done == [done]
    assert rig.commands.counts.snapshot() == {"ok": 1}


def test_an_empty_payload_is_one_without_keys(rig):
    assert rig.ask("reload", b"")["status"] == "ok"
    assert rig.ask("reload", b" \n")["status"] == "ok"
    assert rig.node.done == [("reload_all",)] * 2


def test_a_snapshot_is_answered_with_its_topic(rig):
    answer = rig.ask("snapshot", {"source": "door"})
    assert (answer["status"], answer["topic"]) == ("ok", "edgert/here/source/door/snapshot")


def test_ping_and_drain_wait_for_nothing(rig):
    rig.node.gate.clear()
    rig.send("load", {"model": "coco"})
    assert rig.node.begun.acquire(timeout=WAIT_S)
    assert rig.ask("ping") == {
        "status": "ok",
        "message": "",
        "verb": "ping",
        "boot": "b1",
        "uptime_s": 1.5,
    }
    assert rig.ask("drain")["status"] == "ok"
    assert rig.node.done == [("drain", threading.current_thread())]
    rig.node.gate.set()
    assert rig.answer()["verb"] == "load"


def test_work_is_done_in_order_away_from_the_thread_that_hears(rig):
    rig.node.gate.clear()
    rig.send("load", {"model": "coco"})
    rig.send("threshold", {"model": "coco", "score_min": 1})
    assert rig.answers.empty()
    rig.node.gate.set()
    assert [rig.answer()["verb"], rig.answer()["verb"]] == ["load", "threshold"]
    assert rig.node.done == [("load", "coco"), ("set_score_min", "coco", 1.0)]


@pytest.mark.parametrize(
    ("failure", "name"),
    [
        (ModelError("no such plan"), "model_error"),
        (OutOfDeviceMemoryError("no room"), "out_of_device_memory_error"),
    ],
)
def test_an_error_is_answered_by_name_and_the_next_command_is_done(rig, failure, name):
    rig.node.failure = failure
    answer = rig.ask("load", {"model": "coco"})
    assert (answer["status"], answer["error"], answer["message"]) == ("failed", name, str(failure))
    assert answer["model"] == "coco"
    assert rig.ask("unload", {"model": "coco"})["status"] == "ok"
    assert rig.commands.counts.snapshot() == {"failed": 1, "ok": 1}


@pytest.mark.parametrize(
    ("verb", "payload", "said"),
    [
        ("load", b"", "object missing required field `model`; keys of load: id, model"),
        ("load", {"model": "a", "force": True}, "unknown field `force`; keys of load: id, model"),
        ("load", {"model": ""}, "model: expected `str` of length >= 1"),
        ("load", {"model": 5}, "model: expected `str`, got `int`"),
        ("pause", {"model": "coco"}, "unknown field `model`; keys of pause: id, source"),
        ("threshold", {"model": "a", "score_min": 1.5}, "score_min: expected `float` <= 1.0"),
        ("threshold", {"model": "a", "score_min": -0.1}, "score_min: expected `float` >= 0.0"),
        ("threshold", b'{"model":"a","score_min":NaN}', "malformed"),
        ("threshold", b'{"model":"a","score_min":1e999}', "score_min"),
        ("ping", {"model": "a"}, "unknown field `model`; keys of ping: id"),
        ("ping", [1], "expected `object`, got `array`"),
        ("ping", b"ping", "malformed"),
        ("load", b'{"model":"\xff"}', "utf-8"),
        ("reload", b"[" * 4000, "expected `object`"),
    ],
)
def test_a_payload_that_is_wrong_is_refused_with_what_is_allowed(rig, verb, payload, said):
    answer = rig.ask(verb, payload)
    assert (answer["status"], answer["verb"]) == ("bad_request", verb)
    assert said in answer["message"]
    assert rig.node.done == []


@pytest.mark.parametrize("verb", ["", "reboot", "LOAD", "x" * 60_000])
def test_a_verb_that_nobody_knows_is_refused_with_those_there_are(rig, verb):
    answer = rig.ask(verb, {"id": "q1"})
    assert (answer["status"], answer["verb"], answer["id"]) == ("unknown_verb", verb[:64], "q1")
    assert "verbs: load, unload, reload, pause, resume" in answer["message"]
    assert len(answer["message"]) < 300


@pytest.mark.parametrize(
    ("allow", "verb", "payload", "said"),
    [
        ((), "ping", {}, "control.allow does not name ping"),
        (("load",), "unload", {"model": "coco"}, "control.allow does not name unload"),
        (("load:coco",), "load", {"model": "other"}, "does not name load for model 'other'"),
        (("load:coco",), "load", {"model": "coco/1"}, "does not name load for model 'coco/1'"),
        (("reload:coco",), "reload", {}, "does not name reload for all"),
        (("pause:door",), "pause", {"source": "*"}, "does not name pause for source '*'"),
        (("load:coco",), "unload", {"model": "coco"}, "control.allow does not name unload"),
    ],
)
def test_what_is_not_allowed_is_not_done(make_rig, allow, verb, payload, said):
    rig = make_rig(ControlOptions(allow=allow))
    answer = rig.ask(verb, payload)
    assert answer["status"] == "not_allowed"
    assert said in answer["message"]
    assert rig.node.done == []


def test_what_is_allowed_for_one_is_done_for_that_one(make_rig):
    rig = make_rig(ControlOptions(allow=("reload:coco", "pause:door", "resume")))
    assert rig.ask("reload", {"model": "coco"})["status"] == "ok"
    assert rig.ask("pause", {"source": "door"})["status"] == "ok"
    assert rig.ask("resume", {"source": "porch"})["status"] == "ok"


def test_a_payload_that_may_not_be_sent_is_not_looked_at(make_rig):
    rig = make_rig(ControlOptions(allow=("ping",)))
    assert rig.ask("load", b"no json")["status"] == "not_allowed"


def test_a_large_payload_is_refused_and_not_logged(make_rig, caplog):
    rig = make_rig(ControlOptions(allow=("*",), max_bytes=64))
    assert rig.ask("ping", b'{"id":1}' + b" " * 56)["status"] == "ok"
    with caplog.at_level(logging.DEBUG, "edgert"):
        answer = rig.ask("ping", b'{"id":"' + b"secret" * 20 + b'"}')
    assert (answer["status"], answer["message"]) == ("too_large", "129 bytes; at most 64 are taken")
    assert "secret" not in caplog.text
    assert "edgert/here/cmd/ping" in caplog.text


def test_a_retained_command_is_refused(rig):
    answer = rig.ask("drain", is_retained=True)
    assert answer["status"] == "bad_request"
    assert "at each reconnect" in answer["message"]
    assert rig.node.done == []


def test_a_flood_is_refused_until_time_has_passed_and_warned_of_once(make_rig, caplog):
    rig = make_rig(ControlOptions(allow=("*",), per_minute=60))
    statuses = [rig.ask("ping")["status"] for _ in range(BURST + 1)]
    assert statuses == ["ok"] * BURST + ["too_many"]
    for _ in range(2):
        rig.send("ping", b"")
    assert rig.answers.empty()  # a flood is answered once a second
    assert rig.commands.counts.snapshot()["too_many"] == 3
    warnings = [record for record in caplog.records if "too_many" in record.message]
    assert [record.levelname for record in warnings if record.levelno >= logging.WARNING] == ["WARNING"]
    rig.clock.advance(1_000_000_000)
    assert [rig.ask("ping")["status"] for _ in range(2)] == ["ok", "too_many"]


def test_refusals_count_as_commands_too(make_rig):
    rig = make_rig(ControlOptions(allow=("ping",), per_minute=2))
    assert [rig.ask("load")["status"], rig.ask("sing")["status"], rig.ask("ping")["status"]] == [
        "not_allowed",
        "unknown_verb",
        "too_many",
    ]


def test_what_finds_the_queue_full_is_refused(make_rig):
    rig = make_rig(ControlOptions(allow=("*",), per_minute=6000))
    rig.node.gate.clear()
    rig.send("load", {"model": "m"})
    assert rig.node.begun.acquire(timeout=WAIT_S)
    for number in range(WAITING):
        rig.send("unload", {"model": f"m{number}"})
        rig.clock.advance(1_000_000_000)
    answer = rig.ask("unload", {"model": "late", "id": 7})
    assert (answer["status"], answer["model"], answer["id"]) == ("busy", "late", 7)
    rig.node.gate.set()
    answers = [rig.answer() for _ in range(1 + WAITING)]
    assert {answer["status"] for answer in answers} == {"ok"}
    assert ("unload", "late") not in rig.node.done


def test_what_waits_or_hangs_at_the_end_is_answered_once(rig):
    rig.node.gate.clear()
    rig.send("load", {"model": "slow"})
    assert rig.node.begun.acquire(timeout=WAIT_S)
    rig.send("unload", {"model": "next"})
    rig.commands.close(0.0)
    stopped = {rig.answer()["model"]: True for _ in range(2)}
    assert stopped == {"slow": True, "next": True}
    late = rig.ask("unload", {"model": "late"})
    assert (late["status"], late["message"]) == ("failed", "the node stops")
    assert rig.commands.counts.snapshot() == {"failed": 3}
    rig.node.gate.set()
    rig.commands.close(WAIT_S)
    assert rig.node.done == [("load", "slow")]


def test_closing_waits_for_the_command_that_runs(rig):
    rig.node.gate.clear()
    rig.send("load", {"model": "slow"})
    assert rig.node.begun.acquire(timeout=WAIT_S)
    closing = threading.Thread(target=rig.commands.close, args=(WAIT_S,))
    closing.start()
    rig.node.gate.set()
    closing.join(WAIT_S)
    assert rig.answer()["status"] == "ok"


@pytest.mark.parametrize("identity", ["q1", 7, 0, ""])
def test_the_id_of_a_request_comes_back_whatever_becomes_of_it(make_rig, identity):
    rig = make_rig(ControlOptions(allow=("ping", "load"), per_minute=5))
    answers = [
        rig.ask("ping", {"id": identity}),
        rig.ask("load", {"id": identity, "model": 5}),
        rig.ask("drain", {"id": identity}),
        rig.ask("sing", {"id": identity, "by": ["heart"]}),
        rig.ask("ping", {"id": identity}, is_retained=True),
        rig.ask("ping", {"id": identity}),
    ]
    assert [answer["id"] for answer in answers] == [identity] * 6
    assert answers[-1]["status"] == "too_many"


@pytest.mark.parametrize("identity", [[1], {"a": 1}, 2**70, "x" * 129, 1.5, True])
def test_an_id_that_is_none_is_refused_and_not_repeated(rig, identity):
    answer = rig.ask("ping", {"id": identity})
    assert answer["status"] == "bad_request"
    assert "id" not in answer


def test_the_answer_gets_the_message_that_it_answers(rig):
    rig.send("ping", b"", response_topic="me/answers", correlation=b"c1")
    received, _ = rig.answers.get(timeout=WAIT_S)
    assert (received.response_topic, received.correlation) == ("me/answers", b"c1")


def test_a_topic_cannot_forge_a_line_of_the_log(rig, caplog):
    rig.ask("x\nERROR all is lost")
    rig.ask("ping", {"x\nERROR all is lost": 1})
    rig.ask("ping", {"y" * 4000: 1})
    assert "\nERROR" not in caplog.text
    assert "y" * 200 not in caplog.text


def test_commands_that_were_never_opened_are_closed_too():
    answers = []
    commands = Commands(
        EVERYTHING, Node(), lambda _, payload: answers.append(json.loads(payload)), FakeClock()
    )
    commands.close(0.0)
    commands.handle(Received("edgert/here/cmd/reload", b""))
    assert [answer["status"] for answer in answers] == ["failed"]
