//! Names that several tensors of a file have.

use std::collections::{HashMap, HashSet};

use crate::json::repeated;

/// Most bytes of all the names of a file together. A name may be put together from parts that many share (the node whose
/// subgraph tensors are in, the key that others repeat the start of), so that the file's length does not bound it.
pub(crate) const MAX_NAMES: usize = 64 << 20;

/// Makes names distinct: of equal names the first stays, the second gets `#2` behind it, the third `#3`, and so on, numbers
/// left out that make a name which is there already.
pub(crate) fn make_distinct(names: &mut [&mut String]) {
    if repeated(names.iter().map(|name| name.as_str())).is_none() {
        return;
    }
    let mut taken: HashSet<String> = names.iter().map(|name| (**name).clone()).collect();
    let mut counts: HashMap<String, u64> = HashMap::new();
    for name in names {
        let Some(count) = counts.get_mut(name.as_str()) else {
            counts.insert((**name).clone(), 1);
            continue;
        };
        // Each number is tried once for a name, so this takes as long as there are names.
        loop {
            *count += 1;
            let numbered = format!("{name}#{count}");
            if taken.insert(numbered.clone()) {
                **name = numbered;
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distinct(names: &[&str]) -> Vec<String> {
        let mut names: Vec<String> = names.iter().map(ToString::to_string).collect();
        make_distinct(&mut names.iter_mut().collect::<Vec<_>>());
        names
    }

    #[test]
    fn repeated_names_are_numbered() {
        assert_eq!(distinct(&["a", "b", "c"]), ["a", "b", "c"]);
        assert_eq!(distinct(&["a", "b", "a", "a", "b"]), ["a", "b", "a#2", "a#3", "b#2"]);
        assert_eq!(distinct(&["a", "a", "a#2", "a#2", "a"]), ["a", "a#3", "a#2", "a#2#2", "a#4"]);
    }

    #[test]
    fn a_hundred_thousand_equal_names_are_quick() {
        let names = distinct(&["weight"; 100_000]);
        assert_eq!(names[99_999], "weight#100000");
    }
}
