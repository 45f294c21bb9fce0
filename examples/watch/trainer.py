"""Trains, and pushes a version of the model every few steps: trainer.py SHARD REPOSITORY VERSIONS LOSSES

Writes the loss of each version to the file LOSSES, a line of JSON each: {"commit": ID, "loss": NUMBER}.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from series import Training, weights_of  # noqa: E402

shard, repository, versions, losses = sys.argv[1:]


def run(*arguments):
    return subprocess.run([shard, "-q", "-C", repository, *arguments], check=True, capture_output=True, text=True).stdout


training = Training()
with open(losses, "a") as told:
    for _ in range(int(versions)):
        for _ in range(20):
            training.step()
        file = training.file()
        Path(repository, "model.safetensors").write_bytes(file)
        run("add", "model.safetensors")
        run("commit", "-m", "Next version")
        commit = json.loads(run("--json", "log", "HEAD", "-n", "1"))["commits"][0]["id"]
        print(json.dumps({"commit": commit, "loss": training.loss(weights_of(file))}), file=told, flush=True)
        run("push", "origin", "main")
        time.sleep(0.2)
