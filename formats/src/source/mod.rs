//! Where bytes come from.

mod cursor;
mod slice;

use std::fs::File;
use std::io;
use std::path::Path;

pub(crate) use cursor::Cursor;
pub(crate) use slice::Slice;

/// Bytes of known length that can be read at any offset, from any thread.
pub trait Source: Sync {
    /// The length in bytes.
    fn len(&self) -> u64;

    /// Fills `buf` with the bytes from `offset` on.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] where fewer bytes are left (also when a file has shrunk since it was opened), or
    /// what the system says. The content of `buf` is then unspecified.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;

    /// Whether the bytes are expanded as they are read, from something compressed in a file: then what is compressed in them is not
    /// expanded in its turn.
    fn is_expanded(&self) -> bool {
        false
    }

    /// Whether there are no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A regular file, read with positioned reads. It is not mapped: mapped pages count as memory of the process, and a file
/// that shrinks while it is mapped kills its reader.
#[derive(Debug)]
pub struct FileSource {
    file: File,
    len: u64,
}

impl FileSource {
    /// Opens a file; its length is taken now.
    ///
    /// # Errors
    /// What the system says, and [`io::ErrorKind::InvalidInput`] for anything but a regular file.
    pub fn open(path: &Path) -> io::Result<Self> {
        // Asked by path first, since opening a pipe would wait for its writer.
        regular(&path.metadata()?)?;
        let file = File::open(path)?;
        let len = regular(&file.metadata()?)?;
        Ok(Self { file, len })
    }
}

/// The length of a regular file.
fn regular(metadata: &std::fs::Metadata) -> io::Result<u64> {
    if metadata.is_file() {
        Ok(metadata.len())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
    }
}

impl Source for FileSource {
    fn len(&self) -> u64 {
        self.len
    }

    #[cfg(unix)]
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, buf, offset)
    }

    #[cfg(windows)]
    fn read_at(&self, mut offset: u64, mut buf: &mut [u8]) -> io::Result<()> {
        while !buf.is_empty() {
            match std::os::windows::fs::FileExt::seek_read(&self.file, buf, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    offset += read as u64;
                    buf = &mut buf[read..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl<S: Source + ?Sized> Source for &S {
    fn len(&self) -> u64 {
        (**self).len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        (**self).read_at(offset, buf)
    }

    fn is_expanded(&self) -> bool {
        (**self).is_expanded()
    }
}

impl Source for [u8] {
    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..start.checked_add(buf.len())?))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(bytes);
        Ok(())
    }
}

impl Source for Vec<u8> {
    fn len(&self) -> u64 {
        Vec::len(self) as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.as_slice().read_at(offset, buf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &dyn Source) {
        assert_eq!(source.len(), 5);
        let mut buf = [0; 3];
        source.read_at(2, &mut buf).unwrap();
        assert_eq!(&buf, b"llo");
        source.read_at(5, &mut []).unwrap();
        for offset in [3, 5, 6, u64::from(u32::MAX) << 8] {
            assert_eq!(source.read_at(offset, &mut buf).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn reads_are_exact() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, b"hello").unwrap();
        check(&FileSource::open(&path).unwrap());
        check(&b"hello".to_vec());
        check(&&b"hello"[..]);
    }

    #[test]
    fn only_regular_files() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(FileSource::open(dir.path()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(FileSource::open(&dir.path().join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
