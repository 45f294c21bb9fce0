"""Pushes series of checkpoints by several tools, side by side, and compares bytes and times."""

import argparse
import filecmp
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import servers
from tools import MODEL, Dvc, GitLfs, Shard, ShardBucket, Tool, place, run

PAGE = Path("docs/benchmarks.md")
HEADING = "## Pushing a series"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benches/pushes/run", description=__doc__)
    parser.add_argument("--target", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="one round of the small series, and no page")
    parser.add_argument("--rounds", type=int, default=3, help="how often each series is pushed by each tool")
    parser.add_argument("--mib", type=int, default=256, help="size of each version of the synthetic series")
    return parser.parse_args()


def series(options: argparse.Namespace, data: Path, work: Path) -> dict[str, list[Path]]:
    """Versions of a model, oldest first, by the name of the series."""
    found = {f"`{folder.name}`": sorted(folder.glob("*.safetensors")) for folder in sorted((data / "series").iterdir())}
    if not found or any(len(versions) < 2 for versions in found.values()):
        sys.exit(f"{data}/series has no series of checkpoints")
    if options.quick:
        name = min(found, key=lambda name: found[name][0].stat().st_size)
        return {name: found[name]}
    made = [work / "synthetic-1.safetensors", work / "synthetic-2.safetensors"]
    source = found["`gpt-bf16`"]
    synth = options.target / "release/examples/synth"
    subprocess.run([synth, source[1], source[2], str(options.mib), *made], check=True, stdout=subprocess.DEVNULL)
    found[f"as `gpt-bf16`, {options.mib} MiB"] = made
    return found


def push_all(tool: Tool, name: str, versions: list[Path], work: Path) -> tuple[float, float, int]:
    """Seconds to make versions and to push them, and the bytes that moved. What was pushed is fetched and compared."""
    here = tool.begin(name)
    taking = pushing = 0.0
    before = tool.server.proxy.moved
    for version in versions:
        place(version, here)
        os.sync()
        start = time.monotonic()
        tool.take_in(here)
        taking += time.monotonic() - start
        start = time.monotonic()
        tool.push(here)
        os.sync()
        pushing += time.monotonic() - start
    moved = tool.server.proxy.moved - before
    there = work / "fetched"
    tool.fetch(name, there)
    if not filecmp.cmp(there / MODEL, versions[-1], shallow=False):
        sys.exit(f"{tool.title}: what was fetched is not what was pushed")
    shutil.rmtree(there)
    shutil.rmtree(here)
    return taking, pushing, moved


def page(results: dict, sizes: dict[str, int], versions: dict[str, str]) -> str:
    lines = [
        HEADING, "",
        "Each version is taken in and pushed before the next one is there. Bytes are those that cross the wire, both ways; times are",
        "of all pushes together, with a sync of the disk, and of all that makes versions of files before (`add` and `commit`): medians.",
        "git-lfs pushes to giftless, DVC and shard to one SeaweedFS, shard also to `shard serve`, all on this machine over loopback.",
        f"By `benches/pushes/run`, with {', '.join(f'{name} {version}' for name, version in versions.items())}.", "",
        "| series | tool | MB moved | of the files | pushing | `add`, `commit` |", "|---|---|---|---|---|---|",
    ]
    for name, tools in results.items():
        fewest = min(statistics.median(moved for *_, moved in rounds) for rounds in tools.values())
        quickest = min(statistics.median(pushing for _, pushing, _ in rounds) for rounds in tools.values())
        for title, rounds in tools.items():
            taking, pushing, moved = (statistics.median(column) for column in zip(*rounds))
            bold = lambda text, best: f"**{text}**" if best else text
            lines.append(
                f"| {name} | {title} | {bold(f'{moved / 1e6:.1f}', moved == fewest)} | {100 * moved / sizes[name]:.1f}% | "
                f"{bold(f'{pushing:.2f} s', pushing == quickest)} | {taking:.2f} s |")
    return "\n".join(lines) + "\n"


