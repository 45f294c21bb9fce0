//! The training run of `shard demo`, as files to walk through by hand:
//! `cargo run --release -p shard-datasets --example train -- FOLDER [OPTION…]`
//!
//! - `--state STEP`: with the checkpoint of that step, keep all that training goes on from
//! - `--resume FILE`: go on from such a state
//! - `--frozen PREFIX`: do not train weights whose names begin so
//! - `--tiny`: the same steps of a tiny model, in a second or two

use std::error::Error;
use std::path::PathBuf;

use shard_datasets::train::{Event, TrainConfig, resume, train};

const USAGE: &str = "usage: train FOLDER [--state STEP]... [--resume FILE] [--frozen PREFIX]... [--tiny]";

fn main() -> Result<(), Box<dyn Error>> {
    let mut config = TrainConfig::demo();
    let (mut folder, mut state) = (None, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--state" => config.states.push(arguments.next().ok_or(USAGE)?.parse()?),
            "--resume" => state = Some(PathBuf::from(arguments.next().ok_or(USAGE)?)),
            "--frozen" => config.frozen.push(arguments.next().ok_or(USAGE)?),
            "--tiny" => config = tiny(config),
            option if option.starts_with('-') => return Err(USAGE.into()),
            _ => folder = Some(PathBuf::from(argument)),
        }
    }
    let folder = folder.ok_or(USAGE)?;

    let mut report = |event: Event| match event {
        Event::Start { parameters, steps } => println!("{parameters} weights, {steps} steps"),
        Event::Step { step, loss, learning_rate } if step % 20 == 0 => {
            println!("step {step:4}  loss {loss:.3}  learning rate {learning_rate:.2e}");
        }
        Event::Step { .. } => {}
        Event::Checkpoint(checkpoint) => {
            println!("           validation loss {:.3}", checkpoint.validation_loss);
            for file in
                [Some(&checkpoint.bf16), Some(&checkpoint.fp32), checkpoint.state.as_ref()].into_iter().flatten()
            {
                println!("           {}", file.display());
            }
        }
    };
    match state {
        Some(state) => resume(&config, &state, &folder, &mut report)?,
        None => train(&config, &folder, &mut report)?,
    };
    Ok(())
}

/// A tiny model with the steps of another run.
fn tiny(run: TrainConfig) -> TrainConfig {
    let TrainConfig { steps, warm_up, checkpoints, states, frozen, .. } = run;
    TrainConfig { steps, warm_up, checkpoints, states, frozen, ..TrainConfig::tiny() }
}
