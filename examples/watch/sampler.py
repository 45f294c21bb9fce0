"""Uses the newest weights: shard --json watch … -o FOLDER | sampler.py FOLDER

Maps the file once. `shard watch` changes it in place, so that the mapping always has what was applied last; the note beside it says
whether that is whole, and which version it is. Prints a line of JSON for each version that it used: {"commit": ID, "loss": NUMBER}.
"""

import json
import mmap
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from series import Training, weights_of  # noqa: E402

folder = Path(sys.argv[1])
training = Training()
mapped = None


def version():
    note = json.loads((folder / ".shard-version").read_text())
    return note["commit"] if note["whole"] else None


for line in sys.stdin:
    if mapped is None:
        with open(folder / "model.safetensors", "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    before = version()
    weights = weights_of(mapped)
    # What was read while the next version came is neither: that one is told in a moment.
    if before is not None and before == version():
        print(json.dumps({"commit": before, "loss": training.loss(weights)}), flush=True)