def behind(results: dict) -> list[str]:
    """Where another tool moves fewer bytes than any way of shard, or takes less time than the quickest."""
    found = []
    for name, tools in results.items():
        for column, what in ((1, "time"), (2, "bytes")):
            best = {title: statistics.median(row[column] for row in rounds) for title, rounds in tools.items()}
            ours = [value for title, value in best.items() if title.startswith("shard")]
            limit = min(ours) if what == "time" else max(ours)
            found += [f"{name}: {title} is ahead in {what}" for title, value in best.items()
                      if not title.startswith("shard") and value <= limit]
    return found


def main() -> int:
    """Exit codes: 0, or 1 where another tool is ahead."""
    options = arguments()
    data = os.environ.get("SHARD_DATA")
    if not data or not Path(data).is_dir():
        sys.exit("SHARD_DATA has to name the folder of recorded checkpoints")
    if shutil.which("git-lfs") is None:
        sys.exit("git-lfs is not installed (Debian: git-lfs)")
    target = options.target
    work = target / "pushes"
    shutil.rmtree(work, ignore_errors=True)
    for folder in ("hub", "lfs", "weed"):
        (work / folder).mkdir(parents=True)
    binary, python, dvc = target / "release/shard", target / "pushes-lfs/bin/python", target / "pushes-dvc/bin/dvc"
    weed = target / "pushes-dvc/bin/weed"
    started: list[servers.Server] = []
    try:
        started.append(serving := servers.shard(binary, work / "hub", work))
        started.append(lfs := servers.giftless(python, work / "lfs", work))
        started.append(bucket := servers.seaweed(weed, work / "weed", work))
        make = "import botocore.session, sys; botocore.session.get_session().create_client('s3', endpoint_url=sys.argv[1]).create_bucket(Bucket='models')"
        address = f"http://127.0.0.1:{bucket.port}"
        # It listens before buckets can be made.
        environment = {**os.environ, "AWS_ACCESS_KEY_ID": servers.KEY, "AWS_SECRET_ACCESS_KEY": servers.SECRET, "AWS_DEFAULT_REGION": "us-east-1"}
        bucket.wait(lambda: subprocess.run([dvc.parent / "python", "-c", make, address], check=True, env=environment, stderr=subprocess.DEVNULL))
        tools = [
            GitLfs(work, lfs), Dvc(work, bucket, dvc),
            Shard(work, serving, binary, work / "hub"), ShardBucket(work, bucket, binary, work / "hub"),
        ]
        results: dict[str, dict[str, list[tuple[float, float, int]]]] = {}
        sizes = {}
        for number, (name, versions) in enumerate(series(options, Path(data), work).items()):
            sizes[name] = sum(version.stat().st_size for version in versions)
            results[name] = {tool.title: [] for tool in tools}
            for round_ in range(1 if options.quick else options.rounds):
                for tool in tools:
                    row = push_all(tool, f"series-{number}-{round_}", versions, work)
                    results[name][tool.title].append(row)
                    print(f"{name}, {tool.title}: add {row[0]:.2f} s, push {row[1]:.2f} s, {row[2]} bytes", flush=True)
    finally:
        for server in started:
            server.stop()
    told = {
        "git-lfs": run(work, "git", "lfs", "version").split("/")[1].split()[0],
        "DVC": run(work, str(dvc), "--version").strip(),
        "shard": run(work, str(binary), "--version").split()[1],
    }
    text = page(results, sizes, told)
    print(text)
    if not options.quick:
        before = PAGE.read_text().split(HEADING)[0].rstrip()
        PAGE.write_text(f"{before}\n\n{text}")
    shutil.rmtree(work)
    places = behind(results)
    for found in places:
        print(f"behind: {found}", file=sys.stderr)
    # A single round says little about times.
    return 1 if any(not options.quick or found.endswith("bytes") for found in places) else 0


if __name__ == "__main__":
    sys.exit(main())
