"""The page of results."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import exp, log

from measure import Result

DTYPES = {"BF16": "bf16", "F16": "fp16", "F32": "fp32"}
OURS = ["shard", "shard fast", "shard max"]
MODEL_PEERS = ["ZipNN", "lmz"]


@dataclass(frozen=True)
class Report:
    """Everything that a run found out."""

    command: str
    date: str
    rounds: int
    machine: dict[str, str]
    versions: dict[str, str]
    sources: dict[str, str]
    """By peer, in the order of the tables: package, paper and configuration."""
    missing: dict[str, str]
    """By peer, why it did not run."""
    results: list[Result]

    def failures(self) -> list[str]:
        """Peers that gave no result though they ran."""
        return [
            f"{peer} on {result.name}: {measured.failure}"
            for result in self.results
            for peer, measured in result.peers.items()
            if measured.failure
        ]

    def behind(self) -> list[str]:
        """Where shard, at its default level, is behind a peer: in ratio on any tensors (without a parent: behind those that
        compress models by themselves), or in speed over all tensors of a type: in encoding, which of shard includes a
        decoding that proves it, behind any peer's encoding and decoding; in decoding behind a peer that comes
        within a tenth of its ratio."""
        found = []
        for result in self.results:
            rivals = [peer for peer in result.peers if peer not in OURS and (result.delta or peer in MODEL_PEERS)]
            ours = result.ratio(OURS[0]) or 0.0
            for peer in rivals:
                theirs = result.ratio(peer)
                if theirs is not None and theirs > ours:
                    found.append(f"{result.name}: ratio {ours:.3f}, {peer} {theirs:.3f}")
        for delta in (True, False):
            for dtype, label in DTYPES.items():
                chosen = [result for result in self.results if result.dtype == dtype and result.delta == delta]
                found += _slower(f"{label} {'with' if delta else 'without'} a parent", chosen)
        return found

    def markdown(self) -> str:
        """The page."""
        return "\n".join(self._lines()).rstrip() + "\n"

    def _lines(self) -> Iterator[str]:
        yield from INTRODUCTION.format(command=self.command, rounds=_count(self.rounds, "round")).splitlines()
        pairs = [result for result in self.results if result.delta]
        solo = [result for result in self.results if not result.delta]
        if pairs:
            yield from ["", "## Ratios with a parent", ""]
            yield from self._ratios(pairs)
        if solo:
            yield from ["", "## Ratios without a parent", "", "Tensors of at least 64 KiB.", ""]
            yield from self._ratios(solo)
        if pairs:
            yield from ["", "## Speeds with a parent", ""]
            yield from self._speeds(pairs)
        if solo:
            yield from ["", "## Speeds without a parent", ""]
            yield from self._speeds(solo)
        failures = self.failures()
        if failures:
            yield from ["", "## Failures", "", *(f"- {failure}" for failure in failures)]
        yield from ["", "## Peers", "", "| peer | what is run |", "|---|---|"]
        yield from (f"| {peer} | {source} |" for peer, source in self.sources.items())
        yield from (f"| {peer} | not run: {reason} |" for peer, reason in self.missing.items())
        yield from ["", "## Machine and versions", "", "| what | which |", "|---|---|", f"| date | {self.date} |"]
        yield from (f"| {what} | {which} |" for what, which in {**self.machine, **self.versions}.items())

    def _peers(self, results: list[Result]) -> list[str]:
        return [peer for peer in self.sources if any(peer in result.peers for result in results)]

    def _ratios(self, results: list[Result]) -> Iterator[str]:
        peers = self._peers(results)
        yield "| tensors | MB | " + " | ".join(peers) + " |"
        yield "|---|---|" + "---|" * len(peers)
        for result in results:
            ratios = [result.ratio(peer) for peer in peers]
            failed = [peer in result.peers and ratio is None for peer, ratio in zip(peers, ratios, strict=True)]
            cells = ["failed" if no else cell for no, cell in zip(failed, _best(ratios), strict=True)]
            yield f"| {_short(result.name)} | {result.raw / 1e6:.1f} | " + " | ".join(cells) + " |"
        for label, chosen in _groups(results):
            means = [_mean([result.ratio(peer) for result in chosen]) for peer in peers]
            yield f"| *geometric mean, {label}* | | " + " | ".join(_best(means)) + " |"

    def _speeds(self, results: list[Result]) -> Iterator[str]:
        groups = [(DTYPES[dtype], [r for r in results if r.dtype == dtype]) for dtype in DTYPES]
        groups = [(label, chosen) for label, chosen in groups if chosen]
        heads = [f"{label} {way}" for label, _ in groups for way in ("encode", "decode")]
        yield "| MB/s (times SHA-256) | " + " | ".join(heads) + " |"
        yield "|---|" + "---|" * len(heads)
        for peer in self._peers(results):
            cells = [cell for _, chosen in groups for cell in _speed(peer, chosen)]
            yield f"| {peer} | " + " | ".join(cells) + " |"
        hashing = [_rate(chosen, sum(result.sha256 for result in chosen)) for _, chosen in groups]
        yield "| *SHA-256* | " + " | ".join(f"{rate:.0f} | " for rate in hashing) + " |"


def _slower(label: str, results: list[Result]) -> Iterator[str]:
    """Peers that are faster than shard over the results that they have."""
    for peer in {peer for result in results for peer in result.peers if peer not in OURS}:
        ran = [result for result in results if result.ratio(peer) is not None and result.ratio(OURS[0]) is not None]
        if not ran:
            continue
        ours, theirs = ([result.peers[name] for result in ran] for name in (OURS[0], peer))
        if sum(each.encode for each in ours) > sum(each.encode + each.decode for each in theirs):
            yield f"{label}: {peer} encodes and decodes faster than shard encodes"
        near = _mean([result.ratio(peer) for result in ran]) or 0.0
        near = near >= 0.9 * (_mean([result.ratio(OURS[0]) for result in ran]) or 0.0)
        if near and sum(each.decode for each in ours) > sum(each.decode for each in theirs):
            yield f"{label}: {peer} decodes faster at nearly the ratio"


def _speed(peer: str, results: list[Result]) -> list[str]:
    """Speed of encoding and decoding over all results that the peer has."""
    ran = [result for result in results if result.ratio(peer) is not None]
    if not ran:
        return ["", ""]
    seconds = [sum(result.peers[peer].encode for result in ran), sum(result.peers[peer].decode for result in ran)]
    sha256 = sum(result.sha256 for result in ran)
    return [f"{_rate(ran, each):.0f} ({_times(sha256 / each)})" for each in seconds]


def _times(factor: float) -> str:
    return f"{factor:.2f}" if factor >= 0.01 else "<0.01"


def _rate(results: list[Result], seconds: float) -> float:
    return sum(result.coded for result in results) / 1e6 / seconds if seconds else 0.0


def _groups(results: list[Result]) -> Iterator[tuple[str, list[Result]]]:
    """All results, then those of each type, where they say more."""
    if len(results) > 1:
        yield "all", results
    for dtype, label in DTYPES.items():
        chosen = [result for result in results if result.dtype == dtype]
        if 1 < len(chosen) < len(results):
            yield label, chosen


def _mean(ratios: list[float | None]) -> float | None:
    """The geometric mean; none where one is missing, since means over different tensors do not compare."""
    present = [ratio for ratio in ratios if ratio is not None]
    return exp(sum(map(log, present)) / len(present)) if len(present) == len(ratios) else None


def _best(ratios: list[float | None]) -> list[str]:
    """The ratios as text, the highest in bold."""
    best = max((ratio for ratio in ratios if ratio is not None), default=0.0)
    texts = ["" if ratio is None else f"{ratio:.3f}" for ratio in ratios]
    return [f"**{text}**" if text and text == f"{best:.3f}" else text for text in texts]


def _short(name: str) -> str:
    """A pair without the folder that its files share."""
    base, arrow, file = name.partition(" -> ")
    if not arrow:
        return name.split("/", 1)[1]
    return f"{base.split('/', 1)[1]} → {file.split('/', 1)[1]}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


INTRODUCTION = """\
# shard beside its peers

This page is written by `{command}`: it is never edited by hand.

What is measured: how small lossless codecs make the tensors of a checkpoint, with the checkpoint before it as parent and
without one, and how fast. The checkpoints are short, real training runs, some of them cut to one layer, so that tables and
headers weigh more than in a model of full size. Every peer gets the same tensors in the same run, and every stored form is
decoded and compared with what went in; a round trip that is not exact fails the run.

- **Ratio**: bytes of all tensors over stored bytes, headers and tables included; higher is better, the best is bold. Tensors are
  matched by name; those that equal their earlier version cost nothing, for every peer. Files' headers do not count.
- **Speed**: MB (10^6 bytes) of the tensors that are coded, per second of processor time, on one thread and one core, from memory
  to memory, the differencing of both directions included; in brackets the multiple of the speed of SHA-256 over the same
  bytes. The time is the median of {rounds} in which the peers take turns; memory is kept from one to the next. Peers with a
  Python interface pay for its calls, which shows on small tensors. shard's encoding includes a decoding of what it made and a
  comparison with what went in, without which it stores nothing; no peer's does.
"""
