use super::*;
use proptest::prelude::*;
use shard_core::sha256;

fn tensor(name: &str, dtype: DType, shape: &[u64], content: &str) -> TensorInfo {
    TensorInfo { name: name.to_owned(), dtype, shape: shape.to_vec(), content: sha256(content.as_bytes()) }
}

/// Change, old name and new name of each pair.
fn summary<'a>(old: &'a [TensorInfo], new: &'a [TensorInfo]) -> Vec<(&'static str, &'a str, &'a str)> {
    let name = |side: &'a [TensorInfo], index: Option<usize>| index.map_or("-", |index| side[index].name.as_str());
    let pairs = diff_tensors(old, new);
    pairs.iter().map(|pair| (pair.change.as_str(), name(old, pair.old), name(new, pair.new))).collect()
}

#[test]
fn every_kind_of_change() {
    use DType::{BF16, F32};
    let old = [
        tensor("equal", F32, &[2], "a"),
        tensor("value", F32, &[2], "b"),
        tensor("shape", F32, &[2], "c"),
        tensor("dtype", F32, &[2], "d"),
        tensor("both", F32, &[2], "e"),
        tensor("gone", F32, &[2], "f"),
        tensor("before", F32, &[3], "g"),
        tensor("reshaped", F32, &[6], "h"),
    ];
    let new = [
        tensor("after", F32, &[3], "g"),
        tensor("both", BF16, &[4], "e2"),
        tensor("dtype", BF16, &[2], "d"),
        tensor("equal", F32, &[2], "a"),
        tensor("fresh", F32, &[2], "i"),
        tensor("reshaped", F32, &[2, 3], "h"),
        tensor("shape", F32, &[4], "c2"),
        tensor("value", F32, &[2], "b2"),
    ];
    assert_eq!(
        summary(&old, &new),
        [
            ("renamed", "before", "after"),
            ("shape", "both", "both"),
            ("dtype", "dtype", "dtype"),
            ("equal", "equal", "equal"),
            ("added", "-", "fresh"),
            ("shape", "reshaped", "reshaped"),
            ("shape", "shape", "shape"),
            ("value", "value", "value"),
            ("removed", "gone", "-"),
        ]
    );
}

/// One noisy, one resized, one added, one removed and three equal tensors.
#[test]
fn the_pair_that_others_get_wrong() {
    let equal = ["a", "b", "c"].map(|name| tensor(name, DType::F32, &[4], name));
    let mut old = equal.to_vec();
    old.push(tensor("noisy", DType::F32, &[4], "n"));
    old.push(tensor("resized", DType::F32, &[4], "r"));
    old.push(tensor("removed", DType::F32, &[4], "x"));
    let mut new = equal.to_vec();
    new.push(tensor("noisy", DType::F32, &[4], "n, one bit off"));
    new.push(tensor("resized", DType::F32, &[5], "r and more"));
    new.push(tensor("added", DType::F32, &[4], "y"));
    let pairs = diff_tensors(&old, &new);
    let counts = TensorCounts::of(&pairs);
    assert_eq!(TensorChange::ALL.map(|change| counts.get(change)), [3, 1, 1, 0, 1, 1, 0]);
    assert!(!counts.all_equal());
    assert!(TensorCounts::of(&diff_tensors(&old, &old)).all_equal());
}

#[test]
fn renames_follow_the_names() {
    let zeros = |name: &str| tensor(name, DType::F32, &[8], "zeros");
    let old = ["h.0.bias", "h.1.bias", "h.2.bias"].map(zeros);
    let new = ["model.h.2.bias", "model.h.0.bias", "model.h.1.bias", "model.h.3.bias"].map(zeros);
    assert_eq!(
        summary(&old, &new),
        [
            ("renamed", "h.2.bias", "model.h.2.bias"),
            ("renamed", "h.0.bias", "model.h.0.bias"),
            ("renamed", "h.1.bias", "model.h.1.bias"),
            ("added", "-", "model.h.3.bias"),
        ]
    );
    let other = [tensor("x", DType::F32, &[8], "1"), tensor("y", DType::F32, &[2, 4], "2")];
    let moved = [tensor("p", DType::I32, &[8], "1"), tensor("q", DType::F32, &[4, 2], "2")];
    let counts = TensorCounts::of(&diff_tensors(&other, &moved));
    assert_eq!(counts.get(TensorChange::Renamed), 0, "only with the same type and shape");
    // A name that stays is not a rename, even where its old content went to a new name.
    let before = [tensor("a", DType::F32, &[2], "1")];
    let after = [tensor("a", DType::F32, &[2], "2"), tensor("b", DType::F32, &[2], "1")];
    assert_eq!(summary(&before, &after), [("value", "a", "a"), ("added", "-", "b")]);
}

