//! The format `npz`.
#![cfg_attr(fuzzing, no_main)]
shard_fuzz::registered!("npz");
