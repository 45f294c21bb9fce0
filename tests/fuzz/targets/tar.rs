//! The format `tar`.
#![cfg_attr(fuzzing, no_main)]
shard_fuzz::registered!("tar");
