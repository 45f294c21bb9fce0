//! From a tensor as PyTorch describes it to where its elements lie.

use super::dtype::{Counting, ElementType};
use super::storage::View;
use crate::assemble::Located;

/// The elements of a view, of that type, under that name. `None` where they are not an unbroken run of bytes of the storage, each
/// element once, or of a type that shard has no name for.
pub(crate) fn locate(name: &str, view: &View, element: ElementType) -> Option<Located> {
    let View { storage, offset, shape, strides } = view;
    let dtype = element.dtype?;
    let located =
        |shape: Vec<u64>, strides, start| Some(Located { name: name.to_owned(), dtype, shape, strides, start });
    if shape.len() != strides.len() {
        return None;
    }
    let shape = elements(shape, element.counting)?;
    if shape.contains(&0) {
        // It has no place of its own, and its offset is often that of what it was cut from.
        return located(shape, None, storage.place.start);
    }
    let order = Order::of(&view.shape, strides)?;
    if order == Order::Permuted && element.counting != Counting::Elements
        || *offset != 0 && matches!(element.counting, Counting::PackedRows(_))
    {
        return None;
    }
    let count = shape.iter().try_fold(1u64, |product, dim| product.checked_mul(*dim));
    let (len, skip) = (count.and_then(|count| dtype.byte_len(count))?, offset.checked_mul(element.item)?);
    skip.checked_add(len).filter(|end| *end <= storage.place.len)?;
    let strides = (order == Order::Permuted).then(|| strides.clone());
    located(shape, strides, storage.place.start + skip)
}

/// The shape in elements.
fn elements(shape: &[u64], counting: Counting) -> Option<Vec<u64>> {
    let mut shape = shape.to_vec();
    match (counting, shape.last_mut()) {
        (Counting::Items(per_item), Some(last)) => *last = last.checked_mul(per_item)?,
        (Counting::Items(per_item), None) => shape.push(per_item),
        // A row that does not fill its last item leaves a hole.
        (Counting::PackedRows(per_item), last) if last.as_ref().is_none_or(|last| **last % per_item != 0) => {
            return None;
        }
        _ => {}
    }
    Some(shape)
}

/// The order of elements that fill their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    RowMajor,
    /// Row-major in another order of the dimensions.
    Permuted,
}

impl Order {
    /// `None` where elements leave holes or share their place. There is at least one.
    fn of(shape: &[u64], strides: &[u64]) -> Option<Self> {
        let mut dims: Vec<(u64, u64)> =
            strides.iter().copied().zip(shape.iter().copied()).filter(|(_, dim)| *dim != 1).collect();
        let row_major = is_dense(dims.iter().rev());
        if row_major {
            return Some(Self::RowMajor);
        }
        dims.sort_unstable();
        is_dense(dims.iter()).then_some(Self::Permuted)
    }
}

/// Whether each stride is that of the dimension before it times its length.
fn is_dense<'a>(fastest_first: impl Iterator<Item = &'a (u64, u64)>) -> bool {
    let mut expected = Some(1u64);
    for (stride, dim) in fastest_first {
        if Some(*stride) != expected {
            return false;
        }
        expected = stride.checked_mul(*dim);
    }
    expected.is_some()
}

#[cfg(test)]
mod tests {
    use shard_core::DType;

    use super::super::storage::{Place, Storage};
    use super::*;

    fn view(dtype: &str, offset: u64, shape: &[u64], strides: &[u64]) -> Option<Located> {
        let element = ElementType::from_dtype_name(dtype.as_bytes()).unwrap();
        let storage = Storage { place: Place { start: 100, len: 96 }, element, items: 0 };
        locate("t", &View { storage, offset, shape: shape.to_vec(), strides: strides.to_vec() }, element)
    }

    /// Type, shape, strides and start of a tensor that has a place.
    type Found = (DType, Vec<u64>, Option<Vec<u64>>, u64);

    fn found(dtype: &str, offset: u64, shape: &[u64], strides: &[u64]) -> Option<Found> {
        view(dtype, offset, shape, strides).map(|t| (t.dtype, t.shape, t.strides, t.start))
    }

    #[test]
    fn rows_and_permutations_have_a_place() {
        use DType::{F4, F32, U4};
        assert_eq!(found("float32", 0, &[4, 6], &[6, 1]), Some((F32, vec![4, 6], None, 100)));
        assert_eq!(found("float32", 2, &[2, 1, 3], &[3, 77, 1]), Some((F32, vec![2, 1, 3], None, 108)));
        assert_eq!(found("float32", 0, &[], &[]), Some((F32, vec![], None, 100)));
        assert_eq!(found("float32", 0, &[6, 4], &[1, 6]), Some((F32, vec![6, 4], Some(vec![1, 6]), 100)));
        assert_eq!(found("float32", 9, &[0, 4], &[1, 6]), Some((F32, vec![0, 4], None, 100)));
        assert_eq!(found("float4_e2m1fn_x2", 1, &[2, 3], &[3, 1]), Some((F4, vec![2, 6], None, 101)));
        assert_eq!(found("float4_e2m1fn_x2", 0, &[], &[]), Some((F4, vec![2], None, 100)));
        assert_eq!(found("quint4x2", 0, &[2, 4], &[4, 1]), Some((U4, vec![2, 4], None, 100)));
    }

    #[test]
    fn other_views_have_none() {
        assert_eq!(found("float32", 0, &[4, 6], &[0, 1]), None);
        assert_eq!(found("float32", 0, &[4, 3], &[6, 1]), None);
        assert_eq!(found("float32", 0, &[4, 3], &[6, 2]), None);
        assert_eq!(found("float32", 0, &[2, 2], &[1, 1]), None);
        assert_eq!(found("float32", 0, &[2, 2], &[2]), None);
        assert_eq!(found("float4_e2m1fn_x2", 0, &[3, 2], &[1, 3]), None);
        assert_eq!(found("quint4x2", 0, &[2, 3], &[3, 1]), None);
        assert_eq!(found("quint4x2", 2, &[2, 4], &[4, 1]), None);
        assert_eq!(found("bcomplex32", 0, &[2], &[1]), None);
        assert_eq!(found("float32", 0, &[u64::MAX, u64::MAX], &[u64::MAX, 1]), None);
    }

    #[test]
    fn views_stay_in_their_storage() {
        for (offset, shape, strides) in
            [(0, &[25][..], &[1][..]), (1, &[24], &[1]), (u64::MAX, &[1], &[1]), (0, &[1 << 62], &[1])]
        {
            assert!(view("float32", offset, shape, strides).is_none());
        }
    }
}
