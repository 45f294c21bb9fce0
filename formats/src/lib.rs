//! Where the tensors of a model file lie, and how the file is cut into blocks.
//!
//! A [`Format`] turns a file into a [`Layout`]: segments that tile every byte of it, and tensors that view them. [`parse`]
//! tries the registry, [`FORMATS`], and keeps as opaque bytes what no parser understands, so that every file has a layout.
//! [`cut::Cutter`] then reads the file once and hands out its blocks. Nothing in a file is ever executed.
#![forbid(unsafe_code)]

mod assemble;
pub mod compress;
pub mod container;
pub mod cut;
mod distinct;
mod flatbuffer;
pub mod format;
pub mod gguf;
pub mod hdf5;
mod json;
pub mod model;
pub mod npy;
pub mod onnx;
pub mod opaque;
mod pickle;
mod protobuf;
pub mod pytorch;
pub mod safetensors;
pub mod scan;
pub mod sidecar;
pub mod source;
mod tensorflow;
pub mod tflite;

use std::io;

use shard_core::Layout;

pub use format::{Format, FormatError, FormatErrorKind};
pub use scan::scan;
pub use sidecar::{Neighbours, parse_file};
pub use source::{FileSource, Source};

/// Every format, in the order in which they are tried; the last takes any file.
pub static FORMATS: &[&dyn Format] = &[
    &safetensors::Safetensors,
    &gguf::Gguf,
    &npy::Npy,
    &tflite::Tflite,
    &pytorch::PyTorch,
    &container::npz::Npz,
    &container::zip::Zip,
    &container::tar::Tar,
    // After archives: one whose first member is of this format looks like a file with a user block.
    &hdf5::Hdf5,
    &onnx::Onnx,
    &opaque::Opaque,
];

/// Files in files that are parsed: a zip in a tar, and what lies in it.
pub const MAX_DEPTH: usize = 3;

/// Bytes from the start of a file that [`Format::probe`] gets to see.
pub const PROBE_LEN: usize = 4096;

/// A file's layout.
#[derive(Debug)]
pub struct Parsed {
    /// Tiles the file: [`Layout::check`] holds for the length of the source.
    pub layout: Layout,
    /// Why a file that looked like a format is kept as opaque bytes (or as a less specific format).
    pub note: Option<FormatError>,
}

/// Finds the layout of a file by its content; its name plays no part.
///
/// # Errors
/// Only what reading the source says, never because of what the file contains.
pub fn parse(source: &dyn Source) -> io::Result<Parsed> {
    parse_at(source, 0)
}

/// [`parse`] for a file that lies in `depth` others.
pub(crate) fn parse_at(source: &dyn Source, depth: usize) -> io::Result<Parsed> {
    let len = source.len();
    let mut head = vec![0; usize::try_from(len).map_or(PROBE_LEN, |len| len.min(PROBE_LEN))];
    source.read_at(0, &mut head)?;
    let mut note = None;
    for format in FORMATS.iter().filter(|format| format.probe(&head, len)) {
        let checked = format.parse(source, depth).and_then(|layout| match layout.check(len) {
            Ok(()) => Ok(layout),
            Err(error) => Err(FormatError::malformed(error.to_string())),
        });
        match checked {
            Ok(layout) => return Ok(Parsed { layout, note }),
            Err(error) => {
                let error = error.into_read_error()?;
                if error.kind() != FormatErrorKind::Other {
                    note.get_or_insert(error);
                }
            }
        }
    }
    Ok(Parsed { layout: Layout::opaque(len), note })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_unique_and_the_last_format_takes_anything() {
        for (index, format) in FORMATS.iter().enumerate() {
            assert!(FORMATS[..index].iter().all(|other| other.name() != format.name()), "{}", format.name());
        }
        let last = FORMATS.last().unwrap();
        for bytes in [&b""[..], b"x", b"\x02\0\0\0\0\0\0\0{}"] {
            assert!(last.probe(bytes, bytes.len() as u64));
            assert_eq!(last.parse(&bytes, 0).unwrap().check(bytes.len() as u64), Ok(()));
        }
    }

    #[test]
    fn what_is_no_known_format_is_opaque_without_a_note() {
        for bytes in [&b""[..], b"x", b"PK\x05\x06 no zip archive", b"[12345, {\"a\": 1}]", &[0; 5000]] {
            let parsed = parse(&bytes).unwrap();
            assert_eq!(parsed.layout, Layout::opaque(bytes.len() as u64));
            assert!(parsed.note.is_none(), "{bytes:?}");
        }
    }

    /// A source whose reads fail from `good` on, as when a file shrinks.
    struct Shrunk {
        bytes: Vec<u8>,
        good: u64,
    }

    impl Source for Shrunk {
        fn len(&self) -> u64 {
            self.bytes.len() as u64
        }

        fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
            if offset + buf.len() as u64 > self.good {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.bytes.read_at(offset, buf)
        }
    }

    #[test]
    fn a_failing_read_is_an_error_and_not_a_note() {
        let mut bytes = 5000u64.to_le_bytes().to_vec();
        bytes.extend_from_slice(b"{\"__metadata__\":{}}");
        bytes.resize(5008, b' ');
        assert_eq!(parse(&bytes).unwrap().layout.format, "safetensors");
        for good in [0, 4096, 5007] {
            let error = parse(&Shrunk { bytes: bytes.clone(), good }).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_layout(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let parsed = parse(&bytes).unwrap();
            prop_assert_eq!(parsed.layout.check(bytes.len() as u64), Ok(()));
            for format in FORMATS {
                if let Ok(layout) = format.parse(&bytes, 0) {
                    prop_assert_eq!(layout.check(bytes.len() as u64), Ok(()), "{}", format.name());
                    prop_assert_eq!(layout.format, format.name());
                }
            }
        }
    }
}
