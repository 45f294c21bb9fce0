//! Damage to files: what disks, cables and careless hands do.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

/// A kind of damage to one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// One bit is another.
    Flip {
        /// The byte it is in.
        at: u64,
        /// The bit, 0 to 7.
        bit: u8,
    },
    /// The file ends here.
    Truncate {
        /// Its new length in bytes.
        len: u64,
    },
    /// 512 bytes from here on are zeros.
    Zero {
        /// The first byte.
        at: u64,
    },
}

impl Damage {
    /// Does it; gives whether the file differs now. The file may be read-only: whoever does damage does not ask.
    #[must_use]
    pub fn apply(self, place: &Path) -> bool {
        make_writable(place);
        let mut file = fs::OpenOptions::new().read(true).write(true).open(place).unwrap();
        let len = file.metadata().unwrap().len();
        match self {
            Self::Flip { at, bit } => {
                let mut byte = [0];
                file.seek(SeekFrom::Start(at)).unwrap();
                file.read_exact(&mut byte).unwrap();
                byte[0] ^= 1 << bit;
                file.seek(SeekFrom::Start(at)).unwrap();
                file.write_all(&byte).unwrap();
                true
            }
            Self::Truncate { len: to } => {
                file.set_len(to).unwrap();
                to != len
            }
            Self::Zero { at } => {
                let mut old = vec![0; 512.min(len.saturating_sub(at)) as usize];
                file.seek(SeekFrom::Start(at)).unwrap();
                file.read_exact(&mut old).unwrap();
                file.seek(SeekFrom::Start(at)).unwrap();
                file.write_all(&vec![0; old.len()]).unwrap();
                old.iter().any(|byte| *byte != 0)
            }
        }
    }

    /// Damage of every kind to a file of `len` bytes: bits at `flips` places from the first byte to the last, ends at
    /// several lengths, and zeroed pages.
    #[must_use]
    pub fn everywhere(len: u64, flips: u64) -> Vec<Self> {
        let last = len.saturating_sub(1);
        let mut all: Vec<Self> =
            (0..flips).map(|i| Self::Flip { at: last * i / (flips - 1).max(1), bit: (i % 8) as u8 }).collect();
        all.extend([0, 1, len / 2, last].map(|len| Self::Truncate { len }));
        all.extend([0, len / 3, len.saturating_sub(512)].map(|at| Self::Zero { at }));
        all
    }
}

/// Takes a file's write protection off.
pub fn make_writable(place: &Path) {
    let mut permissions = fs::metadata(place).unwrap().permissions();
    #[cfg(unix)]
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
    #[cfg(not(unix))]
    permissions.set_readonly(false);
    fs::set_permissions(place, permissions).unwrap();
}

/// Puts bytes into a file, whatever it is.
pub fn overwrite(place: &Path, bytes: &[u8]) {
    make_writable(place);
    fs::write(place, bytes).unwrap();
}

/// Gives each of two files the other's bytes.
pub fn swap_contents(a: &Path, b: &Path) {
    let (bytes_a, bytes_b) = (fs::read(a).unwrap(), fs::read(b).unwrap());
    overwrite(a, &bytes_b);
    overwrite(b, &bytes_a);
}
