"""Two parts of a pipeline file that would listen at one place."""

from __future__ import annotations

import pytest

from edgert.pipeline.file import PipelineFile
from edgert.pipeline.listeners import listeners_of
from tests.fakes.store import Site

SOURCE = '[sources.s]\nuri = "router+bind:tcp://127.0.0.1:5601"\nmodels = ["noop"]\n'


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    site.add_noop()
    return site


def problems(site, text):
    return [str(problem) for problem in PipelineFile.load(site.write(text)).own_problems()]


def test_one_port_for_http_and_grpc_is_told_with_both_keys(site):
    [problem] = problems(site, "[http]\nport = 8001\n[serve.grpc]\nport = 8001\n")
    assert problem.endswith(
        "serve.grpc.port: 127.0.0.1:8001 is where http.port listens (127.0.0.1:8001); give it another port"
    )


@pytest.mark.parametrize(
    ("http", "grpc", "is_one_place"),
    [
        ("127.0.0.1", "0.0.0.0", True),
        ("localhost", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("127.0.0.1", "::", False),
        ("::1", "::", True),
    ],
)
def test_hosts_meet_where_one_is_all_of_them(site, http, grpc, is_one_place):
    text = f'[http]\nhost = "{http}"\nport = 9000\n[serve.grpc]\nhost = "{grpc}"\nport = 9000\n'
    assert len(problems(site, text)) == is_one_place


def test_ports_that_are_chosen_at_the_start_never_meet(site):
    assert problems(site, "[http]\nport = 0\n[serve.grpc]\nport = 0\n") == []


def test_sockets_of_zeromq_count_and_those_that_connect_do_not(site):
    sinks = '[sinks.t]\ntype = "tap"\nendpoint = "pub+{}:tcp://127.0.0.1:5601"\n'
    assert problems(site, SOURCE + sinks.format("connect")) == []
    [problem] = problems(site, SOURCE + sinks.format("bind") + "[http]\nport = 8000\n")
    assert "sinks.t.endpoint: 127.0.0.1:5601 is where sources.s.uri listens" in problem
    text = SOURCE + SOURCE.replace("sources.s", "sources.t")
    assert "sources.t.uri: 127.0.0.1:5601" in problems(site, text)[0]


def test_sockets_that_are_no_tcp_have_no_port(site):
    text = SOURCE.replace("tcp://127.0.0.1:5601", "ipc:///tmp/edgert-in")
    assert listeners_of(PipelineFile.load(site.write(text)).options) == []
