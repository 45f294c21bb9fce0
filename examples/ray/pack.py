"""Does all tasks of a plan by Ray: pack.py SHARD REPOSITORY PLAN TASKS. Kills one of the workers, to show that it does not matter."""

import os
import signal
import subprocess
import sys

import ray

shard, repository, plan, tasks = sys.argv[1:]


@ray.remote(max_retries=3)
def task(index):
    command = [shard, "-q", "--threads", "1", "-C", repository, "task", plan, "--index", str(index)]
    # A plan that was made on another machine may need --root: where the files are on this one.
    subprocess.run(command, check=True)
    return os.getpid()


ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
waiting = [task.remote(index) for index in range(int(tasks))]
killed = None
while waiting:
    done, waiting = ray.wait(waiting)
    pid = ray.get(done[0])
    if killed is None and len(waiting) <= int(tasks) * 3 // 4:
        # It is at work on another task by now: Ray starts that one again elsewhere.
        os.kill(pid, signal.SIGKILL)
        killed = pid
        print(f"Worker {pid} was killed, with {len(waiting)} of {tasks} tasks to do")
assert killed is not None
ray.shutdown()
