use super::*;
use proptest::prelude::*;
use shard_core::sha256;

/// A file whose content is a text; `*` at its end makes it executable, `@` a symbolic link.
fn file(content: &str) -> FileEntry {
    let (content, mode) = match (content.strip_suffix('*'), content.strip_suffix('@')) {
        (Some(content), _) => (content, FileMode::Executable),
        (_, Some(content)) => (content, FileMode::Symlink),
        _ => (content, FileMode::Regular),
    };
    let (sha256, manifest) = (sha256(content.as_bytes()), sha256(format!("{content}, parsed").as_bytes()));
    FileEntry { mode, size: content.len() as u64, sha256, manifest }
}

/// A tree from `path=content` words.
fn tree(text: &str) -> FileTree {
    let mut tree = FileTree::new();
    for (path, content) in text.split_whitespace().map(|word| word.split_once('=').unwrap()) {
        tree.insert(path, file(content)).unwrap();
    }
    tree
}

fn merged(base: &FileTree, ours: &FileTree, theirs: &FileTree) -> FileMerge {
    merge_files(Merge { base, ours, theirs }).unwrap()
}

/// The paths that merged, and each conflict as `kind path` or `kind path related`.
fn check(base: &str, ours: &str, theirs: &str, expected: &str, conflicts: &[&str]) {
    let (base, ours, theirs) = (tree(base), tree(ours), tree(theirs));
    let forth = merged(&base, &ours, &theirs);
    assert_eq!(forth.tree, tree(expected));
    let found: Vec<String> = forth.conflicts.iter().map(line).collect();
    assert_eq!(found, conflicts);
    for conflict in &forth.conflicts {
        let at = |tree: &FileTree| tree.get(&conflict.path).copied();
        assert_eq!(conflict.entries, Merge { base: at(&base), ours: at(&ours), theirs: at(&theirs) });
    }
    assert_eq!(swapped(merged(&base, &theirs, &ours)), forth);
}

fn line(conflict: &FileConflict) -> String {
    let related = conflict.related_path.as_ref().map(|path| format!(" {path}")).unwrap_or_default();
    format!("{} {}{related}", conflict.kind.as_str(), conflict.path)
}

fn swapped(merge: FileMerge) -> FileMerge {
    let conflicts = merge.conflicts.into_iter();
    let conflicts = conflicts.map(|conflict| FileConflict { entries: conflict.entries.swap(), ..conflict });
    FileMerge { tree: merge.tree, conflicts: conflicts.collect() }
}

#[test]
fn a_path_is_taken_from_the_side_that_changed_it() {
    let base = "same=1 ours=1 theirs=1 alike=1 gone=1 gone2=1 both_gone=1";
    let ours = "same=1 ours=2 theirs=1 alike=2 gone2=1 new=1 new_alike=1";
    let theirs = "same=1 ours=1 theirs=2 alike=2 gone=1 new2=2 new_alike=1";
    check(base, ours, theirs, "same=1 ours=2 theirs=2 alike=2 new=1 new2=2 new_alike=1", &[]);
}

#[test]
fn conflicts_of_content() {
    check("", "a=1 b=1", "a=2", "b=1", &["add/add a"]);
    check("a=1 b=1", "a=2 b=1", "b=1", "b=1", &["delete/modify a"]);
    check("a=1 b=1", "a=2 b=1", "a=3 b=2", "b=2", &["modify/modify a"]);
}

#[test]
fn modes_are_merged_apart_from_content() {
    check("a=1", "a=1*", "a=2", "a=2*", &[]);
    check("a=1*", "a=1", "a=2*", "a=2", &[]);
    check("a=1", "a=2*", "a=2", "a=2*", &[]);
    check("", "a=1*", "a=1", "", &["mode a"]);
    check("a=1", "a=1*", "a=1@", "", &["mode a"]);
    check("a=1", "a=1@", "a=2", "", &["mode a"]);
    check("a=1", "a=2@", "a=1", "a=2@", &[]);
    check("a=1", "a=2@", "a=3", "", &["modify/modify a"]);
}

