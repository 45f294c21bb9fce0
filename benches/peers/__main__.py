"""Runs the peers beside shard. `run` prepares what this needs, and calls it."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import machine
from measure import Result, measure
from native import NATIVE_PEERS
from packages import Lmz, OpenZL, Pcodec, Z4ai, ZipNN
from pairs import Choice
from peer import Peer, made
from report import Report
from transforms import BitX, Blosc2Bitshuffle, Blosc2Shuffle, PatchFrom, Zstd

PEERS: list[type[Peer]] = [Zstd, PatchFrom, Blosc2Shuffle, Blosc2Bitshuffle, BitX, ZipNN, Lmz, OpenZL, Z4ai, Pcodec]
PAGE = Path("docs/benchmarks.md")
# Where the part that benches/pushes writes begins.
PUSHES = "## Pushing a series"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benches/peers/run", description="Runs the published peers beside shard.")
    parser.add_argument("--quick", action="store_true", help="few pairs, one round")
    parser.add_argument("--pairs", metavar="GLOB", default="*", help="only pairs and files of such names: '*fp16*'")
    parser.add_argument("--rounds", type=int, help="rounds of which the medians are taken (5; with --quick 1)")
    parser.add_argument("--page", type=Path, help=f"where the page goes ({PAGE} for a full run, else the target folder)")
    parser.add_argument("--native", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--target", type=Path, required=True, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """Exit codes: 0, or 1 where a peer failed or, in a full run, shard is behind one, or 2 where there is nothing to measure."""
    options = arguments()
    data = os.environ.get("SHARD_DATA")
    if not data or not Path(data).is_dir():
        print("SHARD_DATA has to name the folder of recorded checkpoints", file=sys.stderr)
        return 2
    machine.one_cpu()
    peers, missing = made(PEERS)
    for name, reason in missing.items():
        print(f"{name}: not run: {reason}", file=sys.stderr)
    rounds = max(1, options.rounds or (1 if options.quick else 5))
    results = []
    for workload in Choice(Path(data), options.quick, options.pairs).workloads():
        results.append(measure(workload, peers, options.native, rounds))
        tell(results[-1])
    if not results:
        print(f"no pair and no file is called {options.pairs}", file=sys.stderr)
        return 2
    full = not options.quick and options.pairs == "*"
    sources = {peer.name: peer.source for peer in peers} | {peer.name: peer.source for peer in NATIVE_PEERS}
    report = Report(
        command=f"SHARD_DATA=… benches/peers/run{' --quick' if options.quick else ''}",
        date=datetime.date.today().isoformat(),
        rounds=rounds,
        machine=machine.describe(),
        versions=machine.versions(),
        sources=sources,
        missing=missing,
        results=results,
    )
    options.target.mkdir(parents=True, exist_ok=True)
    (options.target / "results.json").write_text(json.dumps(asdict(report), indent=1, ensure_ascii=False) + "\n")
    page = options.page or (PAGE if full else options.target / "benchmarks.md")
    # What other benches wrote below stays.
    _, heading, below = (page.read_text() if page.exists() else "").partition(PUSHES)
    page.write_text(report.markdown() + (f"\n{heading}{below}" if heading else ""))
    print(f"{page} and {options.target / 'results.json'} are written")
    for failure in report.failures():
        print(f"failed: {failure}", file=sys.stderr)
    for place in report.behind():
        print(f"behind: {place}", file=sys.stderr)
    # A single round says little about speeds.
    return 1 if report.failures() or (full and report.behind()) else 0


def tell(result: Result) -> None:
    """A line as soon as a workload is done."""
    ratios = {name: result.ratio(name) for name in result.peers}
    cells = [f"{name} {'failed' if ratio is None else format(ratio, '.3f')}" for name, ratio in ratios.items()]
    print(f"{result.name}: {', '.join(cells)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
