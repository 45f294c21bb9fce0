//! The format `safetensors`.
#![cfg_attr(fuzzing, no_main)]
shard_fuzz::registered!("safetensors");
