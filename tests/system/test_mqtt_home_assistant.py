"""A whole service as Home Assistant sees it, on a real broker."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from tests.fakes import store
from tests.fakes.broker import Mosquitto, Subscriber
from tests.fakes.process import Service
from tests.fakes.store import Site, noise

pytestmark = pytest.mark.system

CONFIG = "homeassistant/device/edgert_here/config"
SETTINGS = store.EXACT + '[decode]\nkind = "ssd"\n[labels]\nfile = "labels.txt"\n'
PIPELINE = """\
[sources.door]
uri = "{uri}"
loop = true
fps = 20
models = ["ssd"]
[sinks.broker]
type = "mqtt"
port = {port}
retry_min_s = 0.1
home_assistant = {{ snapshot_s = 0.2 }}
[control]
allow = ["snapshot"]
"""


@pytest.fixture
def broker(tmp_path):
    with Mosquitto(tmp_path) as broker:
        yield broker


@pytest.fixture
def pipeline(tmp_path, broker):
    site = Site(tmp_path)
    site.add("ssd", store.ssd_model(), settings=SETTINGS, labels="cat\ndog\n")
    return site.write(PIPELINE.format(uri=noise(4), port=broker.port))


def entities(message):
    return json.loads(message.payload)["components"]


def test_a_service_is_discovered_shows_pictures_and_is_announced_again(broker, pipeline):
    with Subscriber(broker.port) as subscriber, Service(pipeline) as service:
        config = subscriber.wait_for(lambda m: m.topic == CONFIG and m.payload)
        names = json.dumps(entities(config))
        assert "cat" in names
        assert "dog" in names
        picture = subscriber.wait_for(lambda m: m.topic == "edgert/here/source/door/snapshot")
        image = cv2.imdecode(np.frombuffer(picture.payload, np.uint8), cv2.IMREAD_COLOR)
        assert image.shape == (8, 8, 3)
        subscriber.publish("homeassistant/status", b"online")
        assert entities(subscriber.wait_for(lambda m: m.topic == CONFIG)) == entities(config)
        subscriber.publish("edgert/here/cmd/snapshot", b'{"source": "door"}')
        answer = subscriber.wait_for(lambda m: m.topic == "edgert/here/cmd/snapshot/answer")
        body = json.loads(answer.payload)
        assert (body["status"], body["topic"]) == ("ok", "edgert/here/source/door/snapshot")
        assert service.stop() == 0
    with Subscriber(broker.port) as newcomer:
        assert newcomer.wait_for(lambda m: m.topic == CONFIG).retain
