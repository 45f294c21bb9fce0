//! `shard cat`

use std::io::{self, Write as _};

use crate::Context;
use crate::error::{Failure, code};

/// Bytes that are decoded at once.
const PIECE: u64 = 16 << 20;

/// Write a file of a revision to standard output, byte for byte
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A path, as seen from this folder; or REV:PATH, from the root of the repository
    #[arg(value_name = "PATH")]
    path: String,
    /// The revision; by default what is checked out
    #[arg(short, long, value_name = "REV")]
    revision: Option<String>,
    /// Only LEN bytes from START on; without LEN all that follow
    #[arg(long, value_name = "START:[LEN]", value_parser = parse_range)]
    range: Option<(u64, u64)>,
}

fn parse_range(text: &str) -> Result<(u64, u64), String> {
    let read = |text: &str| text.parse().map_err(|_| format!("{text:?} is not a number of bytes"));
    match text.split_once(':') {
        Some((start, "")) => Ok((read(start)?, u64::MAX)),
        Some((start, len)) => Ok((read(start)?, read(len)?)),
        None => Err("a range is START:LEN, in bytes".to_owned()),
    }
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    let repository = context.repository()?;
    let here = || repository.tracked_path(args.path.as_ref());
    let (revision, path) = match (&args.revision, args.path.split_once(':')) {
        (Some(revision), _) => (revision.as_str(), here()?),
        (None, Some((revision, path))) => (revision, path.to_owned()),
        (None, None) => ("HEAD", here()?),
    };
    let mut file = repository.open_file(&path, Some(revision))?;
    if context.ui.json {
        return Err(Failure::new(code::USAGE, "the bytes of a file are no JSON document").next("leave out --json"));
    }
    let (start, len) = args.range.unwrap_or((0, u64::MAX));
    let end = start.saturating_add(len).min(file.size());
    let mut out = io::stdout().lock();
    let mut at = start;
    while at < end {
        let bytes = file.read_range(at, PIECE.min(end - at))?;
        out.write_all(&bytes).map_err(Failure::stdout)?;
        at += bytes.len() as u64;
    }
    out.flush().map_err(Failure::stdout)?;
    Ok(code::DONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!(parse_range("3:4"), Ok((3, 4)));
        assert_eq!(parse_range("3:"), Ok((3, u64::MAX)));
        for bad in ["", "3", ":4", "-1:2", "1:2:3", "a:b"] {
            assert!(parse_range(bad).is_err(), "{bad}");
        }
    }
}
