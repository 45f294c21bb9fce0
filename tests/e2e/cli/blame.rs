//! `blame`.

use std::fs;

use crate::place::{Place, model};

fn commit(place: &Place, title: &str) -> String {
    place.ok(&["add", "."]);
    place.json(&["commit", "-m", title, "--author", "Ada"])["id"].as_str().unwrap().to_owned()
}

/// The tensors and the titles of the commits that they are blamed on.
fn blamed(place: &Place, args: &[&str]) -> Vec<(String, String)> {
    let json = place.json(&[&["blame"], args].concat());
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let tensors = json["tensors"].as_array().unwrap().iter();
    tensors.map(|tensor| (text(&tensor["tensor"]), text(&tensor["title"]))).collect()
}

#[test]
fn each_tensor_has_the_commit_that_changed_it_last() {
    let place = Place::new();
    place.ok(&["init"]);
    let names = ["lm_head.weight", "model.layers.10.w", "model.layers.2.w", "model.embed.weight"];
    let values = |seeds: [f32; 4]| -> Vec<(&str, Vec<f32>)> {
        names.iter().zip(seeds).map(|(name, seed)| (*name, vec![seed, 2.0, 3.0])).collect()
    };
    let file = |seeds: [f32; 4]| {
        let values = values(seeds);
        model(&values.iter().map(|(name, values)| (*name, values.as_slice())).collect::<Vec<_>>())
    };
    place.write("m.safetensors", &file([1.0, 1.0, 1.0, 1.0]));
    commit(&place, "Base");
    place.write("m.safetensors", &file([1.0, 5.0, 1.0, 1.0]));
    commit(&place, "Layer 10");
    place.write("m.safetensors", &file([1.0, 5.0, 6.0, 1.0]));
    place.write("notes.txt", b"n");
    let third = commit(&place, "Layer 2");
    // Another file alone, and then the file moves and keeps its tensors.
    place.write("notes.txt", b"o");
    commit(&place, "Notes");
    fs::create_dir(place.path().join("sub")).unwrap();
    fs::rename(place.path().join("m.safetensors"), place.path().join("sub/moved.safetensors")).unwrap();
    commit(&place, "Moved");

    let all = blamed(&place, &["HEAD:sub/moved.safetensors"]);
    let expected = [
        ("model.embed.weight", "Base"),
        ("model.layers.2.w", "Layer 2"),
        ("model.layers.10.w", "Layer 10"),
        ("lm_head.weight", "Base"),
    ];
    assert_eq!(all, expected.map(|(tensor, title)| (tensor.to_owned(), title.to_owned())));
    assert_eq!(blamed(&place, &["sub/moved.safetensors"]), all);
    let one = blamed(&place, &["HEAD~1:m.safetensors", "*layers.1?.w"]);
    assert_eq!(one, [("model.layers.10.w".to_owned(), "Layer 10".to_owned())]);
    // Before it was changed it was as at first.
    assert_eq!(blamed(&place, &["HEAD~3:m.safetensors", "*2.w"])[0].1, "Base");
    let json = place.json(&["blame", "sub/moved.safetensors", "*.2.w"]);
    let line = &json["tensors"][0];
    assert_eq!((line["commit"].as_str(), line["path"].as_str()), (Some(third.as_str()), Some("m.safetensors")));
    assert_eq!((line["author"].as_str(), line["name"].as_str()), (Some("Ada"), Some("model.layers.2.w")));
    let text = place.ok(&["blame", "sub/moved.safetensors"]);
    assert!(text.lines().nth(2).unwrap().starts_with(&third[..12]), "{text}");
    assert!(text.contains("Ada") && text.contains("Layer 10"), "{text}");

    place.fails(&["blame", "HEAD:nowhere"], 3, &["nowhere"]);
    place.fails(&["blame", "HEAD~1:notes.txt"], 3, &["no tensors", "shard show"]);
    place.fails(&["blame", "sub/moved.safetensors", "x*"], 3, &["no tensor of that name"]);
    place.fails(&["blame", "sub/moved.safetensors", "[x"], 2, &["no pattern"]);
}

#[test]
fn tensors_are_followed_through_shards_and_other_names() {
    let place = Place::new();
    place.ok(&["init"]);
    let (a, b): (Vec<f32>, Vec<f32>) = ((0..64).map(|i| i as f32).collect(), (0..64).map(|i| -(i as f32)).collect());
    place.write("whole.safetensors", &model(&[("a", &a), ("b", &b)]));
    commit(&place, "Whole");
    fs::remove_file(place.path().join("whole.safetensors")).unwrap();
    place.write("model-00001-of-00002.safetensors", &model(&[("a", &a)]));
    place.write("model-00002-of-00002.safetensors", &model(&[("model.b", &b), ("c", &a[..8])]));
    commit(&place, "In two shards");
    let second = blamed(&place, &["model-00002-of-00002.safetensors"]);
    let titles: Vec<&str> = second.iter().map(|(_, title)| title.as_str()).collect();
    assert_eq!(second.len(), 2);
    assert!(titles.contains(&"Whole") && titles.contains(&"In two shards"), "{second:?}");
    let json = place.json(&["blame", "model-00002-of-00002.safetensors", "model.b"]);
    assert_eq!(json["tensors"][0]["name"], "b");
    assert_eq!(json["tensors"][0]["path"], "whole.safetensors");
    assert_eq!(blamed(&place, &["model-00001-of-00002.safetensors"])[0].1, "Whole");
}
