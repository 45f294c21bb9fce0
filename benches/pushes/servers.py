"""The servers that are pushed to, as processes on this machine."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from proxy import Proxy

KEY, SECRET = "shardtest", "shardsecret"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def free_ports(count: int) -> list[int]:
    """Ports for SeaweedFS, which also listens ten thousand above each."""
    ports: list[int] = []
    while len(ports) < count:
        port = free_port()
        if port < 50_000 and port not in ports:
            ports.append(port)
    return ports


class Server:
    """A process that listens, and the proxy in front of it."""

    def __init__(self, command: list[str], port: int, log: Path, **options):
        self.name = Path(command[0]).name
        self.log = log
        with log.open("wb") as out:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, **options)
        self.port = port
        self.wait(lambda: socket.create_connection(("127.0.0.1", port)).close())
        self.proxy = Proxy(port)

    def wait(self, tried, patience: float = 60) -> None:
        """Until something can be done, and no longer than the process lives."""
        end = time.monotonic() + patience
        while True:
            try:
                return tried()
            except (OSError, subprocess.CalledProcessError) as error:
                if self.process.poll() is not None or time.monotonic() > end:
                    sys.exit(f"{self.name} does not serve: {error}; its log is {self.log}")
                time.sleep(0.2)

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def shard(binary: Path, folder: Path, work: Path) -> Server:
    port = free_port()
    command = [str(binary), "serve", "--listen", f"127.0.0.1:{port}"]
    return Server(command, port, work / "shard.log", cwd=folder)


def giftless(python: Path, folder: Path, work: Path) -> Server:
    """The LFS server keeps its objects in a folder and takes whatever comes."""
    port = free_port()
    config = work / "giftless.yaml"
    options = {"storage_class": "giftless.storage.local_storage:LocalStorage", "storage_options": {"path": str(folder)}}
    config.write_text(json.dumps({
        "LEGACY_ENDPOINTS": False,
        # It lets nobody in without tokens, which it signs itself.
        "PRE_AUTHORIZED_ACTION_PROVIDER": {
            "factory": "giftless.auth.jwt:factory", "options": {"algorithm": "HS256", "private_key": "k" * 64}},
        "AUTH_PROVIDERS": ["giftless.auth.allow_anon:read_write"],
        "TRANSFER_ADAPTERS": {"basic": {"factory": "giftless.transfer.basic_streaming:factory", "options": options}},
    }))
    command = [str(python), "-m", "gunicorn", "-w", "2", "-t", "600", "-b", f"127.0.0.1:{port}", "giftless.wsgi_entrypoint:app"]
    return Server(command, port, work / "giftless.log",
                  env={**os.environ, "GIFTLESS_CONFIG_FILE": str(config), "HOME": str(work)})


def seaweed(weed: Path, folder: Path, work: Path) -> Server:
    """SeaweedFS as a single process, with a key that may do everything."""
    master, volume, filer, s3 = free_ports(4)
    config = work / "s3.json"
    config.write_text(json.dumps({"identities": [{
        "name": "bench", "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}))
    command = [
        str(weed), "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false",
        f"-master.port={master}", f"-volume.port={volume}", "-volume.max=300", "-volume.preStopSeconds=0",
        "-master.volumeSizeLimitMB=256", "-filer", f"-filer.port={filer}", "-s3", f"-s3.port={s3}", f"-s3.config={config}", "-s3.port.iceberg=0", "-s3.port.lance=0",
    ]
    return Server(command, s3, work / "seaweed.log", cwd=work)
