//! A model in several files.

use std::collections::BTreeMap;

use safetensors::SafeTensors;
use safetensors::tensor::serialize;
use serde_json::json;

/// The tensors of a safetensors file in `count` files under other names, and the index that lists them: names and bytes.
#[must_use]
pub fn reshard(file: &[u8], count: usize, rename: impl Fn(&str) -> String) -> Vec<(String, Vec<u8>)> {
    let file = SafeTensors::deserialize(file).unwrap();
    let mut tensors: Vec<_> = file.tensors();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let mut files = Vec::new();
    let mut index = BTreeMap::new();
    for (number, part) in tensors.chunks(tensors.len().div_ceil(count)).enumerate() {
        let name = format!("model-{:05}-of-{count:05}.safetensors", number + 1);
        let renamed: Vec<_> = part.iter().map(|(name, tensor)| (rename(name), tensor.clone())).collect();
        index.extend(renamed.iter().map(|(tensor, _)| (tensor.clone(), name.clone())));
        files.push((name, serialize(renamed, None).unwrap()));
    }
    let total: usize = tensors.iter().map(|(_, tensor)| tensor.data().len()).sum();
    let index = json!({ "metadata": { "total_size": total }, "weight_map": index });
    files.push(("model.safetensors.index.json".to_owned(), index.to_string().into_bytes()));
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use shard_datasets::cases::every_change;

    #[test]
    fn every_tensor_is_in_one_file_and_in_the_index() {
        let (file, _) = every_change(1).unwrap();
        let files = reshard(&file, 3, |name| format!("x.{name}"));
        assert_eq!(files.len(), 4);
        let whole = SafeTensors::deserialize(&file).unwrap();
        let mut seen = 0;
        for (_, bytes) in &files[..3] {
            for (name, tensor) in SafeTensors::deserialize(bytes).unwrap().tensors() {
                assert_eq!(tensor.data(), whole.tensor(&name[2..]).unwrap().data());
                seen += 1;
            }
        }
        assert_eq!(seen, whole.len());
        let index: serde_json::Value = serde_json::from_slice(&files[3].1).unwrap();
        assert_eq!(index["weight_map"].as_object().unwrap().len(), seen);
    }
}
