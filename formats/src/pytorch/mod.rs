//! PyTorch checkpoints: `.pt`, `.pth`, `.bin`, `.ckpt`, and TorchScript archives.
//!
//! All of them hold a pickle that describes tensors as views of storages, and the storages' bytes. Three containers are read:
//!
//! - zip, since PyTorch 1.6, and TorchScript: the pickle is `*/data.pkl`, storage `key` is the member `*/data/key`;
//! - the stream of `_use_new_zipfile_serialization=False`: five pickles, then the storages;
//! - tar, before PyTorch 0.2: the members `pickle`, `tensors` and `storages`.
//!
//! The pickle is read, never run ([`mod@crate::scan`] tells what it would do). A tensor is listed where its elements fill a run of
//! bytes, each once: row-major, or with its dimensions in another order, as after a transposition or in `channels_last`.
//! Expanded and stepped views, conjugated and negated ones and big-endian files are not; their bytes stay opaque. Quantised
//! types go by the integer that they store.
//!
//! # Names
//!
//! A tensor's name is the path to it: keys of dicts, indexes of lists and tuples and names of attributes, with dots between
//! them, as in `optimizer.state.0.exp_avg`. What an `nn.Module` keeps in `_parameters`, `_buffers` and `_modules` counts as its
//! attributes, so that the names are those of its `state_dict()`. Keys that are neither text nor integers are told by their
//! number in the dict, as `#3`. An object that is a tensor itself is called `tensor`. Parts of a tensor follow its name:
//! `.indices` and `.values` of a sparse one, `.scales` and `.zero_points` of one that is quantised by channel. Where a name was
//! given already, `#2`, `#3` and so on come after it, in the order of the pickle.
//!
//! Specification: `torch/serialization.py` and `torch/_utils.py` in <https://github.com/pytorch/pytorch>, and
//! <https://github.com/pytorch/pytorch/blob/main/torch/csrc/jit/docs/serialization.md>.

mod archive;
mod dtype;
mod rebuild;
mod storage;
mod stream;
mod tar;
mod tensor;
mod walk;

use shard_core::Layout;

use crate::assemble::{Assembler, Located};
use crate::container::{directory, tar_directory};
use crate::format::{Format, FormatError};
use crate::source::Source;

/// The format.
#[derive(Debug, Clone, Copy)]
pub struct PyTorch;

impl Format for PyTorch {
    fn name(&self) -> &'static str {
        "pytorch"
    }

    fn probe(&self, head: &[u8], _len: u64) -> bool {
        directory::is_zip(head) || stream::is_stream(head) || tar::may_be_tar(head)
    }

    fn parse(&self, source: &dyn Source, _depth: usize) -> Result<Layout, FormatError> {
        let mut head = vec![0; usize::try_from(source.len()).map_or(HEAD, |len| len.min(HEAD))];
        source.read_at(0, &mut head)?;
        let tensors = if directory::is_zip(&head) {
            archive::tensors(source)?
        } else if tar_directory::is_tar(&head) {
            tar::tensors(source)?
        } else {
            stream::tensors(source)?
        };
        lay_out(self.name(), tensors, source.len())
    }
}

/// Bytes by which the container is known.
const HEAD: usize = tar_directory::BLOCK;

fn lay_out(format: &str, tensors: Vec<Located>, file_len: u64) -> Result<Layout, FormatError> {
    let mut assembler = Assembler::new();
    tensors.into_iter().for_each(|tensor| assembler.add(tensor));
    assembler.finish(format, file_len)
}

/// The length of an item of a storage of that class, in bytes.
pub(crate) fn item_len(class: &[u8]) -> Option<u64> {
    dtype::ElementType::from_storage_name(class).map(|element| element.item)
}
