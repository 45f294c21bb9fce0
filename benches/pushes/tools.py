"""What pushes a series, version by version: git-lfs, DVC and shard."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from servers import KEY, SECRET, Server

MODEL = "model.safetensors"
PLAIN = {
    "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", "NO_COLOR": "1",
    "GIT_AUTHOR_NAME": "bench", "GIT_AUTHOR_EMAIL": "bench@example.org",
    "GIT_COMMITTER_NAME": "bench", "GIT_COMMITTER_EMAIL": "bench@example.org",
    "SHARD_AUTHOR": "bench <bench@example.org>",
    "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true",
    "DVC_NO_ANALYTICS": "1", "DVC_GLOBAL_CONFIG_DIR": "", "DVC_SYSTEM_CONFIG_DIR": "", "DVC_SITE_CACHE_DIR": "",
}


def run(folder: Path, *command: str, **env: str) -> str:
    """What a command prints; a command that fails ends the run."""
    done = subprocess.run(command, cwd=folder, env={**os.environ, **PLAIN, **env}, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} in {folder}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


@dataclass
class Tool:
    """One way to push. `here` is the folder that is pushed from, `name` is new for each series and round."""

    work: Path
    server: Server

    title = ""

    def begin(self, name: str) -> None:
        raise NotImplementedError(name)

    def take_in(self, here: Path) -> None:
        """Makes a version of what lies in the folder."""
        raise NotImplementedError(here)

    def push(self, here: Path) -> None:
        raise NotImplementedError(here)

    def fetch(self, name: str, there: Path) -> None:
        """Brings the newest version to a folder that is not there yet."""
        raise NotImplementedError(name)


@dataclass
class GitLfs(Tool):
    title = "git-lfs"

    def begin(self, name: str) -> Path:
        here, hub = self.work / f"lfs-{name}", self.work / f"lfs-{name}.git"
        run(self.work, "git", "init", "-q", "--bare", str(hub))
        run(self.work, "git", "init", "-q", "-b", "main", str(here))
        run(here, "git", "lfs", "install", "--local")
        run(here, "git", "lfs", "track", "*.safetensors")
        run(here, "git", "config", "-f", ".lfsconfig", "lfs.url", f"http://127.0.0.1:{self.server.proxy.port}/bench/{name}.git/info/lfs")
        run(here, "git", "config", "lfs.locksverify", "false")
        run(here, "git", "remote", "add", "origin", str(hub))
        run(here, "git", "add", ".gitattributes", ".lfsconfig")
        run(here, "git", "commit", "-q", "-m", "Begin")
        run(here, "git", "push", "-q", "-u", "origin", "main")
        return here

    def take_in(self, here: Path) -> None:
        run(here, "git", "add", MODEL)
        run(here, "git", "commit", "-q", "-m", "Next")

    def push(self, here: Path) -> None:
        run(here, "git", "push", "-q", "origin", "main")

    def fetch(self, name: str, there: Path) -> None:
        run(self.work, "git", "clone", "-q", "-b", "main", str(self.work / f"lfs-{name}.git"), str(there), GIT_LFS_SKIP_SMUDGE="1")
        run(there, "git", "lfs", "install", "--local")
        run(there, "git", "lfs", "pull")


@dataclass
class Dvc(Tool):
    dvc: Path

    title = "DVC"

    def run(self, folder: Path, *command: str) -> None:
        # What it would keep for the whole machine is kept with the rest.
        site = self.work / "dvc-site"
        run(folder, str(self.dvc), *command, DVC_GLOBAL_CONFIG_DIR=str(site), DVC_SYSTEM_CONFIG_DIR=str(site), DVC_SITE_CACHE_DIR=str(site))

    def begin(self, name: str) -> Path:
        here, hub = self.work / f"dvc-{name}", self.work / f"dvc-{name}.git"
        run(self.work, "git", "init", "-q", "--bare", str(hub))
        run(self.work, "git", "init", "-q", "-b", "main", str(here))
        self.run(here, "init", "-q")
        self.run(here, "remote", "add", "-d", "store", f"s3://models/dvc-{name}")
        self.run(here, "remote", "modify", "store", "endpointurl", f"http://127.0.0.1:{self.server.proxy.port}")
        run(here, "git", "remote", "add", "origin", str(hub))
        run(here, "git", "add", "--all")
        run(here, "git", "commit", "-q", "-m", "Begin")
        return here

    def take_in(self, here: Path) -> None:
        self.run(here, "add", "-q", MODEL)
        run(here, "git", "add", "--all")
        run(here, "git", "commit", "-q", "-m", "Next")

    def push(self, here: Path) -> None:
        self.run(here, "push", "-q")
        run(here, "git", "push", "-q", "origin", "main")

    def fetch(self, name: str, there: Path) -> None:
        run(self.work, "git", "clone", "-q", "-b", "main", str(self.work / f"dvc-{name}.git"), str(there))
        self.run(there, "pull", "-q")


@dataclass
class Shard(Tool):
    binary: Path
    hub: Path

    title = "shard, `serve`"

    def run(self, folder: Path, *command: str) -> None:
        run(folder, str(self.binary), "-q", *command, AWS_ENDPOINT_URL=f"http://127.0.0.1:{self.server.proxy.port}")

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server.proxy.port}/{name}"

    def make(self, name: str) -> None:
        self.run(self.hub, "init", "--bare", name)

    def begin(self, name: str) -> Path:
        here = self.work / f"{type(self).__name__}-{name}"
        self.make(name)
        self.run(self.work, "init", str(here))
        self.run(here, "connect", self.url(name))
        return here

    def take_in(self, here: Path) -> None:
        self.run(here, "add", MODEL)
        self.run(here, "commit", "-m", "Next")

    def push(self, here: Path) -> None:
        self.run(here, "push")

    def fetch(self, name: str, there: Path) -> None:
        self.run(self.work, "clone", self.url(name), str(there))


@dataclass
class ShardBucket(Shard):
    title = "shard, `s3://`"

    def url(self, name: str) -> str:
        return f"s3://models/shard-{name}"

    def make(self, name: str) -> None:
        self.run(self.work, "init", "--bare", self.url(name))


def place(version: Path, here: Path) -> None:
    """Puts a version where a training run would write it."""
    shutil.copyfile(version, here / MODEL)
