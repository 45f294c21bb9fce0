//! The format `npy`.
#![cfg_attr(fuzzing, no_main)]
shard_fuzz::registered!("npy");
