//! The format `gguf`.
#![cfg_attr(fuzzing, no_main)]
shard_fuzz::registered!("gguf");
