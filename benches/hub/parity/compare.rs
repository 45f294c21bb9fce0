//! Where two answers differ.

use std::collections::HashMap;

use serde_json::Value;

/// Ids of commits are made from times and authors, so they differ; but one of a side always stands for the same one of the other.
#[derive(Default)]
pub(crate) struct Ids {
    theirs: HashMap<String, String>,
    ours: HashMap<String, String>,
}

impl Ids {
    fn match_up(&mut self, theirs: &str, ours: &str) -> bool {
        let is_commit = |id: &str| id.len() == 40 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        if theirs == ours {
            return true;
        }
        if !is_commit(theirs) || !is_commit(ours) {
            return false;
        }
        match (self.theirs.get(theirs), self.ours.get(ours)) {
            (None, None) => {
                self.theirs.insert(theirs.to_owned(), ours.to_owned());
                self.ours.insert(ours.to_owned(), theirs.to_owned());
                true
            }
            (Some(expected), _) => expected == ours,
            (None, Some(_)) => false,
        }
    }
}

/// Fields whose ids come from content alone: they are equal, or wrong.
const CONTENT_IDS: [&str; 6] = ["blob_id", "tree_id", "etag", "base_oid", "target_oid", "source_oid"];

/// The places where two answers differ, with both values. Places are paths of field names and indexes.
pub(crate) fn differences(theirs: &Value, ours: &Value, ids: &mut Ids) -> Vec<(String, String)> {
    let mut found = Vec::new();
    walk("", theirs, ours, ids, &mut found);
    found
}

fn walk(place: &str, theirs: &Value, ours: &Value, ids: &mut Ids, found: &mut Vec<(String, String)>) {
    match (theirs, ours) {
        (Value::Object(a), Value::Object(b)) if a.len() == b.len() && a.keys().all(|name| b.contains_key(name)) => {
            for (name, value) in a {
                walk(&format!("{place}/{name}"), value, &b[name], ids, found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                walk(&format!("{place}/{index}"), a, b, ids, found);
            }
        }
        (Value::String(a), Value::String(b)) => {
            let is_content = CONTENT_IDS.iter().any(|name| place.ends_with(name));
            let is_same = if is_content { a == b } else { ids.match_up(a, b) };
            if !is_same {
                found.push((place.to_owned(), format!("hubvault {a:?}, shard {b:?}")));
            }
        }
        (a, b) if a == b => {}
        (a, b) => {
            let place = if place.is_empty() { "answer" } else { place };
            found.push((place.to_owned(), format!("hubvault {a}, shard {b}")));
        }
    }
}
