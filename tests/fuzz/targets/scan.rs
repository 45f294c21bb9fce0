//! The search for what pickles would call.
#![cfg_attr(fuzzing, no_main)]
shard_fuzz::scanned!();
