//! Running programs and measuring them.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use wait4::Wait4 as _;

use crate::Failure;

/// A finished program.
pub(crate) struct Run {
    /// From before it was started until it had ended.
    pub(crate) time: Duration,
    /// Processor time of all its threads, in user and kernel mode.
    pub(crate) cpu: Duration,
    /// The most memory that it had resident, in bytes. Linux counts what the child was before it became the program, which
    /// is this process: it has to stay small.
    pub(crate) memory: u64,
    /// What it printed.
    pub(crate) stdout: Vec<u8>,
}

/// Runs a program to its end and takes what it prints from a pipe.
pub(crate) fn run(command: &mut Command) -> Result<Run, Failure> {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let start = Instant::now();
    let mut child = command.spawn().map_err(|error| format!("{:?}: {error}", command.get_program()))?;
    let mut stdout = Vec::new();
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_end(&mut stdout)?;
    }
    let used = child.wait4()?;
    let time = start.elapsed();
    if !used.status.success() {
        return Err(format!("{command:?} failed: {}", used.status).into());
    }
    let cpu = used.rusage.utime + used.rusage.stime;
    Ok(Run { time, cpu, memory: used.rusage.maxrss, stdout })
}

/// The program under test, in a plain environment.
pub(crate) fn shard(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shard"));
    command.current_dir(dir).env("NO_COLOR", "1").env("SHARD_AUTHOR", "bars <bars@example.org>");
    command
}

/// git in a plain environment: no configuration but the repository's, no pager, no questions.
pub(crate) fn git(dir: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(dir)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_PAGER", "cat")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("LC_ALL", "C");
    command
}

/// Writes all that is dirty on the file system of `dir` to its disk.
#[cfg(target_os = "linux")]
pub(crate) fn sync(dir: &Path) -> Result<(), Failure> {
    Ok(rustix::fs::syncfs(File::open(dir)?)?)
}

/// Writes all that is dirty to the disks.
#[cfg(not(target_os = "linux"))]
pub(crate) fn sync(_: &Path) -> Result<(), Failure> {
    rustix::fs::sync();
    Ok(())
}

/// Runs `work` and syncs, and says how long both took together.
pub(crate) fn timed_to_disk<T>(
    dir: &Path,
    work: impl FnOnce() -> Result<T, Failure>,
) -> Result<(Duration, T), Failure> {
    sync(dir)?;
    let start = Instant::now();
    let result = work()?;
    sync(dir)?;
    Ok((start.elapsed(), result))
}

/// Makes a folder for what is restored anew, with the room of `bytes` bytes free again, in memory too: as much was just written
/// and removed. On a virtual machine memory that was not used for a while has to come from the host first, at several times
/// the cost of the write itself; without this, chance says which side pays.
pub(crate) fn clear(folder: &Path, bytes: u64, dir: &Path) -> Result<(), Failure> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir(folder)?;
    let room = folder.join("room");
    let mut left = bytes;
    let zeros = vec![0; 128 << 10];
    let mut file = File::create(&room)?;
    while left > 0 {
        let len = left.min(zeros.len() as u64);
        file.write_all(&zeros[..len as usize])?;
        left -= len;
    }
    drop(file);
    sync(dir)?;
    fs::remove_file(&room)?;
    sync(dir)
}

/// Every file at or below `path`.
pub(crate) fn files(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    let mut open = vec![path.to_owned()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            for entry in fs::read_dir(&path)? {
                open.push(entry?.path());
            }
        } else {
            files.push(path);
        }
    }
    Ok(files)
}

/// Bytes of all files at or below `path`.
pub(crate) fn size(path: &Path) -> Result<u64, Failure> {
    files(path)?.iter().try_fold(0, |sum, file| Ok(sum + fs::metadata(file)?.len()))
}

/// Reads every file at or below `path`, so that the page cache has them if it has room.
pub(crate) fn warm(path: &Path) -> Result<(), Failure> {
    let mut buffer = vec![0; 1 << 20];
    for file in files(path)? {
        let mut file = File::open(file)?;
        while file.read(&mut buffer)? > 0 {}
    }
    Ok(())
}

/// Fails where two files differ.
pub(crate) fn same(a: &Path, b: &Path) -> Result<(), Failure> {
    let (mut file_a, mut file_b) = (File::open(a)?, File::open(b)?);
    let mut left = file_a.metadata()?.len();
    let differ = || format!("{} and {} differ", a.display(), b.display());
    if file_b.metadata()?.len() != left {
        return Err(differ().into());
    }
    let (mut bytes_a, mut bytes_b) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    while left > 0 {
        let len = left.min(1 << 20) as usize;
        file_a.read_exact(&mut bytes_a[..len])?;
        file_b.read_exact(&mut bytes_b[..len])?;
        if bytes_a[..len] != bytes_b[..len] {
            return Err(differ().into());
        }
        left -= len as u64;
    }
    Ok(())
}
