//! The format `tflite`.
#![cfg_attr(fuzzing, no_main)]
shard_fuzz::registered!("tflite");
