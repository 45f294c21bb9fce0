//! shard's own codec: the only file here that knows its interface.

use std::error::Error;

use shard_codecs::{Base, Block, BlockHeader, Decoder, Encoder, Level, Rows};
use shard_core::limits::Cut;
use shard_core::{BaseRef, Digest, sha256};

use crate::codec::Codec;
use crate::tensors::Tensor;

/// Blocks of a tensor, cut as the engine cuts them, one after the other as they are in a pack.
pub(crate) struct Shard {
    encoder: Encoder,
    decoder: Decoder,
    /// Stands for the ids of base blocks: a repository knows them, and a header holds them.
    digest: Digest,
}

impl Shard {
    pub(crate) fn new(level: Level) -> Self {
        let digest = sha256(b"the version before");
        Self { encoder: Encoder::new(level), decoder: Decoder::new(), digest }
    }
}

impl Codec for Shard {
    fn encode(&mut self, tensor: &Tensor, out: &mut Vec<u8>) -> Result<(), Box<dyn Error>> {
        let len = Cut::V1.tensor_block(tensor.dtype);
        let mut bases = tensor.base.as_deref().map(|base| base.chunks(len));
        for (index, data) in tensor.data.chunks(len).enumerate() {
            let rows = Rows::of(tensor.dtype, &tensor.shape, (index * len) as u64);
            let base = bases.as_mut().and_then(Iterator::next);
            let reference = BaseRef::whole(self.digest, data.len() as u32);
            let base = base.map(|bytes| Base::new(&reference, bytes));
            self.encoder.encode(&Block { data, dtype: Some(tensor.dtype), rows, base }, out)?;
        }
        Ok(())
    }

    fn decode(&mut self, mut stored: &[u8], tensor: &Tensor, out: &mut [u8]) -> Result<(), Box<dyn Error>> {
        let len = Cut::V1.tensor_block(tensor.dtype);
        let mut bases = tensor.base.as_deref().map(|base| base.chunks(len));
        for out in out.chunks_mut(len) {
            let base = bases.as_mut().and_then(Iterator::next);
            let (header, header_len) = BlockHeader::read(stored)?;
            let (block, rest) = stored.split_at(header_len + header.body_len());
            let base = base.filter(|_| header.base.is_some());
            self.decoder.decode(&header, &block[header_len..], base, out)?;
            stored = rest;
        }
        Ok(())
    }
}
