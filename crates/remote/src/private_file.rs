//! Files that nobody but their owner may read.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

/// Puts a text into a file, whole or not at all, durably. Where the file is a link, what it leads to is replaced.
pub(crate) fn write(path: &Path, text: &str) -> io::Result<()> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Made with mode 0600 where there are modes.
    let mut file = tempfile::Builder::new().prefix(".shard-").tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(&path).map_err(|error| error.error)?;
    #[cfg(unix)]
    fs::File::open(folder)?.sync_all()?;
    Ok(())
}

/// The text of a file that holds a secret, which others must not be able to read.
pub(crate) fn read_secret(path: &Path, limit: u64) -> io::Result<String> {
    let file = fs::File::open(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        if file.metadata()?.permissions().mode() & 0o077 != 0 {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "others than its owner may read it: `chmod 600` it first",
            ));
        }
    }
    let mut text = String::new();
    io::Read::read_to_string(&mut io::Read::take(file, limit), &mut text)?;
    Ok(text)
}
