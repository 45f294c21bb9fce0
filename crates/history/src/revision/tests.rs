use super::*;
use proptest::prelude::*;
use shard_core::sha256;
use std::collections::HashMap;

fn revision(name: &str, steps: &[Step]) -> Revision {
    Revision { name: name.to_owned(), moves_back: None, steps: steps.to_vec() }
}

#[test]
fn texts_and_what_they_mean() {
    use Step::{Back, Parent};
    for (text, name, steps) in [
        ("HEAD", "HEAD", &[][..]),
        ("@", "HEAD", &[]),
        ("@~2", "HEAD", &[Back(2)]),
        ("feature/x", "feature/x", &[]),
        ("v1.0^", "v1.0", &[Parent(1)]),
        ("main^^", "main", &[Parent(1), Parent(1)]),
        ("main^2~3^0~", "main", &[Parent(2), Back(3), Parent(0), Back(1)]),
        ("0123abcd", "0123abcd", &[]),
        ("user@host", "user@host", &[]),
    ] {
        assert_eq!(RevisionSpec::parse(text), Ok(RevisionSpec::Commit(revision(name, steps))), "{text}");
    }
    let logged = Revision { moves_back: Some(12), ..revision("main", &[Back(1)]) };
    assert_eq!(RevisionSpec::parse("main@{12}~"), Ok(RevisionSpec::Commit(logged.clone())));
    assert_eq!(RevisionSpec::parse("main@{12}~:a"), Ok(RevisionSpec::Path(logged.clone(), "a".to_owned())));
    assert_eq!(logged.to_string(), "main@{12}~1");
    assert_eq!(Revision::parse("@@{0}"), Ok(Revision { moves_back: Some(0), ..Revision::head() }));
    let path = |path: &str| Ok(RevisionSpec::Path(revision("main", &[Back(1)]), path.to_owned()));
    assert_eq!(RevisionSpec::parse("main~:a/b..c.bin"), path("a/b..c.bin"));
    assert_eq!(RevisionSpec::parse("main~:dir/"), path("dir"));
    assert_eq!(RevisionSpec::parse("main~:"), path(""));
    let range = |from: &str, to: &str| Ok(RevisionSpec::Range(revision(from, &[]), revision(to, &[])));
    assert_eq!(RevisionSpec::parse("v1.0..main"), range("v1.0", "main"));
    assert_eq!(RevisionSpec::parse("..main"), range("HEAD", "main"));
    assert_eq!(RevisionSpec::parse("main.."), range("main", "HEAD"));
    assert_eq!(revision("main", &[Parent(2), Back(3)]).to_string(), "main^2~3");
    assert_eq!(Revision::head().to_string(), "HEAD");
}

#[test]
fn texts_that_mean_nothing() {
    for text in [
        "",
        "~",
        "^1",
        ":x",
        "a b",
        "a..b..c",
        "a...b",
        "main~1x",
        "main^-1",
        "main~99999999999",
        "main@{",
        "main@{x}",
        "main@{-1}",
        "main@{}",
        "main@{1}x",
        "main@{1}@{1}",
        "main~1@{1}",
        "main@{99999999999999999999999}",
        "@{1}",
        "-main",
        "a//b",
        ".a",
        "a.lock",
        "a.",
        "/a",
        "a/",
        "a\u{7f}",
        "main:/x",
        "main:../x",
        "main:.git/config",
        "a..b:c",
        "é~é",
        &"x".repeat(2000),
    ] {
        assert!(matches!(RevisionSpec::parse(text), Err(RevisionError::Syntax { .. })), "{text}");
    }
}

#[test]
fn names_of_refs() {
    for name in ["main", "feature/x.y", "v1.0", "日本", "a@b", "HEAD", "x{y"] {
        assert_eq!(validate_ref_name(name), Ok(()), "{name}");
    }
    for name in
        ["", "@", "-a", "a..b", "a b", "a~", "a^", "a:", "a?", "a*", "a[", "a\\", "a@{", "a/.b", "a.lock/b", "a."]
    {
        assert_eq!(validate_ref_name(name), Err(HistoryError::RefName(name.to_owned())));
    }
}

/// A repository of a line of four commits and a merge of the last two.
#[derive(Default)]
struct Repository {
    head: Option<Digest>,
    refs: HashMap<String, Digest>,
    parents: HashMap<Digest, Vec<Digest>>,
}

impl Resolver for Repository {
    type Error = String;

    fn head(&mut self) -> Result<Option<Digest>, String> {
        Ok(self.head)
    }

    fn reference(&mut self, kind: RefKind, name: &str) -> Result<Option<Digest>, String> {
        if name == "broken" {
            return Err("cannot be read".to_owned());
        }
        Ok(self.refs.get(&format!("{}{name}", kind.prefix())).copied())
    }

    fn logged(&mut self, name: &str, moves: usize) -> Result<Option<Digest>, String> {
        // The log of main goes back along the line.
        if name != "main" {
            return Err(format!("{name} has no log"));
        }
        Ok(u8::try_from(moves).ok().and_then(|moves| 4_u8.checked_sub(moves)).map(commit))
    }

