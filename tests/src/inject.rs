//! Faults at chosen system calls, by `strace`, with no change to the program.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use crate::process::{Run, Shard};

/// System calls that change what is on the disk, or make it durable. A kernel or a C library may lack some of them.
pub const DISK_CALLS: [&str; 17] = [
    "write",
    "pwrite64",
    "writev",
    "ftruncate",
    "copy_file_range",
    "sendfile",
    "fsync",
    "fdatasync",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
];

/// What happens at a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The process is gone before the call does anything.
    Kill,
    /// The call fails with this error (`EIO`, `ENOSPC`) and does nothing.
    Error(&'static str),
}

/// Whether `strace` is here and may trace.
#[must_use]
pub fn is_possible() -> bool {
    let tried = Command::new("strace")
        .args(["-f", "-o", "/dev/null", "-e", "trace=write", "-e", "inject=write:signal=SIGKILL:when=1", "echo", "x"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    tried.is_ok_and(|status| status.code() != Some(0) && status.code() != Some(1))
}

/// A run with a fault injected.
#[derive(Debug, Clone)]
pub struct Injected {
    /// The run.
    pub run: Run,
    /// The system calls that the fault hit, with the files behind their descriptors; empty where it did not happen. After a
    /// kill, the last call of the process.
    pub calls: Vec<String>,
}

impl Injected {
    /// Whether the fault happened.
    #[must_use]
    pub fn happened(&self) -> bool {
        !self.calls.is_empty()
    }

    /// Whether a call was hit that has to do with what is kept, and not only with the index, which can be made anew.
    #[must_use]
    pub fn hit_what_is_kept(&self) -> bool {
        self.calls.iter().any(|call| !call.contains("/.shard/cache"))
    }
}

/// Runs a command with a fault at the `nth` call of `call` (the first is 1) by any of its threads, and at that call only
/// (or, with `and_later`, at all calls from there on).
pub fn run<S: AsRef<OsStr>>(
    shard: &Shard,
    args: &[S],
    call: &str,
    nth: u32,
    fault: Fault,
    and_later: bool,
) -> Injected {
    let log = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    let log_path = log.path().to_str().expect("the temporary folder has a UTF-8 name").to_owned();
    let what = match fault {
        Fault::Kill => "signal=SIGKILL".to_owned(),
        Fault::Error(name) => format!("error={name}"),
    };
    let trace = format!("trace={call}");
    let inject = format!("inject={call}:{what}:when={nth}{}", if and_later { "+" } else { "" });
    let run = shard.run_wrapped(&["strace", "-f", "-y", "-s", "0", "-o", &log_path, "-e", &trace, "-e", &inject], args);
    let log = std::fs::read_to_string(log.path()).expect("the trace can be read");
    let mut calls: Vec<String> = log.lines().filter(|line| line.contains("(INJECTED)")).map(str::to_owned).collect();
    if fault == Fault::Kill && log.contains("+++ killed by SIGKILL +++") {
        calls.extend(log.lines().rfind(|line| line.contains(call)).or(log.lines().last()).map(str::to_owned));
    }
    Injected { run, calls }
}
