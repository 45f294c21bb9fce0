//! HDF5, the container of Keras weights (`.h5`) and much else: groups of datasets, found through addresses from the superblock on.
//!
//! A dataset without filters is a tensor under its path, without the slash before it, where its bytes are in the file in row-major
//! order: contiguous, in its object header (compact), or in chunks that follow one another. Other chunks without filters are
//! tensors `PATH#N`, where N is the chunk's number in the grid of chunks in row-major order; chunks at the edges are stored whole.
//! What is compressed or otherwise filtered, of another type than little-endian numbers, virtual, or in another file stays
//! opaque. Soft links are not followed, since what they name has its own path; a group that contains itself is left out there.
//! Checksums are not looked at: whatever is listed, the file's bytes come back.
//!
//! Specification: "HDF5 File Format Specification Version 3.0" and 4.0 (The HDF Group), superblocks 0 to 3.

mod btree;
mod chunks;
mod dataset;
mod datatype;
mod extensible;
mod file;
mod group;
mod header;
mod heap;
mod superblock;

use std::collections::HashMap;
use std::vec;

use shard_core::limits::MAX_NESTING;
use shard_core::{DType, Layout};

use crate::assemble::{Assembler, Located};
use crate::format::{Format, FormatError, FormatErrorKind};
use crate::source::Source;
use dataset::Place;
use file::File;
use group::{Allowance, Link, Links};
use header::{Message, kind};

/// The format.
#[derive(Debug, Clone, Copy)]
pub struct Hdf5;

impl Format for Hdf5 {
    fn name(&self) -> &'static str {
        "hdf5"
    }

    /// Of files with a user block those are seen whose superblock is in `head`.
    fn probe(&self, head: &[u8], _len: u64) -> bool {
        superblock::places()
            .map_while(|at| usize::try_from(at).ok().and_then(|at| head.get(at..)))
            .any(|from| from.starts_with(superblock::SIGNATURE))
    }

    fn parse(&self, source: &dyn Source, _depth: usize) -> Result<Layout, FormatError> {
        let (file, root) = superblock::open(source)?;
        let mut assembler = Assembler::new();
        walk(&file, root, &mut assembler)?;
        assembler.finish(self.name(), source.len())
    }
}

/// A group on the way to the object that is looked at.
struct Group {
    address: u64,
    /// Bytes of its path, with the slash after it.
    path_len: usize,
    links: vec::IntoIter<Link>,
}

/// Finds all datasets, from the root group on.
fn walk(file: &File<'_>, root: u64, assembler: &mut Assembler) -> Result<(), FormatError> {
    let mut allowance = Allowance::new();
    let mut path = String::new();
    // Objects that are no groups, by address: links to one dataset cost what one does.
    let mut datasets: HashMap<u64, Option<Dataset>> = HashMap::new();
    let Object::Group(links) = object(file, root, &mut allowance)? else {
        return Err(FormatError::malformed("the root is no group"));
    };
    let mut groups = vec![Group { address: root, path_len: 0, links: links.into_iter() }];
    while let Some(group) = groups.last_mut() {
        let Some(Link { name, object: address }) = group.links.next() else {
            groups.pop();
            continue;
        };
        path.truncate(group.path_len);
        path.push_str(&String::from_utf8_lossy(&name));
        if groups.iter().any(|group| group.address == address) {
            continue;
        }
        if let Some(known) = datasets.get(&address) {
            add(known.as_ref(), &path, &mut allowance, assembler)?;
            continue;
        }
        match object(file, address, &mut allowance)? {
            Object::Group(links) => {
                if groups.len() == MAX_NESTING {
                    return Err(FormatError::new(FormatErrorKind::Limit, "groups nested deeper than shard follows"));
                }
                path.push('/');
                groups.push(Group { address, path_len: path.len(), links: links.into_iter() });
            }
            Object::Dataset(messages) => {
                let dataset = dataset(file, &messages)?;
                add(dataset.as_ref(), &path, &mut allowance, assembler)?;
                datasets.insert(address, dataset);
            }
            Object::Other => {
                datasets.insert(address, None);
            }
        }
    }
    Ok(())
}

