//! hubvault and shard asked the same, one operation after another, and what each answers compared: values, errors, and the bytes and
//! files that come out. `benches/hub/parity/run` prepares the peer and calls this.
//!
//! Every difference that is meant is written down beside the step that shows it, with the reason. One that is not written down is a
//! failure, and so is one that no longer shows. The page that lists them is written from the same steps.
//!
//! Exits with 1 where the two differ otherwise than written down, and with 2 where they could not be asked.
#![forbid(unsafe_code)]

mod compare;
mod ours;
#[path = "../outcome.rs"]
mod outcome;
mod page;
#[path = "../peer.rs"]
mod peer;
mod scenarios;
mod step;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use compare::{Ids, differences};
use outcome::{Failure, exit_code};
use peer::Peer;
use step::{DAMAGE, PAUSE, Scenario, Step, id_of};

const USAGE: &str = "benches/hub/parity/run [--page FILE] [--write] [--only NAME]

Asks hubvault and shard the same and compares the answers. --page FILE also checks that FILE is the page that follows from the steps;
with --write it is written instead. --only runs the scenarios whose names have NAME in them.";

#[derive(Default)]
struct Options {
    peer: Vec<String>,
    dir: PathBuf,
    page: Option<PathBuf>,
    write: bool,
    only: Option<String>,
}

fn options() -> Result<Options, Failure> {
    let mut options = Options::default();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--peer" => options.peer.push(value()?),
            "--dir" => options.dir = value()?.into(),
            "--page" => options.page = Some(value()?.into()),
            "--write" => options.write = true,
            "--only" => options.only = Some(value()?),
            _ => return Err(USAGE.into()),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    exit_code("parity", options().and_then(|options| run(&options)))
}

/// Asks everything; the number of failures.
fn run(options: &Options) -> Result<usize, Failure> {
    let dir = tempfile::Builder::new().prefix("parity-").tempdir_in(&options.dir)?;
    let all = scenarios::all();
    let mut peer = Peer::start(&options.peer)?;
    let (mut failures, mut steps) = (0, 0);
    for scenario in &all {
        if options.only.as_ref().is_some_and(|only| !scenario.name.contains(only.as_str())) {
            continue;
        }
        let folder = dir.path().join(scenario.name.replace(' ', "-"));
        for problem in play(&mut peer, scenario, &folder)? {
            failures += 1;
            println!("{}: {problem}", scenario.name);
        }
        steps += scenario.steps.len();
    }
    let calls = step::calls(&all);
    for missing in step::OPERATIONS.iter().map(|operation| operation.name).filter(|name| !calls.contains(name)) {
        failures += 1;
        println!("no step calls {missing}");
    }
    if let Some(place) = &options.page {
        let page = page::page(&all);
        if options.write {
            fs::write(place, page)?;
        } else if fs::read_to_string(place).ok().as_ref() != Some(&page) {
            failures += 1;
            println!("{} is not the page that follows from the steps: write it with --write", place.display());
        }
    }
    let meant = all.iter().flat_map(|scenario| &scenario.steps).filter(|step| step.differs.is_some()).count();
    println!(
        "{steps} steps, {} operations, {meant} differences that are meant, {failures} failures",
        step::OPERATIONS.len()
    );
    Ok(failures)
}

/// Plays a scenario on two new folders, and says what went otherwise than written down.
fn play(peer: &mut Peer, scenario: &Scenario, folder: &Path) -> Result<Vec<String>, Failure> {
    let mut problems = Vec::new();
    let mut ids: HashMap<&str, Ids> = HashMap::new();
    let mut names: [HashMap<String, String>; 2] = Default::default();
    for (side, names) in ["hubvault", "shard"].into_iter().zip(&mut names) {
        let dir = folder.join(side);
        fs::create_dir_all(&dir)?;
        names.insert("dir".to_owned(), dir.to_string_lossy().into_owned());
    }
    for (number, step) in scenario.steps.iter().enumerate() {
        if step.call == PAUSE {
            thread::sleep(Duration::from_millis(1100));
            continue;
        }
        if step.call == DAMAGE {
            names.iter().try_for_each(|names| damage(&Path::new(&names["dir"]).join(step.repo)))?;
            continue;
        }
        let theirs = peer.ask(&order(step, &names[0]))?;
        let ours = ours::ask(&order(step, &names[1]))?;
        if let Some(name) = step.save {
            for (answer, names) in [&theirs, &ours].into_iter().zip(&mut names) {
                let id = id_of(answer).ok_or_else(|| format!("{}: {answer} has no id", step.call))?;
                names.insert(name.to_owned(), id);
            }
        }
        let found = differences(&theirs, &ours, ids.entry(step.repo).or_default());
        let meant = step.differs.as_ref().map_or(&[][..], |difference| &difference.at[..]);
        let places: Vec<&str> = found.iter().map(|(place, _)| place.as_str()).collect();
        let is_meant = places.iter().all(|place| meant.iter().any(|at| place.starts_with(at)))
            && meant.iter().all(|at| places.iter().any(|place| place.starts_with(at)));
        if !is_meant {
            let told: Vec<String> = found.iter().map(|(place, values)| format!("{place}: {values}")).collect();
            let told = if told.is_empty() { "the answers are equal".to_owned() } else { told.join("; ") };
            let expected = if meant.is_empty() { String::new() } else { format!(" (expected: {meant:?})") };
            problems.push(format!("step {number}, {} {}: {told}{expected}", step.call, step.arguments));
        }
    }
    Ok(problems)
}

/// Changes a byte in the middle of the largest file of a repository, databases and what can be made again left out.
fn damage(repository: &Path) -> Result<(), Failure> {
    let (mut open, mut largest) = (vec![repository.to_owned()], (0, PathBuf::new()));
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder)? {
            let (path, metadata) = entry.map(|entry| (entry.path(), entry.metadata()))?;
            let metadata = metadata?;
            let is_content = !path.ends_with("cache") && !path.to_string_lossy().contains(".sqlite");
            if metadata.is_dir() && is_content {
                open.push(path);
            } else if is_content && metadata.len() > largest.0 {
                largest = (metadata.len(), path);
            }
        }
    }
    let (len, path) = largest;
    let mut bytes = fs::read(&path)?;
    bytes[len as usize / 2] ^= 1;
    // Files of the store may be read-only: another one takes its place.
    fs::remove_file(&path)?;
    Ok(fs::write(&path, bytes)?)
}

/// What a side is asked: its names stand for folders and ids.
fn order(step: &Step, names: &HashMap<String, String>) -> Value {
    json!({"do": "call", "call": step.call, "repo": format!("{}/{}", names["dir"], step.repo), "args": fill(&step.arguments, names)})
}

fn fill(value: &Value, names: &HashMap<String, String>) -> Value {
    match value {
        Value::String(text) => {
            let mut text = text.clone();
            for (name, value) in names {
                text = text.replace(&format!("{{{name}}}"), value);
            }
            json!(text)
        }
        Value::Array(values) => values.iter().map(|value| fill(value, names)).collect(),
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), fill(value, names))).collect(),
        other => other.clone(),
    }
}
