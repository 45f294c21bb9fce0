//! The format `onnx`.
#![cfg_attr(fuzzing, no_main)]
shard_fuzz::registered!("onnx");