#[test]
fn renames_are_named_but_not_followed() {
    check("a=1 c=2", "x/a=1 c=2", "a=2 c=2", "x/a=1 c=2", &["delete/modify a x/a"]);
    check("a=1 b=2", "a2=1 b=3", "a=4 b2=2", "a2=1 b2=2", &["delete/modify a a2", "delete/modify b b2"]);
    // Renamed and changed as well: nothing tells where it went.
    check("a=1", "b=3", "a=2", "b=3", &["delete/modify a"]);
}

#[test]
fn a_file_against_a_directory() {
    check("", "a=1", "a/b=2 a/c=3", "a/b=2 a/c=3", &["file/directory a a/b"]);
    // What is between a directory and its files in the order of bytes does not hide it.
    check("", "a=1 a.x=1 a-x=1", "a/b=2", "a.x=1 a-x=1 a/b=2", &["file/directory a a/b"]);
    check("", "a/b=1 z=1", "a/b/c/d=2", "a/b/c/d=2 z=1", &["file/directory a/b a/b/c/d"]);
    // One side made a directory of it: no conflict, unless the other changed it.
    check("a=1", "a=1", "a/x=1", "a/x=1", &[]);
    check("a=1", "a=2", "a/x=3", "a/x=3", &["file/directory a a/x"]);
    check("a/x=1 a/y=1", "a=2", "a/x=1 a/y=1", "a=2", &[]);
    let conflicts = ["file/directory a a/x", "delete/modify a/x"];
    check("a/x=1 a/y=1", "a=2", "a/x=3 a/y=1", "", &conflicts);
}

#[test]
fn paths_that_differ_in_case() {
    check("", "README=1 x=1", "readme=2", "x=1", &["case-fold README readme", "case-fold readme README"]);
    check("", "A/b=1", "a/b=1", "", &["case-fold A/b a/b", "case-fold a/b A/b"]);
    check("", "A/b=1 A/c=1", "a/d=1", "", &["case-fold A/b a/d", "case-fold A/c a/d", "case-fold a/d A/b"]);
    check("", "A=1", "a/d=1", "", &["case-fold A a/d", "case-fold a/d A"]);
    // Other spelling on one side only is a rename, and what a side has already is not for a merge to refuse.
    check("a=1 x=1", "A=1 x=1", "a=1 x=2", "A=1 x=2", &[]);
    check("a=1 x=1", "a=1 A=1 x=1", "a=1 x=2", "a=1 A=1 x=2", &[]);
    check("", "a=1 A=1", "a=1 x=2", "a=1 A=1 x=2", &[]);
    // Renamed to another spelling on one side, changed on the other.
    check("a=1", "A=1", "a=2", "", &["case-fold A a", "delete/modify a A"]);
    check(
        "d/x=1 d/y=1",
        "D/x=1 D/y=1",
        "d/x=1 d/y=1 d/z=1",
        "",
        &["case-fold D/x d/z", "case-fold D/y d/z", "case-fold d/z D/x"],
    );
}

#[test]
fn paths_that_differ_in_how_characters_are_composed() {
    let (composed, decomposed) = ("caf\u{e9}", "cafe\u{301}");
    let conflicts = [format!("case-fold {decomposed} {composed}"), format!("case-fold {composed} {decomposed}")];
    let conflicts = conflicts.each_ref().map(String::as_str);
    check("x=1", &format!("x=1 {composed}=1"), &format!("x=1 {decomposed}=2"), "x=1", &conflicts);
    check(
        "",
        "CAF\u{c9}/a=1",
        "cafe\u{301}/b=1",
        "",
        &["case-fold CAF\u{c9}/a cafe\u{301}/b", "case-fold cafe\u{301}/b CAF\u{c9}/a"],
    );
    check("", "cafe=1", &format!("{composed}=2"), &format!("cafe=1 {composed}=2"), &[]);
}

