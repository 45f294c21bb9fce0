//! The format `tf-checkpoint`: an index, read for the file of data beside it.
#![cfg_attr(fuzzing, no_main)]
shard_fuzz::beside!("model.index", "model.data-00000-of-00001");
