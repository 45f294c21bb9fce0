use shard_history::{Commit, Tree, TreeNode};
use shard_store::{EntryKind, RefUpdate, Target, timestamp};

use super::*;
use crate::snapshot::put_object;

#[test]
fn a_folder_is_copied_as_if_its_files_were_added() {
    let bench = Bench::new();
    let deep = format!("d/{}file", format!("{}/", "n".repeat(200)).repeat(18));
    bench.add(&[(&deep, b"1"), ("d/Name", b"2")]);
    let tip = bench.hub.resolve("main").unwrap();
    // Paths that are valid apart from the folder that they are copied to.
    let far = format!("{}/{}/{}", "m".repeat(250), "n".repeat(200), "m".repeat(100));
    let too_long = bench.commit(vec![CommitOperation::copy("d", far)]);
    assert!(matches!(too_long, Err(RepoError::BadPath { .. })), "{too_long:?}");
    let clash = bench.commit(vec![CommitOperation::add("e/name", b"3".as_slice()), CommitOperation::copy("d", "e")]);
    assert!(matches!(clash, Err(RepoError::Clash { .. })), "{clash:?}");
    let clash = bench.commit(vec![CommitOperation::copy("d", "D")]);
    assert!(matches!(clash, Err(RepoError::Clash { .. })), "{clash:?}");
    assert_eq!(bench.hub.resolve("main").unwrap(), tip);
    bench.commit(vec![CommitOperation::copy("d", "e")]).unwrap();
    assert_eq!(bench.hub.read_bytes(&deep.replacen('d', "e", 1), None).unwrap(), b"1");
}

/// Makes a branch end at a commit whose folder `half` has so many folders of 1024 files each.
fn plant(bench: &Bench, folders: usize) {
    let first = bench.add(&[("file", b"x")]);
    let hub = &bench.hub;
    let file = hub.files_of(first.id).unwrap().get("file").copied().unwrap();
    let transaction = hub.store.begin("test").unwrap();
    let put = |node: TreeNode, count: usize| {
        let tree = Tree { entries: (0..count).map(|number| (number.to_string(), node)).collect() };
        let (id, bytes) = tree.encode().unwrap();
        put_object(&transaction, EntryKind::Tree, &bytes).unwrap();
        TreeNode::Directory(id)
    };
    let half = put(put(TreeNode::File(file), 1024), folders);
    let root = Tree { entries: [("half".to_owned(), half)].into() };
    let (tree, bytes) = root.encode().unwrap();
    put_object(&transaction, EntryKind::Tree, &bytes).unwrap();
    let commit = Commit {
        tree,
        parents: vec![first.id],
        created_at: timestamp::now(),
        author: None,
        message: "Many".to_owned(),
        records: Vec::new(),
        extra: Default::default(),
    };
    let (id, bytes) = commit.encode().unwrap();
    put_object(&transaction, EntryKind::Commit, &bytes).unwrap();
    let expected = hub.read_ref("heads/main").unwrap();
    let update = RefUpdate { name: "heads/main".to_owned(), expected, target: Target::Commit(id) };
    hub.move_or_lose(&transaction, &[update], "planted").unwrap();
}

#[test]
fn copies_stay_within_what_can_be_read_again() {
    let bench = Bench::new();
    plant(&bench, 512);
    let tip = bench.hub.resolve("main").unwrap();
    // By what one commit copies, and with what is there.
    let twice = vec![CommitOperation::copy("half", "a"), CommitOperation::copy("half", "b")];
    for copies in [twice, vec![CommitOperation::copy("half", "a")]] {
        let refused = bench.commit(copies);
        let is_told = |error: &RepoError| error.to_string().contains("more than 1048576 files and folders");
        assert!(refused.as_ref().is_err_and(is_told), "{refused:?}");
    }
    assert_eq!(bench.hub.resolve("main").unwrap(), tip);
    bench.commit(vec![CommitOperation::copy("half/0", "some")]).unwrap();
    assert_eq!(bench.files().len(), 513 * 1024);
}
