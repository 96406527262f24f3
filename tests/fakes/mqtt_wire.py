"""A link between clients and a real broker that notes what passes, and can be cut."""

from __future__ import annotations

import select
import socket
import struct
import threading

PUBLISH, PUBACK = 3, 4
CHUNK_BYTES = 65_536


class Wire:
    """Listens on `port` of 127.0.0.1 and passes everything on to the broker's port.

    `published` are the payloads of all results on their way to the broker, in order; `acknowledged` those
    whose PUBACK came back. What the broker acknowledged, it has.
    """

    def __init__(self, broker_port: int) -> None:
        self.published: list[bytes] = []
        self.acknowledged: list[bytes] = []
        self._broker_port = broker_port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._is_cut = threading.Event()
        self._is_over = False
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def cut(self) -> None:
        """Let nothing through any more, and say nothing about it."""
        self._is_cut.set()

    def mend(self) -> None:
        self._is_cut.clear()

    def close(self) -> None:
        self._is_over = True
        self._thread.join()
        self._server.close()

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        pairs = []
        while not self._is_over:
            if select.select([self._server], [], [], 0.05)[0]:
                client, _ = self._server.accept()
                pairs.append(threading.Thread(target=self._pass_on, args=(client,)))
                pairs[-1].start()
        for pair in pairs:
            pair.join()

    def _pass_on(self, client: socket.socket) -> None:
        with client:
            try:
                broker = socket.create_connection(("127.0.0.1", self._broker_port), 5.0)
            except OSError:
                return
            with broker:
                self._exchange(client, broker)

    def _exchange(self, client: socket.socket, broker: socket.socket) -> None:
        in_flight: dict[int, bytes] = {}
        ways = {client: (broker, Packets()), broker: (client, Packets())}
        while not self._is_over:
            if self._is_cut.is_set():
                self._is_cut.wait(0.02)
                select.select([], [], [], 0.02)
                continue
            for end in select.select(list(ways), [], [], 0.05)[0]:
                other, packets = ways[end]
                try:
                    data = end.recv(CHUNK_BYTES)
                    other.sendall(data)
                except OSError:
                    return
                if not data:
                    return
                for kind, body in packets.feed(data):
                    self._note(kind, body, in_flight)

    def _note(self, kind: int, body: bytes, in_flight: dict[int, bytes]) -> None:
        flags, kind = kind & 0x0F, kind >> 4
        if kind == PUBLISH and flags & 0b110 and not flags & 1:  # QoS 1 or 2, not retained
            length = struct.unpack_from(">H", body)[0]
            number = struct.unpack_from(">H", body, 2 + length)[0]
            payload = body[4 + length :]
            payload = payload[payload.index(b"{") :] if b"{" in payload else payload  # after the properties
            in_flight[number] = payload
            self.published.append(payload)
        elif kind == PUBACK and (payload := in_flight.pop(struct.unpack_from(">H", body)[0], None)):
            self.acknowledged.append(payload)


class Packets:
    """Cuts a stream of bytes into MQTT packets."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes):
        """Yield (first byte, body) of each packet that is whole."""
        self._rest += data
        while (found := self._length()) is not None:
            start, size = found
            if len(self._rest) < start + size:
                return
            yield self._rest[0], self._rest[start : start + size]
            self._rest = self._rest[start + size :]

    def _length(self):
        size = shift = 0
        for index in range(1, min(5, len(self._rest))):
            size |= (self._rest[index] & 0x7F) << shift
            shift += 7
            if not self._rest[index] & 0x80:
                return index + 1, size
        return None
