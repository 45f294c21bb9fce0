use super::{Counts, EntropyCoder, Workspace};
use crate::CodecError;

/// The stream as it is.
pub struct Raw;

impl EntropyCoder for Raw {
    fn id(&self) -> u8 {
        super::RAW
    }
    fn name(&self) -> &'static str {
        "raw"
    }
    fn fixed_len(&self, len: usize) -> Option<usize> {
        Some(len)
    }
    fn encode(&self, _: &mut Workspace, data: &[u8], _: &Counts, out: &mut Vec<u8>) -> Result<bool, CodecError> {
        out.extend_from_slice(data);
        Ok(true)
    }
    fn decode(&self, _: &mut Workspace, stored: &[u8], out: &mut [u8]) -> Result<(), CodecError> {
        if stored.len() != out.len() {
            return Err(CodecError::Body("a raw stream has the wrong length"));
        }
        out.copy_from_slice(stored);
        Ok(())
    }
}
