//! Trains a series and prints how it goes: `cargo run --release -p shard-datasets --example series -- FOLDER [tiny]`.

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use shard_datasets::train::{Event, TrainConfig, train};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("usage: series FOLDER [tiny]")?);
    let config =
        if arguments.next().is_some_and(|preset| preset == "tiny") { TrainConfig::tiny() } else { TrainConfig::demo() };
    let start = Instant::now();
    let mut report = |event: Event| match event {
        Event::Start { parameters, steps } => println!("{parameters} weights, {steps} steps"),
        Event::Step { step, loss, learning_rate } if step == 1 || step % 20 == 0 => {
            println!(
                "{:6.1} s  step {step:4}  loss {loss:.3}  rate {learning_rate:.2e}",
                start.elapsed().as_secs_f64()
            );
        }
        Event::Step { .. } => {}
        Event::Checkpoint(checkpoint) => {
            println!("          validation {:.3}  {}", checkpoint.validation_loss, checkpoint.bf16.display());
        }
    };
    train(&config, &folder, &mut report)?;
    Ok(())
}
