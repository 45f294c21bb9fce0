//! What shells and `man` are told of the commands.

use std::fs;

use crate::place::Place;

/// The commands that the help lists, but for `help` itself.
fn commands(place: &Place) -> Vec<String> {
    let help = place.ok(&["help"]);
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    let names: Vec<String> = names.map(str::to_owned).collect();
    assert!(names.len() >= 17 && names.iter().any(|name| name == "man"), "{help}");
    names
}

#[test]
fn each_shell_has_a_script_with_every_command() {
    let place = Place::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = place.ok(&["completions", shell]);
        for name in commands(&place) {
            let is_word = |rest: &str| !rest.starts_with(|next: char| next.is_ascii_alphanumeric());
            assert!(script.split(&name).skip(1).any(is_word), "{shell} lacks {name}");
        }
        for option in ["exit-code", "threads", "hparam"] {
            assert!(script.contains(option), "{shell} lacks --{option}");
        }
        // No informational output, so not less with --quiet.
        assert_eq!(place.ok(&["-q", "completions", shell]), script);
    }
    for wrong in [&["completions"][..], &["completions", "csh"]] {
        assert_eq!(place.run(wrong).code, 2, "{wrong:?}");
    }
}

/// What bash offers for the last of some words.
#[cfg(unix)]
fn offered(script: &std::path::Path, words: &[&str]) -> Vec<String> {
    use std::process::Command;

    // As bash calls the function that the script names: with the command, the word, and the word before it.
    let program = r#"
        source "$1"; shift
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        function=$(complete -p shard | sed 's/.*-F \([^ ]*\).*/\1/')
        "$function" shard "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let mut command = Command::new("bash");
    let output = command.args(["--norc", "-c", program, "bash"]).arg(script).args(words).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[cfg(unix)]
#[test]
fn bash_completes_commands_and_options() {
    let place = Place::new();
    let script = place.write("shard.bash", place.ok(&["completions", "bash"]).as_bytes());
    assert_eq!(offered(&script, &["shard", "di"]), ["diff"]);
    assert_eq!(offered(&script, &["shard", "unp"]), ["unpack"]);
    assert_eq!(offered(&script, &["shard", "bisect", "re"]), ["reset"]);
    let mut all = offered(&script, &["shard", ""]);
    all.retain(|word| !word.starts_with('-') && word != "help");
    assert_eq!(all, commands(&place));
    assert_eq!(offered(&script, &["shard", "diff", "--tensor"]), ["--tensors", "--tensor"]);
    assert_eq!(offered(&script, &["shard", "add", "--level", "m"]), ["max"]);
    assert_eq!(offered(&script, &["shard", "completions", "z"]), ["zsh"]);
}

#[test]
fn every_command_has_a_page() {
    let place = Place::new();
    let names = commands(&place);
    assert_eq!(
        place.ok(&["man", "--all", "-o", "share/man1"]),
        format!("Wrote {} pages to share/man1\n", names.len() + 1)
    );
    let mut expected: Vec<String> = names.iter().map(|name| format!("shard-{name}.1")).collect();
    expected.push("shard.1".to_owned());
    expected.sort();
    let folder = place.path().join("share/man1");
    let mut found: Vec<String> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    found.sort();
    assert_eq!(found, expected);

    let shard = place.ok(&["man"]);
    assert_eq!(shard.as_bytes(), place.read("share/man1/shard.1"));
    assert!(shard.contains(".TH SHARD 1 \"\" \"shard "), "{shard}");
    for text in [".SH \"EXIT CODES\"", "damaged data", ".SH REVISIONS", "[possible values: fast, default, max]"] {
        assert!(shard.contains(text), "no {text}: {shard}");
    }
    for name in &names {
        let page = place.ok(&["man", name]);
        assert_eq!(page.as_bytes(), place.read(&format!("share/man1/shard-{name}.1")), "{name}");
        let shown = name.replace('-', "\\-");
        assert!(page.contains(&format!(".SH NAME\nshard\\-{shown} \\- ")), "{page}");
        assert!(page.contains(&format!("\\fBshard {shown}\\fR")), "{page}");
        assert!(page.contains("\\-\\-threads") && page.contains(".SH \"SEE ALSO\""), "{page}");
        assert!(shard.contains(&format!("shard\\-{shown}(1)")), "{name}");
    }
    let bisect = place.ok(&["man", "bisect"]);
    assert!(
        bisect.contains(".SH STEPS") && bisect.contains("shard bisect reset") && !bisect.contains("reset(1)"),
        "{bisect}"
    );
    let diff = place.ok(&["man", "diff"]);
    assert!(diff.contains("\\fB\\-\\-exit\\-code\\fR") && diff.contains("[possible values: name, change]"), "{diff}");
}

#[test]
fn pages_replace_those_that_are_there() {
    let place = Place::new();
    place.write("man1/shard.1", b"old");
    place.write("man1/other.1", b"of another program");
    assert_eq!(place.ok(&["-q", "man", "--all", "-o", "man1"]), "");
    assert_eq!(place.read("man1/shard.1"), place.ok(&["man"]).as_bytes());
    assert_eq!(place.read("man1/other.1"), b"of another program");
    let json = place.json(&["man", "--all", "-o", "man1"]);
    assert_eq!(json["output"], "man1");
    assert_eq!(json["written"].as_array().unwrap().len(), commands(&place).len() + 1);
    assert_eq!(json["written"][0], format!("man1{}shard.1", std::path::MAIN_SEPARATOR));
}

#[test]
fn what_has_no_page_is_told() {
    let place = Place::new();
    place.write("file", b"x");
    place.fails(&["man", "frobnicate"], 2, &["frobnicate: no such command", "checkout"]);
    place.fails(&["man", "help"], 2, &["help: no such command"]);
    place.fails(&["man", "--all", "-o", "file"], 2, &["file: is no folder"]);
    place.fails(&["man", "--all", "-o", "file/below"], 6, &["file/below: cannot make the folder"]);
    for wrong in [&["man", "--all"][..], &["man", "-o", "x"], &["man", "--all", "-o", "x", "diff"]] {
        assert_eq!(place.run(wrong).code, 2, "{wrong:?}");
    }
    assert!(!place.path().join("x").exists());
    place.write("taken/shard.1/x", b"x");
    place.fails(&["man", "--all", "-o", "taken"], 6, &["shard.1: cannot write"]);
    // Neither is JSON, and what is asked for JSON must not get anything else.
    for args in [&["man", "--json"][..], &["man", "diff", "--json"], &["completions", "bash", "--json"]] {
        let run = place.run(args);
        assert_eq!((run.code, run.out.as_str()), (2, ""), "{args:?}");
        assert!(run.err.contains("is not JSON") && run.err.contains("without --json"), "{args:?}: {}", run.err);
    }
}
