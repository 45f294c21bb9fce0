use super::{Counts, EntropyCoder, Workspace};
use crate::CodecError;

/// A stream of one byte value, stored once.
pub struct Constant;

impl EntropyCoder for Constant {
    fn id(&self) -> u8 {
        1
    }
    fn name(&self) -> &'static str {
        "constant"
    }
    fn fixed_len(&self, _len: usize) -> Option<usize> {
        Some(1)
    }
    fn encode(&self, _: &mut Workspace, data: &[u8], counts: &Counts, out: &mut Vec<u8>) -> Result<bool, CodecError> {
        match data.first() {
            Some(value) if counts[usize::from(*value)] as usize == data.len() => out.push(*value),
            _ => return Ok(false),
        }
        Ok(true)
    }
    fn decode(&self, _: &mut Workspace, stored: &[u8], out: &mut [u8]) -> Result<(), CodecError> {
        let [value] = stored else { return Err(CodecError::Body("a constant stream has the wrong length")) };
        out.fill(*value);
        Ok(())
    }
}
