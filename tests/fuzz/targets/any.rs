//! Whichever format a file is of, as `shard add` parses it.
#![cfg_attr(fuzzing, no_main)]
shard_fuzz::any!();
