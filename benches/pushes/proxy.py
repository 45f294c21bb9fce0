"""A server in front of another one, that counts the bytes that go through it."""

import socket
import threading


class Proxy:
    """Listens on a port of its own; `moved` is how many bytes went either way."""

    def __init__(self, port: int):
        self.target = ("127.0.0.1", port)
        self.lock = threading.Lock()
        self.moved = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(self.target)
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self.pump, args=(source, sink), daemon=True).start()

    def pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(1 << 18):
                sink.sendall(data)
                with self.lock:
                    self.moved += len(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            # One side is gone, and so is what it was saying.
            for end in (source, sink):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
