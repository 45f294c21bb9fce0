//! Zip archives, written as Python's `zipfile` writes them.

use flate2::{Compress, Compression, FlushCompress};

/// A member's name, its bytes, and the level at which it is deflated; 0 is stored.
pub type Member<'a> = (&'a str, &'a [u8], u32);

/// An archive of those members.
#[must_use]
pub fn zip(members: &[Member<'_>]) -> Vec<u8> {
    let streams: Vec<Vec<u8>> = members
        .iter()
        .map(|(_, data, level)| if *level == 0 { data.to_vec() } else { deflate(&[(data, *level)]) })
        .collect();
    zip_of(&members.iter().zip(&streams).map(|((n, d, l), s)| (*n, *d, *l > 0, &s[..])).collect::<Vec<_>>())
}

/// An archive of members that are compressed already: name, bytes, whether they are deflated, the stream.
#[must_use]
pub fn zip_of(members: &[(&str, &[u8], bool, &[u8])]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, data, is_deflated, stream) in members {
        let offset = file.len() as u32;
        let mut common = Vec::new();
        let method: u16 = if *is_deflated { 8 } else { 0 };
        for field in [20u16, 0, method, 0, 0x21] {
            common.extend_from_slice(&field.to_le_bytes());
        }
        let crc = crc32fast::hash(data);
        for field in [crc, stream.len() as u32, data.len() as u32] {
            common.extend_from_slice(&field.to_le_bytes());
        }
        common.extend_from_slice(&(name.len() as u16).to_le_bytes());
        common.extend_from_slice(&[0, 0]);
        file.extend_from_slice(b"PK\x03\x04");
        file.extend_from_slice(&common);
        file.extend_from_slice(name.as_bytes());
        file.extend_from_slice(stream);
        directory.extend_from_slice(b"PK\x01\x02\x14\x03");
        directory.extend_from_slice(&common);
        directory.extend_from_slice(&[0; 10]);
        directory.extend_from_slice(&offset.to_le_bytes());
        directory.extend_from_slice(name.as_bytes());
    }
    let start = file.len() as u32;
    let count = (members.len() as u16).to_le_bytes();
    file.extend_from_slice(&directory);
    file.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    file.extend([count, count].concat());
    file.extend([(directory.len() as u32).to_le_bytes(), start.to_le_bytes()].concat());
    file.extend_from_slice(&[0, 0]);
    file
}

/// One raw DEFLATE stream of parts, each at its own level, as no encoder that shard knows makes it where there are several.
#[must_use]
pub fn deflate(parts: &[(&[u8], u32)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (index, (data, level)) in parts.iter().enumerate() {
        let is_last = index + 1 == parts.len();
        let mut compress = Compress::new(Compression::new(*level), false);
        let flush = if is_last { FlushCompress::Finish } else { FlushCompress::Full };
        let mut stream = Vec::with_capacity(data.len() + data.len() / 8 + 1000);
        compress.compress_vec(data, &mut stream, flush).expect("DEFLATE takes any bytes");
        assert_eq!(compress.total_in(), data.len() as u64);
        out.extend_from_slice(&stream);
    }
    out
}

/// A `.npy` of 32-bit floats in a row.
#[must_use]
pub fn npy(values: &[u8]) -> Vec<u8> {
    let text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({},), }}", values.len() / 4);
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend_from_slice(&118u16.to_le_bytes());
    file.extend_from_slice(format!("{text:<117}\n").as_bytes());
    file.extend_from_slice(values);
    file
}
