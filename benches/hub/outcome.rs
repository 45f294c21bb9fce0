//! How the programs of this folder end.

use std::process::ExitCode;

/// Why something could not be measured or asked.
pub(crate) type Failure = Box<dyn std::error::Error>;

/// 0 without failures, 1 with some, and 2 where they could not be counted, which is told.
pub(crate) fn exit_code(program: &str, failures: Result<usize, Failure>) -> ExitCode {
    match failures {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{program}: {error}");
            ExitCode::from(2)
        }
    }
}
