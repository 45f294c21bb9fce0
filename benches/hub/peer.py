"""Runs hubvault for the side-by-side: reads what to do as lines of JSON, and answers each with how long it took.

A line is an object with the name of a workload (`do`), the repository's folder (`repo`) and what the workload needs; the answer
has `seconds`, and what the workload counted. Only the work itself is timed, in this process: library against library.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any, Callable

from hubvault import CommitOperationAdd, HubVaultApi

Answer = dict[str, Any]


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Runs something, and how long that took in seconds."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


OPEN: dict[str, HubVaultApi] = {}


def api(order: Answer) -> HubVaultApi:
    """The repository of an order; it stays open for the next one."""
    if order["do"] == "create" or order["repo"] not in OPEN:
        OPEN.clear()
        OPEN[order["repo"]] = HubVaultApi(order["repo"])
    return OPEN[order["repo"]]


def create(order: Answer) -> Answer:
    """A repository without files."""
    seconds, _ = timed(lambda hub=api(order): hub.create_repo())
    return {"seconds": seconds}


def upload(order: Answer) -> Answer:
    """One large file in one commit."""
    work = lambda hub=api(order): hub.upload_file(path_or_fileobj=order["file"], path_in_repo=order["path"], commit_message="upload")
    seconds, _ = timed(work)
    return {"seconds": seconds}


def upload_folder(order: Answer) -> Answer:
    """A folder of files in one commit."""
    work = lambda hub=api(order): hub.upload_folder(folder_path=order["folder"], commit_message="upload")
    seconds, _ = timed(work)
    return {"seconds": seconds}


def range_reads(order: Answer) -> Answer:
    """Ranges of a file: a list of start and length."""
    hub = api(order)

    def work() -> int:
        return sum(len(hub.read_range(order["path"], start=start, length=length)) for start, length in order["ranges"])

    seconds, count = timed(work)
    return {"seconds": seconds, "bytes": count}


def cold_download(order: Answer) -> Answer:
    """A file into the repository's cache, which had nothing."""
    shutil.rmtree(Path(order["repo"]) / "cache", ignore_errors=True)
    seconds, place = timed(lambda hub=api(order): hub.hf_hub_download(order["path"]))
    return {"seconds": seconds, "bytes": os.path.getsize(place)}


def warm_downloads(order: Answer) -> Answer:
    """The same file again, from the cache."""
    hub = api(order)
    hub.hf_hub_download(order["path"])

    def work() -> None:
        for _ in range(order["times"]):
            hub.hf_hub_download(order["path"])

    seconds, _ = timed(work)
    return {"seconds": seconds}


def commits(order: Answer) -> Answer:
    """Commits of one small file each."""
    hub = api(order)

    def work() -> None:
        for number in range(order["first"], order["first"] + order["count"]):
            add = CommitOperationAdd(order["path"], f"version {number}\n".encode())
            hub.create_commit([add], commit_message=f"Commit {number}")

    seconds, _ = timed(work)
    return {"seconds": seconds}


def list_commits(order: Answer) -> Answer:
    """The whole history."""
    seconds, found = timed(lambda hub=api(order): hub.list_repo_commits())
    return {"seconds": seconds, "count": len(found)}


def list_tree(order: Answer) -> Answer:
    """All files and folders."""
    seconds, found = timed(lambda hub=api(order): hub.list_repo_tree(recursive=True))
    return {"seconds": seconds, "count": len(list(found))}


def small_reads(order: Answer) -> Answer:
    """Small files, whole."""
    hub = api(order)
    seconds, count = timed(lambda: sum(len(hub.read_bytes(path)) for path in order["paths"]))
    return {"seconds": seconds, "bytes": count}


def merge(order: Answer) -> Answer:
    """Merges a branch that went another way."""
    hub = api(order)
    hub.create_branch(branch=order["branch"])
    ours, theirs = (CommitOperationAdd(order[side], order["branch"].encode()) for side in ("ours", "theirs"))
    hub.create_commit([ours], commit_message="ours")
    hub.create_commit([theirs], commit_message="theirs", revision=order["branch"])
    seconds, result = timed(lambda: hub.merge(order["branch"]))
    return {"seconds": seconds, "status": result.status}


def squash(order: Answer) -> Answer:
    """One commit in place of a history, and what nothing needs any more goes."""
    seconds, _ = timed(lambda hub=api(order): hub.squash_history("main", run_gc=True, prune_cache=True))
    return {"seconds": seconds}


def quick_verify(order: Answer) -> Answer:
    """What the structure tells."""
    seconds, report = timed(lambda hub=api(order): hub.quick_verify())
    return {"seconds": seconds, "ok": report.ok}


def full_verify(order: Answer) -> Answer:
    """Every byte."""
    seconds, report = timed(lambda hub=api(order): hub.full_verify())
    return {"seconds": seconds, "ok": report.ok}


WORKLOADS = [
    create, upload, upload_folder, range_reads, cold_download, warm_downloads, commits, list_commits, list_tree, small_reads,
    merge, squash, quick_verify, full_verify,
]


def main() -> None:
    """Answers until the input ends."""
    workloads = {workload.__name__: workload for workload in WORKLOADS}
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(workloads[order["do"]](order)), flush=True)


if __name__ == "__main__":
    main()
