//! What can keep a measurement from being made.

use std::io;
use std::path::{Path, PathBuf};

use shard_codecs::CodecError;
use thiserror::Error;

use crate::error::{Failure, code};

/// A measurement that was not made.
#[derive(Debug, Error)]
pub(super) enum BenchError {
    /// A file could not be read.
    #[error("{path}: cannot read", path = .path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// What was named is a folder or another thing that is no file.
    #[error("{path}: is not a file", path = .0.display())]
    NotAFile(PathBuf),
    /// A file was written to while it was read.
    #[error("{path}: changed while it was read", path = .0.display())]
    Changed(PathBuf),
    /// No file has a byte to measure.
    #[error("there is nothing to measure: the files are empty")]
    Empty,
    /// A codec's name that is none.
    #[error("there is no codec {name:?}")]
    UnknownCodec {
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// A plot of a kind that is not made.
    #[error("{path}: plots are SVG files", path = .0.display())]
    PlotKind(PathBuf),
    /// The plot could not be written.
    #[error("{path}: cannot write the plot", path = .path.display())]
    Plot {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// zstd or BitX did not do it.
    #[error("the compressor failed")]
    Compressor(#[source] io::Error),
    /// A codec of shard did not do it.
    #[error(transparent)]
    Codec(CodecError),
    /// A codec failed on a block.
    #[error("{codec} failed on {place}")]
    Block {
        codec: String,
        /// The file, the tensor and the bytes.
        place: String,
        #[source]
        source: Box<BenchError>,
    },
    /// A codec gave other bytes than it was given.
    #[error("{codec} did not give {place} back")]
    WrongBytes { codec: String, place: String },
}

impl BenchError {
    pub(super) fn read(path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::InvalidInput => Self::NotAFile(path.to_owned()),
            _ => Self::Read { path: path.to_owned(), source },
        }
    }
}

impl From<BenchError> for Failure {
    fn from(error: BenchError) -> Self {
        let what = error.to_string();
        let fault = "this is a fault of shard, or memory that does not keep its bits: run it again, and report it where it \
                     stays; no figures were printed";
        match &error {
            BenchError::Read { path, source } => {
                let failure = Self::io(path, "cannot read", source);
                match source.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => failure,
                    _ => failure.next("once the cause is gone, run the command again"),
                }
            }
            BenchError::Plot { path, source } => Self::io(path, "cannot write the plot", source)
                .next("name a file in a folder that is there and may be written to: `--plot FILE.svg`"),
            BenchError::NotAFile(_) => Self::new(code::USAGE, what)
                .next("name files, in the order of the series: `shard bench run/*.safetensors`"),
            BenchError::Changed(_) => {
                Self::new(code::REFUSED, what).next("wait until the file is written, and run the command again")
            }
            BenchError::Empty => Self::new(code::REFUSED, what).next("name a file that has something in it"),
            BenchError::UnknownCodec { known, .. } => {
                Self::new(code::USAGE, what).next(format!("these can be measured: {}", known.join(", ")))
            }
            BenchError::PlotKind(path) => {
                let svg = path.with_extension("svg").display().to_string();
                let next = match path.extension() {
                    Some(kind) if kind.eq_ignore_ascii_case("png") => {
                        let png = path.display();
                        format!(
                            "`--plot {svg}`; then `rsvg-convert --zoom 2 -o {png} {svg}` makes the PNG, as browsers and Inkscape do"
                        )
                    }
                    _ => format!("`--plot {svg}`"),
                };
                Self::new(code::USAGE, what).next(next)
            }
            BenchError::Compressor(source) => Self::new(code::SYSTEM, what).because(source).next(fault),
            BenchError::Codec(_) => Self::new(code::SYSTEM, what).next(fault),
            BenchError::Block { source, .. } => {
                let failure = Self::new(code::SYSTEM, what).because(source).next(fault);
                match std::error::Error::source(source.as_ref()) {
                    Some(cause) => failure.because(cause),
                    None => failure,
                }
            }
            BenchError::WrongBytes { .. } => Self::new(code::DAMAGED, what)
                .because("the decoded bytes are not the ones that were encoded")
                .next(fault),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_says_what_to_do() {
        let io = || io::Error::from(io::ErrorKind::PermissionDenied);
        let place = || "x: w, bytes 0 to 8".to_owned();
        let codec = || "BitX".to_owned();
        let errors = [
            (BenchError::read(Path::new("x"))(io()), code::SYSTEM),
            (BenchError::read(Path::new("x"))(io::ErrorKind::NotFound.into()), code::NOT_FOUND),
            (BenchError::read(Path::new("x"))(io::ErrorKind::InvalidInput.into()), code::USAGE),
            (BenchError::Changed("x".into()), code::REFUSED),
            (BenchError::Empty, code::REFUSED),
            (BenchError::UnknownCodec { name: "gzip".to_owned(), known: vec!["zstd".to_owned()] }, code::USAGE),
            (BenchError::PlotKind("x.png".into()), code::USAGE),
            (BenchError::Plot { path: "x.svg".into(), source: io() }, code::SYSTEM),
            (BenchError::Compressor(io()), code::SYSTEM),
            (
                BenchError::Block { codec: codec(), place: place(), source: Box::new(BenchError::Compressor(io())) },
                code::SYSTEM,
            ),
            (BenchError::WrongBytes { codec: codec(), place: place() }, code::DAMAGED),
        ];
        for (error, code) in errors {
            let what = error.to_string();
            let failure = Failure::from(error);
            assert_eq!(failure.code(), code, "{what}");
            assert!(failure.to_text(false).contains("\n  next: "), "{what}");
        }
        let text = Failure::from(BenchError::PlotKind("a/x.PNG".into())).to_text(false);
        assert!(text.contains("--plot a/x.svg") && text.contains("rsvg-convert"), "{text}");
    }
}
