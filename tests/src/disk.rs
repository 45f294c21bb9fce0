//! Too little room: small disks, and limits on the size of files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A small file system in memory, mounted on a folder of its own, and gone with this value.
#[derive(Debug)]
pub struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    /// A disk of so many KiB. `None` where this process may not mount.
    #[must_use]
    pub fn mount(kib: u64) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let options = format!("size={kib}k,mode=755");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "none"])
            .arg(folder.path())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        mounted.then_some(Self { folder })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Gives it another size, in KiB, with all that is on it.
    pub fn resize(&self, kib: u64) {
        let options = format!("remount,size={kib}k");
        let status = Command::new("mount").args(["-o", &options]).arg(self.path()).status();
        assert!(status.is_ok_and(|status| status.success()), "the small disk cannot be resized");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a test that failed may have left a process in there.
        let _ = Command::new("umount").arg("-l").arg(self.folder.path()).status();
    }
}

/// What stands before a command so that no file of it can have more than `kib` KiB. Writes beyond fail with `EFBIG`, after
/// a short write, where `is_signal_ignored`; else the system ends the process with SIGXFSZ.
#[must_use]
pub fn file_size_limit(kib: u64, is_signal_ignored: bool) -> Vec<String> {
    let trap = if is_signal_ignored { "trap '' XFSZ; " } else { "" };
    // The unit of `ulimit -f` is 512 bytes for a POSIX shell.
    let script = format!("{trap}ulimit -c 0; ulimit -f {}; exec \"$@\"", kib * 2);
    ["sh", "-c", &script, "limited"].map(str::to_owned).to_vec()
}

/// A FIFO. `None` where there are none.
#[must_use]
pub fn fifo(place: &Path) -> Option<PathBuf> {
    let made = Command::new("mkfifo").arg(place).status().is_ok_and(|status| status.success());
    (made && fs::symlink_metadata(place).is_ok()).then(|| place.to_owned())
}