#[test]
fn of_equal_content_ours_is_kept() {
    let (base, ours, mut theirs) = (tree("a=1"), tree("a=1"), FileTree::new());
    theirs.insert("a", FileEntry { manifest: sha256(b"another parser"), ..file("1") }).unwrap();
    assert_eq!(merged(&base, &ours, &theirs), FileMerge { tree: ours.clone(), conflicts: vec![] });
    assert_eq!(merged(&base, &theirs, &ours).tree, theirs);
}

#[test]
fn many_spellings_take_no_time() {
    // 2^15 spellings of one name on one side.
    let spell = |number: u32| -> String { (0..15).map(|bit| if number >> bit & 1 == 1 { 'A' } else { 'a' }).collect() };
    let mut ours = FileTree::new();
    for number in 1..1 << 15 {
        ours.insert(&spell(number), file("1")).unwrap();
    }
    let theirs = tree(&format!("{}=2", spell(0)));
    let merge = merged(&FileTree::new(), &ours, &theirs);
    assert_eq!((merge.conflicts.len(), merge.tree.files().len()), (1 << 15, 0));
}

#[test]
fn words() {
    let words = ConflictKind::ALL.map(ConflictKind::as_str);
    assert_eq!(words, ["add/add", "delete/modify", "modify/modify", "mode", "file/directory", "case-fold"]);
}

fn any_tree() -> impl Strategy<Value = FileTree> {
    prop::collection::btree_map("[abA](/[abB])?", "[xy][*@]?", 0..6).prop_map(|files| {
        let mut tree = FileTree::new();
        for (path, content) in files {
            // Paths that clash with one before are left out.
            let _ = tree.insert(&path, file(&content));
        }
        tree
    })
}

proptest! {
    #[test]
    fn every_path_is_accounted_for(base in any_tree(), ours in any_tree(), theirs in any_tree()) {
        let merge = merged(&base, &ours, &theirs);
        prop_assert_eq!(&swapped(merged(&base, &theirs, &ours)), &merge);
        prop_assert!(merge.conflicts.is_sorted_by(|a, b| a.path < b.path));
        let paths: BTreeSet<&String> =
            [&base, &ours, &theirs].into_iter().flat_map(|tree| tree.files().keys()).collect();
        for path in paths {
            let at = Merge { base: &base, ours: &ours, theirs: &theirs }.map(|tree| tree.get(path).copied());
            let conflict = merge.conflicts.iter().find(|conflict| conflict.path == **path);
            let result = merge.tree.get(path).copied();
            match conflict {
                Some(conflict) => {
                    prop_assert_eq!(conflict.entries, at);
                    prop_assert!(result.is_none() && (at.ours.is_some() || at.theirs.is_some()));
                }
                // A change is never undone: where a side changed content or mode, the result has it.
                None => for side in Side::ALL {
                    let theirs = at.side(side);
                    if theirs.map(|file| file.sha256) != at.base.map(|file| file.sha256) {
                        prop_assert_eq!(result.map(|file| file.sha256), theirs.map(|file| file.sha256));
                    }
                    if theirs.map(|file| file.mode) != at.base.map(|file| file.mode) {
                        prop_assert_eq!(result.map(|file| file.mode), theirs.map(|file| file.mode));
                    }
                },
            }
        }
    }

    #[test]
    fn one_changed_side_is_the_result(base in any_tree(), side in any_tree()) {
        let expected = FileMerge { tree: side.clone(), conflicts: vec![] };
        prop_assert_eq!(&merged(&base, &side, &base), &expected);
        prop_assert_eq!(&merged(&base, &base, &side), &expected);
        prop_assert_eq!(&merged(&base, &side, &side), &expected);
    }

    #[test]
    fn what_merged_merges_again(base in any_tree(), ours in any_tree(), theirs in any_tree()) {
        let merge = merged(&base, &ours, &theirs);
        if merge.conflicts.is_empty() {
            prop_assert_eq!(merged(&theirs, &merge.tree, &theirs), merge);
        }
    }
}
