//! JSON that is not trusted: every entry of an object is seen, so that a key that comes twice is noticed.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

/// Most entries of an object that are kept: short entries take far more memory than text.
pub(crate) const MAX_ENTRIES: usize = 1 << 20;

/// An object's entries, in the order of the text; a key may come twice.
pub(crate) struct Pairs<V> {
    pub(crate) entries: Vec<(String, V)>,
    /// Whether there are more than [`MAX_ENTRIES`], of which the first are kept.
    pub(crate) too_many: bool,
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Pairs<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PairsVisitor(PhantomData))
    }
}

struct PairsVisitor<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for PairsVisitor<V> {
    type Value = Pairs<V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Pairs { entries: Vec::new(), too_many: false };
        while pairs.entries.len() < MAX_ENTRIES {
            match map.next_entry()? {
                Some(entry) => pairs.entries.push(entry),
                None => return Ok(pairs),
            }
        }
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            pairs.too_many = true;
        }
        Ok(pairs)
    }
}

/// A name that comes more than once, if there is one.
pub(crate) fn repeated<'a>(names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    names.array_windows().find(|[left, right]| left == right).map(|[name, _]| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_keys_are_seen() {
        let pairs: Pairs<u32> = serde_json::from_str(r#"{"b": 1, "a": 2, "\u0062": 3}"#).unwrap();
        assert!(!pairs.too_many);
        assert_eq!(pairs.entries, [("b".to_owned(), 1), ("a".to_owned(), 2), ("b".to_owned(), 3)]);
        assert_eq!(repeated(pairs.entries.iter().map(|(name, _)| name.as_str())), Some("b"));
        assert_eq!(repeated(["b", "a"].into_iter()), None);
        assert!(serde_json::from_str::<Pairs<u32>>("[]").is_err());
    }

    #[test]
    fn entries_are_bounded() {
        for (count, too_many) in [(MAX_ENTRIES, false), (MAX_ENTRIES + 2, true)] {
            let json = format!("{{{}\"\":0}}", "\"\":0,".repeat(count - 1));
            let pairs: Pairs<u32> = serde_json::from_str(&json).unwrap();
            assert_eq!((pairs.entries.len(), pairs.too_many), (MAX_ENTRIES, too_many));
        }
    }
}