#[test]
fn names_that_come_twice() {
    let twin = |content: &str| tensor("w", DType::F32, &[2], content);
    let old = [twin("1"), twin("2"), twin("3")];
    let new = [twin("2"), twin("4"), twin("1"), twin("5")];
    let found: Vec<(TensorChange, Option<usize>, Option<usize>)> =
        diff_tensors(&old, &new).iter().map(|pair| (pair.change, pair.old, pair.new)).collect();
    assert_eq!(
        found,
        [
            (TensorChange::Equal, Some(1), Some(0)),
            (TensorChange::Value, Some(2), Some(1)),
            (TensorChange::Equal, Some(0), Some(2)),
            (TensorChange::Added, None, Some(3)),
        ]
    );
}

#[test]
fn many_equal_tensors_take_no_time() {
    let side = |prefix: &str| -> Vec<TensorInfo> {
        (0..20_000).map(|index| tensor(&format!("{prefix}.{index}.bias"), DType::F32, &[8], "zeros")).collect()
    };
    let (old, mut new) = (side("h"), side("model.h"));
    new.reverse();
    for pair in diff_tensors(&old, &new) {
        assert_eq!(pair.change, TensorChange::Renamed);
        let (from, to) = (&old[pair.old.unwrap()].name, &new[pair.new.unwrap()].name);
        assert_eq!(&format!("model.{from}"), to);
    }
}

fn any_side() -> impl Strategy<Value = Vec<TensorInfo>> {
    let dtype = prop::sample::select(vec![DType::F32, DType::BF16]);
    let part = ("[a-c](\\.[0-2])?", dtype, prop::sample::select(vec![vec![2u64], vec![1, 2]]), "[xyz]");
    prop::collection::vec(part, 0..12).prop_map(|parts| {
        parts.iter().map(|(name, dtype, shape, content)| tensor(name, *dtype, shape, content)).collect()
    })
}

proptest! {
    #[test]
    fn every_tensor_is_accounted_for_exactly_once(old in any_side(), new in any_side()) {
        let pairs = diff_tensors(&old, &new);
        let mut olds: Vec<usize> = pairs.iter().filter_map(|pair| pair.old).collect();
        let mut news: Vec<usize> = pairs.iter().filter_map(|pair| pair.new).collect();
        olds.sort_unstable();
        news.sort_unstable();
        prop_assert_eq!(olds, (0..old.len()).collect::<Vec<_>>());
        prop_assert_eq!(news, (0..new.len()).collect::<Vec<_>>());
        for pair in &pairs {
            let (a, b) = (pair.old.map(|index| &old[index]), pair.new.map(|index| &new[index]));
            let holds = match (pair.change, a, b) {
                (TensorChange::Equal, Some(a), Some(b)) => a == b,
                (TensorChange::Value, Some(a), Some(b)) => {
                    a.name == b.name && a.dtype == b.dtype && a.shape == b.shape && a.content != b.content
                }
                (TensorChange::Shape, Some(a), Some(b)) => a.name == b.name && a.shape != b.shape,
                (TensorChange::DType, Some(a), Some(b)) => a.name == b.name && a.shape == b.shape && a.dtype != b.dtype,
                (TensorChange::Renamed, Some(a), Some(b)) => {
                    a.name != b.name && a.dtype == b.dtype && a.shape == b.shape && a.content == b.content
                }
                (TensorChange::Added, None, Some(_)) | (TensorChange::Removed, Some(_), None) => true,
                _ => false,
            };
            prop_assert!(holds, "{pair:?}");
        }
        // Nothing that could be a rename is left as added and removed.
        let left = |change| pairs.iter().filter(move |pair| pair.change == change);
        for removed in left(TensorChange::Removed).filter_map(|pair| pair.old) {
            for added in left(TensorChange::Added).filter_map(|pair| pair.new) {
                let (a, b) = (&old[removed], &new[added]);
                prop_assert!(a.name != b.name);
                prop_assert!((a.dtype, &a.shape, a.content) != (b.dtype, &b.shape, b.content));
            }
        }
        prop_assert_eq!(&pairs, &diff_tensors(&old, &new));
        let counts = TensorCounts::of(&pairs);
        prop_assert_eq!(TensorChange::ALL.iter().map(|change| counts.get(*change)).sum::<usize>(), pairs.len());
    }
}
