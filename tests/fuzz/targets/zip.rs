//! The format `zip`.
#![cfg_attr(fuzzing, no_main)]
shard_fuzz::registered!("zip");
