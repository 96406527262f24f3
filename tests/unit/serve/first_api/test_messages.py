"""Messages against bytes that the client tensorrtserver 1.11.0 made of the same values."""

from __future__ import annotations

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st

from edgert.errors import RequestError
from edgert.serve.first_api.messages import MESSAGE_CLASSES, encoded, one_line, parse_text

STATUS = """
id: "inference:0" version: "1.1.0" ready_state: SERVER_READY uptime_ns: 23322988571
model_status {
  key: "resnet50_netdef"
  value {
    config {
      name: "resnet50_netdef" platform: "caffe2_netdef" max_batch_size: 128
      input { name: "gpu_0/data" data_type: TYPE_FP32 dims: [3, 224, 224] }
    }
    version_status {
      key: 1
      value {
        ready_state: MODEL_READY model_execution_count: 3 model_inference_count: 7
        infer_stats {
          key: 2
          value { success { count: 4 total_time_ns: 99 } compute { count: 4 } }
        }
      }
    }
  }
}
"""
STATUS_BYTES = bytes.fromhex(
    "0a0b696e666572656e63653a301205312e312e30189ba0a2f156226b0a0f7265736e657435305f6e657464656612580a3a0a0f72"
    "65736e657435305f6e6574646566120d6361666665325f6e65746465662080012a150a0a6770755f302f64617461100b220503e0"
    "01e001121a080112160801120e0802120a0a04080410631a020804180320073802"
)
RESPONSE = """
id: 9 model_name: "m" model_version: 3 batch_size: 2
output { name: "a" raw { dims: 4 batch_byte_size: 32 } }
output { name: "b" batch_classes { cls { idx: 5 value: 0.25 label: "cat" } } }
"""
RESPONSE_BYTES = bytes.fromhex(
    "0a016d10031802220a0a016112050a0104102022130a01621a0e0a0c0805150000803e1a036361742809"
)


@pytest.mark.parametrize(
    ("kind", "text", "data"),
    [("ServerStatus", STATUS, STATUS_BYTES), ("InferResponseHeader", RESPONSE, RESPONSE_BYTES)],
)
def test_bytes_of_the_real_client_are_read(kind, text, data):
    message = parse_text(kind, text, "a test")
    again = MESSAGE_CLASSES[kind].FromString(data)
    assert again == message
    assert MESSAGE_CLASSES[kind].FromString(encoded(message, is_binary=True)) == message
    assert text_format.Parse(encoded(again, is_binary=False).decode(), MESSAGE_CLASSES[kind]()) == message


def test_response_headers_are_the_same_bytes():
    assert encoded(parse_text("InferResponseHeader", RESPONSE, ""), is_binary=True) == RESPONSE_BYTES


@pytest.mark.parametrize(
    "text",
    [
        'batch_size: 1 input { name: "input" byte_size: 602112 } output { name: "output" byte_size: 4000 '
        "cls { count: 3 } }",
        'id: 7 batch_size: 2 input { name: "INPUT0" dims: 16 } output { name: "OUTPUT0" shared_memory '
        '{ name: "in" byte_size: 128 } } correlation_id: 5 flags: 3',
    ],
    ids=["user guide 0.5", "client 1.11"],
)
def test_requests_of_both_ages_are_read(text):
    header = parse_text("InferRequestHeader", text, "NV-InferRequest")
    assert len(header.input) == len(header.output) == 1


@pytest.mark.parametrize(
    "text", ["nonsense", "batch_size: -1", "input {", "batch_size: 1 batch_size: 2", "\x00"]
)
def test_other_text_is_refused_with_its_place(text):
    with pytest.raises(RequestError, match="NV-InferRequest cannot be read: 1:"):
        parse_text("InferRequestHeader", text, "NV-InferRequest")


@given(st.text())
def test_a_header_is_one_line_of_ascii_whatever_it_says(text):
    status = MESSAGE_CLASSES["RequestStatus"](code=1, msg=text)
    line = one_line(status)
    assert line.isascii()
    assert line.isprintable()
    assert parse_text("RequestStatus", line, "a test") == status
