//! Text that came from files, made safe to print, and shapes.

pub(crate) use shard_core::text::{visible, visible_lines, xml};

/// A shape as `[4096, 11008]`, or `[]` for a scalar.
pub(crate) fn shape(dims: &[u64]) -> String {
    let dims: Vec<String> = dims.iter().map(u64::to_string).collect();
    format!("[{}]", dims.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_in_brackets() {
        assert_eq!(shape(&[2, 3]), "[2, 3]");
        assert_eq!(shape(&[]), "[]");
    }
}