    fn commits_with_prefix(&mut self, digits: &str) -> Result<Vec<Digest>, String> {
        let mut found: Vec<Digest> =
            self.parents.keys().filter(|id| id.to_hex().starts_with(digits)).copied().collect();
        found.sort_unstable();
        Ok(found)
    }

    fn parents(&mut self, commit: &Digest) -> Result<Vec<Digest>, String> {
        self.parents.get(commit).cloned().ok_or_else(|| "missing".to_owned())
    }
}

fn commit(number: u8) -> Digest {
    let mut id = sha256(&[number]);
    // All begin alike, to be ambiguous.
    id.0[..3].copy_from_slice(&[0xab, 0xcd, 0xef]);
    id
}

fn repository() -> Repository {
    let mut repository = Repository { head: Some(commit(4)), ..Repository::default() };
    for number in 1..=3 {
        repository.parents.insert(commit(number), vec![commit(number - 1)]);
    }
    repository.parents.insert(commit(0), vec![]);
    repository.parents.insert(commit(4), vec![commit(3), commit(1)]);
    for (name, number) in [
        ("refs/heads/main", 4),
        ("refs/heads/both", 1),
        ("refs/tags/both", 2),
        ("refs/tags/v1", 3),
        ("refs/remotes/origin/main", 2),
        ("refs/heads/abcdef", 0),
        ("refs/heads/heads/x", 1),
    ] {
        repository.refs.insert(name.to_owned(), commit(number));
    }
    repository
}

fn resolve(text: &str) -> Result<Digest, ResolveError<String>> {
    Revision::parse(text).unwrap().resolve(&mut repository())
}

#[test]
fn resolution() {
    let one = commit(1).to_hex();
    for (text, number) in [
        ("HEAD", 4),
        ("@^", 3),
        ("@^2", 1),
        ("main~2", 2),
        ("main^2~1", 0),
        ("main^0", 4),
        ("main~0", 4),
        ("v1", 3),
        ("tags/both", 2),
        ("heads/both", 1),
        ("refs/heads/both", 1),
        ("refs/tags/both~1", 1),
        ("origin/main", 2),
        ("remotes/origin/main", 2),
        ("heads/x", 1),
        ("abcdef", 0),
        ("main@{0}", 4),
        ("main@{3}", 1),
        ("main@{1}~2", 1),
        (one.as_str(), 1),
        (&one[..12], 1),
        (&one[..12].to_uppercase(), 1),
    ] {
        assert_eq!(resolve(text), Ok(commit(number)), "{text}");
    }
}

#[test]
fn resolution_that_fails() {
    let error = |text: &str| match resolve(text) {
        Err(ResolveError::Revision(error)) => error,
        other => panic!("{text}: {other:?}"),
    };
    for text in ["nothing", "refs/heads/v1", "abc", "0000", "refs/other/x", &sha256(b"x").to_hex()] {
        assert_eq!(error(text), RevisionError::Unknown(text.to_owned()));
    }
    let both = ["refs/tags/both".to_owned(), "refs/heads/both".to_owned()];
    let ambiguous = error("both");
    assert_eq!(ambiguous, RevisionError::Ambiguous { name: "both".to_owned(), candidates: both.to_vec() });
    assert_eq!(ambiguous.to_string(), "\"both\" is ambiguous: it may be refs/tags/both, refs/heads/both");
    assert!(matches!(error("abcd"), RevisionError::Ambiguous { candidates, .. } if candidates.len() == 5));
    let no_parent = RevisionError::NoParent { revision: "main~9".to_owned(), commit: commit(0) };
    assert_eq!(error("main~9"), no_parent);
    assert!(matches!(error("main^3"), RevisionError::NoParent { .. }));
    assert_eq!(resolve("broken"), Err(ResolveError::Resolver("cannot be read".to_owned())));
    assert_eq!(error("main@{5}~1"), RevisionError::NotInLog("main@{5}".to_owned()));
    assert_eq!(resolve("v1@{0}"), Err(ResolveError::Resolver("v1 has no log".to_owned())));
    let unborn = Revision::head().resolve(&mut Repository::default());
    assert_eq!(unborn, Err(ResolveError::Revision(RevisionError::Unborn)));
}

proptest! {
    #[test]
    fn any_text_is_parsed_or_refused(text in "([a-c@.:/^~0-9{}]|@\\{1}|\\.\\.|HEAD|é){0,12}") {
        match RevisionSpec::parse(&text) {
            Ok(RevisionSpec::Commit(revision) | RevisionSpec::Path(revision, _) | RevisionSpec::Range(revision, _)) => {
                prop_assert_eq!(Revision::parse(&revision.to_string()), Ok(revision));
            }
            Err(error) => {
                let refused = matches!(error, RevisionError::Syntax { .. });
                prop_assert!(refused, "{error:?}");
            }
        }
    }
}
