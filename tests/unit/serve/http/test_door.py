"""Who may do what, and what answers a path."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from edgert.serve.http import router as router_module
from edgert.serve.http.door import Door
from edgert.serve.http.message import Head, RefusedError
from edgert.serve.http.router import Route, Router
from edgert.serve.http.site import Peer


class FakeTransport:
    def __init__(self, peer, own):
        self._names = {"peername": (peer, 1), "sockname": (own, 2)}

    def get_extra_info(self, name):
        return self._names[name]


LOCAL = Peer(FakeTransport("127.0.0.1", "127.0.0.1"))
REMOTE = Peer(FakeTransport("192.168.1.7", "192.168.1.2"))


def head(method="POST", path="/local", **headers):
    fields = {name.lower().encode(): value for name, value in headers.items()}
    return Head(method, path, fields, 0, is_kept_alive=True)


def door(token="", *, is_control_allowed=True):
    router = Router()
    router.add(
        Route("POST", "/local", print, is_local=True),
        Route("POST", "/control", print, is_control=True, where="control"),
    )
    return Door(router, token, is_control_allowed=is_control_allowed)


@pytest.mark.parametrize(
    ("peer", "own", "is_local"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.9.9.9", "127.0.0.1", True),
        ("::1", "::1", True),
        ("::ffff:127.0.0.1", "::ffff:127.0.0.1", True),
        ("192.168.1.2", "192.168.1.2", True),
        ("192.168.1.7", "192.168.1.2", False),
        ("fe80::1", "fe80::2", False),
    ],
)
def test_a_peer_on_this_machine_is_local(peer, own, is_local):
    assert Peer(FakeTransport(peer, own)).is_local is is_local


def test_a_peer_that_is_gone_is_not_local():
    assert not Peer(SimpleNamespace(get_extra_info=lambda _: None)).is_local


def test_shared_memory_is_for_this_machine():
    assert door().admit(head(), LOCAL).run.func is print
    with pytest.raises(RefusedError, match="on the server's machine") as caught:
        door().admit(head(), REMOTE)
    assert (caught.value.code, caught.value.reason) == (403, "forbidden")


def test_control_is_for_those_who_may_and_slow():
    assert door().admit(head(path="/control"), REMOTE).where == "control"
    with pytest.raises(RefusedError, match=r"http\.control"):
        door(is_control_allowed=False).admit(head(path="/control"), LOCAL)
    assert door(is_control_allowed=False).admit(head(), LOCAL)


def test_the_token_comes_before_all_else():
    with pytest.raises(RefusedError) as caught:
        door("secret").admit(head(path="/nowhere"), LOCAL)
    assert caught.value.code == 401
    with pytest.raises(RefusedError) as caught:
        door("secret").admit(head(path="/nowhere", Authorization=b"Bearer secret"), LOCAL)
    assert caught.value.code == 404


def test_a_path_gives_its_parts_by_name():
    router, found = Router(), []
    router.add(Route("GET", "/m/{model}/versions/{version}", lambda **parts: found.append(parts)))
    for path in ("/m/a%2Fb%20c/versions/12", "/m/%FF/versions/0"):
        router.find("HEAD", path).job.run()
    assert found == [{"model": "a/b c", "version": 12}, {"model": "\ufffd", "version": -1}]
    for path in ("/m/a/versions/x", "/m/a/versions/" + "1" * 19, "/m//versions/1", "/m/a/versions/1/"):
        with pytest.raises(RefusedError, match="Not Found"):
            router.find("GET", path)


def test_of_two_routes_the_first_is_taken():
    router = Router()
    router.add(Route("GET", "/m/stats", print), Route("GET", "/m/{model}", repr))
    assert router.find("GET", "/m/stats").route.run is print
    assert router.find("GET", "/m/other").route.run is repr


def test_paths_are_remembered_within_bounds(monkeypatch):
    monkeypatch.setattr(router_module, "MAX_REMEMBERED", 4)
    router = Router()
    router.add(Route("GET", "/m/{model}", print))
    for index in range(50):
        router.find("GET", f"/m/{index}")
        assert len(router._remembered) <= 4
    assert router.find("GET", "/m/49") is router.find("GET", "/m/49")