/// What an object header is of.
enum Object<'a> {
    Group(Vec<Link>),
    Dataset(Box<Messages<'a>>),
    /// A committed datatype, or what holds nothing.
    Other,
}

/// The messages that say where a dataset is.
#[derive(Default)]
struct Messages<'a> {
    dataspace: Option<Message<'a>>,
    datatype: Option<Message<'a>>,
    layout: Option<Message<'a>>,
    filtered: bool,
    elsewhere: bool,
}

fn object<'a>(file: &'a File<'a>, address: u64, allowance: &mut Allowance) -> Result<Object<'a>, FormatError> {
    let mut links = Links { found: Vec::new(), allowance };
    let mut group = false;
    let mut messages = Messages::default();
    header::messages(file, address, |message| {
        match message.kind {
            kind::SYMBOL_TABLE => {
                group = true;
                links.symbol_table(file, &message)?;
            }
            kind::LINK_INFO => {
                group = true;
                links.dense(file, &message)?;
            }
            kind::LINK => {
                group = true;
                links.link(message.body)?;
            }
            kind::DATASPACE => messages.dataspace = Some(message),
            kind::DATATYPE => messages.datatype = Some(message),
            kind::LAYOUT => messages.layout = Some(message),
            // How many filters there are follows the version.
            kind::FILTERS => messages.filtered |= message.shared || message.body.clone().array::<2>()?[1] > 0,
            kind::EXTERNAL_FILES => messages.elsewhere = true,
            _ => {}
        }
        Ok(())
    })?;
    let found = links.found;
    Ok(match (group, &messages.layout) {
        (true, _) => Object::Group(found),
        (false, Some(_)) => Object::Dataset(Box::new(messages)),
        (false, None) => Object::Other,
    })
}

/// A dataset that holds tensors.
struct Dataset {
    dtype: DType,
    /// Elements.
    shape: Vec<u64>,
    place: Place,
}

/// What is known of a dataset; `None` where it has no tensors.
fn dataset<'a>(file: &'a File<'a>, messages: &Messages<'a>) -> Result<Option<Dataset>, FormatError> {
    let Messages { dataspace: Some(dataspace), datatype: Some(datatype), layout: Some(layout), .. } = messages else {
        return Ok(None);
    };
    let Some(datatype) = header::resolve(file, datatype)? else { return Ok(None) };
    let Some(dtype) = datatype::read(datatype)? else { return Ok(None) };
    let Some(dataspace) = header::resolve(file, dataspace)? else { return Ok(None) };
    let Some(space) = dataset::dataspace(dataspace)? else { return Ok(None) };
    if messages.elsewhere {
        return Ok(None);
    }
    let place = dataset::place(file, &space, dtype, layout.body.clone(), messages.filtered)?;
    Ok(place.map(|place| Dataset { dtype, shape: space.dims, place }))
}

/// Adds the tensors of a dataset: one, or one a chunk, or none.
fn add(
    dataset: Option<&Dataset>,
    path: &str,
    allowance: &mut Allowance,
    assembler: &mut Assembler,
) -> Result<(), FormatError> {
    let Some(Dataset { dtype, shape, place }) = dataset else { return Ok(()) };
    let mut put = |name: String, shape: &[u64], start| {
        allowance.take(name.len())?;
        assembler.add(Located { name, dtype: *dtype, shape: shape.to_vec(), strides: None, start });
        Ok(())
    };
    match place {
        Place::Whole(start) => put(path.to_owned(), shape, *start),
        Place::Chunks(shape, chunks) => {
            chunks.iter().try_for_each(|(number, start)| put(format!("{path}#{number}"), shape, *start))
        }
    }
}
