//! The format `pytorch`.
#![cfg_attr(fuzzing, no_main)]
shard_fuzz::registered!("pytorch");
