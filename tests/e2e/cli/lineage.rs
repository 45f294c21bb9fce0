//! `lineage`.

use serde_json::Value;

use crate::place::{Place, model};

/// Numbers that look like weights, the same for the same seed.
fn weights(seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..2000).map(|_| next() + next() + next()).collect()
}

/// A model of tensors that are each told by their seeds; a second number is by how much a tensor was trained.
fn file(tensors: &[(u32, u32)]) -> Vec<u8> {
    let tensors: Vec<(String, Vec<f32>)> = tensors
        .iter()
        .enumerate()
        .map(|(index, (seed, trained))| {
            let moved = weights(1000 + seed + 7 * trained);
            let by = *trained as f32 * 1e-3;
            let values = weights(*seed).iter().zip(moved).map(|(value, step)| value + step * by).collect();
            (format!("layer.{index}.weight"), values)
        })
        .collect();
    model(&tensors.iter().map(|(name, values)| (name.as_str(), values.as_slice())).collect::<Vec<_>>())
}

fn keep(place: &Place, path: &str, bytes: &[u8], title: &str) -> String {
    place.write(path, bytes);
    place.ok(&["add", path]);
    place.json(&["commit", "-m", title])["id"].as_str().unwrap().to_owned()
}

/// Titles of a chain of ancestors, each with its tensors that are equal.
fn chain(lineage: &Value) -> Vec<(String, u64)> {
    let mut chain = Vec::new();
    let mut at = lineage;
    while let [parent] = at["parents"].as_array().unwrap().as_slice() {
        let title = parent["known"]["title"].as_str().unwrap().to_owned();
        chain.push((title, parent["relation"]["equal"].as_u64().unwrap()));
        at = parent;
    }
    assert_eq!(at["parents"].as_array().unwrap().len(), 0, "{at}");
    chain
}

#[test]
fn a_chain_up_to_the_root() {
    let place = Place::new();
    place.ok(&["init"]);
    let base = keep(&place, "base.safetensors", &file(&[(1, 0), (2, 0), (3, 0), (4, 0)]), "Base");
    keep(&place, "other.safetensors", &file(&[(11, 0), (12, 0)]), "Something else");
    keep(&place, "tuned.safetensors", &file(&[(1, 0), (2, 1), (3, 1), (4, 0)]), "Tuned");
    keep(&place, "tuned.safetensors", &file(&[(1, 0), (2, 2), (3, 1), (4, 0)]), "Tuned more");
    place.write("new.safetensors", &file(&[(1, 0), (2, 2), (3, 3), (4, 0)]));
    let json = place.json(&["lineage", "new.safetensors"]);
    assert!(json["known"].is_null());
    let expected = [("Tuned more".to_owned(), 3), ("Tuned".to_owned(), 3), ("Base".to_owned(), 2)];
    assert_eq!(chain(&json), expected);
    let parent = &json["parents"][0];
    assert_eq!(
        (parent["relation"]["tensors"].as_u64(), parent["relation"]["kind"].as_str()),
        (Some(4), Some("fine-tune"))
    );
    assert_eq!(parent["relation"]["equal_share"], 0.75);
    assert_eq!(parent["known"]["path"], "tuned.safetensors");
    assert_eq!(chain(&place.json(&["lineage", "HEAD:tuned.safetensors"])), expected[1..]);
    // A copy of what is known is that.
    place.write("copy.safetensors", &file(&[(1, 0), (2, 0), (3, 0), (4, 0)]));
    let json = place.json(&["lineage", "copy.safetensors"]);
    assert_eq!((json["known"]["commit"].as_str(), chain(&json)), (Some(base.as_str()), vec![]));
    let text = place.ok(&["lineage", "new.safetensors"]);
    assert!(text.contains("└─ fine-tune of tuned.safetensors of ") && text.contains("3 of 4 tensors equal"), "{text}");
    let cut = place.json(&["lineage", "new.safetensors", "--depth", "1"]);
    assert_eq!((chain(&cut).len(), cut["parents"][0]["cut"].as_bool()), (1, Some(true)));
    assert!(place.ok(&["lineage", "new.safetensors", "--depth", "1"]).contains("--depth shows more"));
}

#[test]
fn an_ancestor_on_two_ways_is_on_both() {
    let place = Place::new();
    place.ok(&["init"]);
    keep(&place, "base.safetensors", &file(&[(1, 0), (2, 0), (3, 0), (4, 0)]), "Base");
    keep(&place, "a.safetensors", &file(&[(1, 1), (2, 0), (3, 0), (4, 0)]), "A");
    keep(&place, "b.safetensors", &file(&[(1, 0), (2, 0), (3, 1), (4, 1)]), "B");
    place.write("joined.safetensors", &file(&[(1, 1), (2, 0), (3, 1), (4, 1)]));
    let json = place.json(&["lineage", "joined.safetensors"]);
    let parents = json["parents"].as_array().unwrap();
    assert_eq!(parents.len(), 2, "{json}");
    let below: Vec<(&str, bool)> = parents
        .iter()
        .map(|parent| {
            let base = &parent["parents"][0];
            (base["known"]["title"].as_str().unwrap(), base["shown_above"].as_bool().unwrap())
        })
        .collect();
    assert_eq!(below, [("Base", false), ("Base", true)]);
    let text = place.ok(&["lineage", "joined.safetensors"]);
    assert_eq!((text.matches("Base").count(), text.matches("shown above").count()), (2, 1), "{text}");
}

#[test]
fn several_ancestors_and_none() {
    let place = Place::new();
    place.ok(&["init"]);
    keep(&place, "a.safetensors", &file(&[(1, 0), (2, 0), (3, 0)]), "A");
    keep(&place, "b.safetensors", &file(&[(4, 0), (5, 0), (6, 0)]), "B");
    place.write("joined.safetensors", &file(&[(1, 0), (2, 0), (5, 0), (6, 0), (7, 0)]));
    let json = place.json(&["lineage", "joined.safetensors"]);
    let mut titles: Vec<&str> =
        json["parents"].as_array().unwrap().iter().map(|parent| parent["known"]["title"].as_str().unwrap()).collect();
    titles.sort_unstable();
    assert_eq!(titles, ["A", "B"]);
    let text = place.ok(&["lineage", "joined.safetensors"]);
    assert!(text.contains("├─ ") && text.contains("└─ "), "{text}");

    place.write("alone.safetensors", &file(&[(21, 0)]));
    assert_eq!(place.json(&["lineage", "alone.safetensors"])["parents"], serde_json::json!([]));
    assert!(place.ok(&["lineage", "alone.safetensors"]).contains("No known model is an ancestor"));
    keep(&place, "notes.txt", b"no tensors", "Notes");
    place.fails(&["lineage", "HEAD:notes.txt"], 3, &["no tensors"]);
    place.fails(&["lineage", "notes.txt"], 3, &["no tensors", "only files with tensors"]);
    place.fails(&["lineage", "HEAD:nowhere"], 3, &["nowhere"]);
    place.fails(&["lineage", "nowhere"], 3, &["nowhere"]);
    assert_eq!(place.run(&["lineage", "a.safetensors", "--depth", "0"]).code, 2);
}
