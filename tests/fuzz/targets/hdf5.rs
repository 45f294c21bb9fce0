//! The format `hdf5`.
#![cfg_attr(fuzzing, no_main)]
shard_fuzz::registered!("hdf5");
