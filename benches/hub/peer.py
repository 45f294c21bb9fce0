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

from hubvault import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HubVaultApi

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


FIELDS = {
    "RepoInfo": ["default_branch", "head", "refs"],
    "CommitInfo": ["commit_message", "commit_description", "oid"],
    "GitCommitInfo": ["commit_id", "title", "message"],
    "GitRefInfo": ["name", "ref", "target_commit"],
    "GitRefs": ["branches", "tags"],
    "ReflogEntry": ["ref_name", "old_head", "new_head"],
    "RepoFile": ["path", "size", "blob_id", "lfs", "sha256", "etag"],
    "RepoFolder": ["path", "tree_id"],
    "BlobLfsInfo": ["size", "sha256", "pointer_size"],
    "MergeResult": ["status", "target_revision", "base_commit", "target_head_before", "source_head", "head_after", "conflicts",
                    "fast_forward", "created_commit"],
    "MergeConflict": ["path", "conflict_type", "base_oid", "target_oid", "source_oid", "related_path"],
    "VerifyReport": ["ok"],
    "SquashReport": ["ref_name", "old_head", "new_head", "root_commit_before", "rewritten_commit_count",
                     "dropped_ancestor_count", "blocking_refs"],
}


def plain(value: Any) -> Any:
    """A value as JSON: of the library's own types what both libraries promise."""
    kind = type(value).__name__
    if kind in FIELDS:
        return {name: plain(getattr(value, name)) for name in FIELDS[kind]}
    if kind == "GcReport":
        return {"dry_run": value.dry_run, "frees": value.reclaimed_size > 0}
    if kind == "StorageOverview":
        return {"sections": len(value.sections) > 0, "total": value.total_size > 0, "gc_would_free": value.reclaimable_gc_size > 0,
                "cache_would_free": value.reclaimable_cache_size > 0}
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, (list, tuple)) or hasattr(value, "__next__"):
        return [plain(one) for one in value]
    return value


def operation(wanted: Answer) -> Any:
    """An operation of a commit."""
    if "add" in wanted:
        return CommitOperationAdd(wanted["add"], content(wanted))
    if "delete" in wanted:
        return CommitOperationDelete(wanted["delete"])
    return CommitOperationCopy(wanted["copy"], wanted["to"], src_revision=wanted.get("src_revision"))


def content(wanted: Answer) -> Any:
    """Bytes, a path, or an open file."""
    if "text" in wanted:
        return wanted["text"].encode()
    return Path(wanted["file"])


def tree_of(folder: str) -> dict[str, str]:
    """What is below a folder, but for what downloads remember."""
    files = [place for place in Path(folder).rglob("*") if place.is_file() and ".cache" not in place.relative_to(folder).parts]
    return {place.relative_to(folder).as_posix(): place.read_text() for place in sorted(files)}


def made(hub: HubVaultApi, name: str, args: Answer) -> Any:
    """What an operation gives."""
    if name == "create_commit":
        args["operations"] = [operation(wanted) for wanted in args["operations"]]
    if name == "upload_file":
        args["path_or_fileobj"] = content(args)
        for extra in ("text", "file"):
            args.pop(extra, None)
    if name == "open_file":
        seeks = args.pop("seeks")
        with hub.open_file(**args) as file:
            return [(file.seek(start), file.read(length).decode())[1] for start, length in seeks]
    result = getattr(hub, name)(**args)
    if name == "hf_hub_download":
        kept = Path(result).as_posix().endswith("/" + args["filename"])
        return {"path_is_kept": kept, "text": Path(result).read_text()}
    if name == "snapshot_download":
        return tree_of(result)
    return result


def call(order: Answer) -> Answer:
    """Any operation, once: what it gives, or the class of its error."""
    try:
        return {"value": plain(made(HubVaultApi(order["repo"]), order["call"], order["args"]))}
    except ValueError:  # its errors of arguments and paths are of this class, too
        return {"error": "ValueError"}
    except Exception as error:  # whatever a caller would see
        return {"error": type(error).__name__}


WORKLOADS = [
    call, create, upload, upload_folder, range_reads, cold_download, warm_downloads, commits, list_commits, list_tree, small_reads,
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
