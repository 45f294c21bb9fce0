//! What the fuzz targets share. A target is one format of the registry, found by its name when it runs, so that a format that is
//! renamed or missing is a failure and not silence.
//!
//! For any bytes, the parser gives a layout or an error, never a panic; a layout tiles the bytes; what is cut by it gives the
//! same bytes again; and both stay within libFuzzer's bounds on time and memory.

use std::path::PathBuf;
use std::sync::OnceLock;

use shard_core::Layout;
use shard_core::limits::Cut;
use shard_formats::compress::{Expanded, FileBytes, NotRepeated};
use shard_formats::cut::Cutter;
use shard_formats::{FORMATS, Format, PROBE_LEN, Source, parse, parse_file};

#[doc(hidden)]
pub use libfuzzer_sys;

/// A target that gives its input to the format of that name.
#[macro_export]
macro_rules! registered {
    ($name:literal) => {
        $crate::target!(|bytes: &[u8]| $crate::parse_as($name, bytes));
    };
}

/// A target that gives its input to the whole registry.
#[macro_export]
macro_rules! any {
    () => {
        $crate::target!($crate::parse_any);
    };
}

/// A target that gives its input to the search for what a pickle would call.
#[macro_export]
macro_rules! scanned {
    () => {
        $crate::target!($crate::scan_any);
    };
}

/// A target that gives its input to what a file of data is understood by: its neighbour of the first name, where the data has the
/// second.
#[macro_export]
macro_rules! beside {
    ($index:literal, $data:literal) => {
        $crate::target!(|bytes: &[u8]| $crate::parse_beside($index, $data, bytes));
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! target {
    ($run:expr) => {
        #[cfg(fuzzing)]
        $crate::libfuzzer_sys::fuzz_target!(|bytes: &[u8]| $run(bytes));

        #[cfg(not(fuzzing))]
        fn main() {
            eprintln!("built without coverage: use tests/fuzz/run");
            std::process::exit(2);
        }
    };
}

/// The format of that name.
fn format_of(name: &str) -> &'static dyn Format {
    match FORMATS.iter().find(|format| format.name() == name) {
        Some(format) => *format,
        None => panic!("no format of the registry is called {name}"),
    }
}

/// Parses `bytes` as the format of that name, whatever they look like.
///
/// # Panics
/// Where something does not hold.
pub fn parse_as(name: &str, bytes: &[u8]) {
    let format = format_of(name);
    let source = bytes.to_vec();
    // Any answer will do, but there has to be one.
    let _ = format.probe(&bytes[..bytes.len().min(PROBE_LEN)], bytes.len() as u64);
    if let Ok(layout) = format.parse(&source, 0) {
        assert_eq!(layout.format, name);
        holds(&source, &layout);
    }
}

/// Scans `bytes` as any file.
///
/// # Panics
/// Where something does not hold.
pub fn scan_any(bytes: &[u8]) {
    let source = bytes.to_vec();
    let report = shard_formats::scan::scan(&source).expect("memory can be read");
    // Whatever is told of a file takes no more memory than its bytes allow.
    assert!(report.globals.len() <= 16 * bytes.len() + 16);
}

/// Parses `bytes` as any file.
///
/// # Panics
/// Where something does not hold.
pub fn parse_any(bytes: &[u8]) {
    let source = bytes.to_vec();
    let parsed = parse(&source).expect("memory can be read");
    holds(&source, &parsed.layout);
}

/// Parses a file called `data`, beside which there is a file called `index` that holds `bytes`.
///
/// # Panics
/// Where something does not hold.
pub fn parse_beside(index: &str, data: &str, bytes: &[u8]) {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    // Not text, which is not looked at.
    let held: Vec<u8> = (0..=255).collect();
    let folder = FOLDER.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("shard-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for the two files");
        std::fs::write(folder.join(data), &held).expect("the file of data");
        folder
    });
    std::fs::write(folder.join(index), bytes).expect("the file beside it");
    let parsed = parse_file(&folder.join(data), &held).expect("memory can be read");
    holds(&held, &parsed.layout);
}

/// Compressed runs may expand to more than is worth waiting for; in bytes.
const MOST_EXPANDED: u64 = 8 << 20;

/// What holds for every layout of a file: its blocks, one after another and compressed again where the file has them so, are the
/// file's bytes.
fn holds(source: &Vec<u8>, layout: &Layout) {
    assert_eq!(layout.check(source.len() as u64), Ok(()));
    if layout.expanded_len() > MOST_EXPANDED {
        return;
    }
    if layout.compressed.is_empty() {
        assert!(blocks(source, layout).is_some_and(|back| back == *source), "every byte comes back");
        return;
    }
    // What is damaged in a compressed run shows when it is expanded, or when what it expands to is compressed again: the file is
    // then kept with these parts as they lie in it.
    holds(source, &layout.without_compressed());
    let Some(expanded) = blocks(&Expanded::new(source, layout), layout) else { return };
    let mut back = Vec::new();
    let repeated = FileBytes::new(layout).push(&expanded, &mut |bytes| {
        back.extend_from_slice(bytes);
        Ok::<_, NotRepeated>(())
    });
    if repeated.is_ok() {
        assert!(back.len() == source.len(), "a file that comes back is as long as it was");
    }
}

/// All blocks, laid end to end; `None` where a source that expands cannot be read.
fn blocks(source: &dyn Source, layout: &Layout) -> Option<Vec<u8>> {
    let mut cutter = Cutter::new(source, layout, Cut::TEST);
    let (mut block, mut all) = (Vec::new(), Vec::new());
    while cutter.next(&mut block).ok()?.is_some() {
        all.extend_from_slice(&block);
    }
    Some(all)
}
