use super::*;

fn rewrite(place: &Path, bytes: &[u8]) {
    fs::remove_file(place).unwrap();
    fs::write(place, bytes).unwrap();
}

#[test]
fn views_are_trusted_by_their_stat_and_rebuilt_where_damaged() {
    let bench = Bench::new();
    bench.add(&[("a/b.txt", b"right"), ("c.txt", b"c")]);
    let file = bench.hub.hf_hub_download("a/b.txt", None, None).unwrap();
    assert!(file.ends_with("a/b.txt") && file.starts_with(bench.hub.dir().join("cache/files")));
    let inode = |place: &Path| shard_store::FileStat::new(&fs::metadata(place).unwrap()).inode;
    let before = inode(&file);
    assert_eq!(bench.hub.hf_hub_download("a/b.txt", None, None).unwrap(), file);
    assert_eq!(inode(&file), before, "what is right is left");
    for damage in [b"wrong".as_slice(), b"longer than it was", b""] {
        rewrite(&file, damage);
        assert_eq!(bench.hub.hf_hub_download("a/b.txt", None, None).unwrap(), file);
        assert_eq!(fs::read(&file).unwrap(), b"right");
    }
    // What is done to a view is done to it alone.
    assert_eq!(bench.hub.read_bytes("a/b.txt", None).unwrap(), b"right");
    fs::remove_dir_all(bench.hub.dir().join("cache/files")).unwrap();
    assert_eq!(fs::read(bench.hub.hf_hub_download("a/b.txt", None, None).unwrap()).unwrap(), b"right");

    let all = PathFilter::default();
    let snapshot = bench.hub.snapshot_download(None, None, &all, &NoProgress).unwrap();
    rewrite(&snapshot.join("a/b.txt"), b"wrong");
    fs::remove_file(snapshot.join("c.txt")).unwrap();
    let record = snapshot.with_extension("json");
    for bad in [b"{".as_slice(), b"", b"{\"version\":1,\"files\":{\"c.txt\":[1]}}", b"[]"] {
        rewrite(&record, bad);
        assert_eq!(bench.hub.snapshot_download(None, None, &all, &NoProgress).unwrap(), snapshot);
        assert_eq!(fs::read(snapshot.join("a/b.txt")).unwrap(), b"right");
        assert_eq!(fs::read(snapshot.join("c.txt")).unwrap(), b"c");
    }
    let some = PathFilter { allow: Some(vec!["*.md".to_owned(), "a/".to_owned()]), ..all };
    let part = bench.hub.snapshot_download(None, None, &some, &NoProgress).unwrap();
    assert!(part != snapshot && part.join("a/b.txt").exists() && !part.join("c.txt").exists());
}

#[test]
fn local_folders_keep_what_is_theirs() {
    let bench = Bench::new();
    bench.add(&[("a/b.txt", b"right"), ("c.txt", b"c")]);
    let out = bench.place("out");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("stranger"), "s").unwrap();
    let all = PathFilter::default();
    assert_eq!(bench.hub.snapshot_download(None, Some(&out), &all, &NoProgress).unwrap(), out);
    assert_eq!(fs::read(out.join("stranger")).unwrap(), b"s");
    bench.add(&[("c.txt", b"new")]);
    assert_eq!(bench.hub.hf_hub_download("c.txt", None, Some(&out)).unwrap(), out.join("c.txt"));
    assert_eq!(
        (fs::read(out.join("c.txt")).unwrap(), fs::read(out.join("a/b.txt")).unwrap()),
        (b"new".to_vec(), b"right".to_vec())
    );
    let record = fs::read_to_string(out.join(".cache/shard/view.json")).unwrap();
    assert!(record.contains("a/b.txt") && record.contains("c.txt"), "{record}");
    for inside in [
        bench.hub.dir(),
        bench.hub.dir().join("new/folder"),
        bench.place("out/../hub/x"),
        bench.place("nowhere/../hub/x"),
    ] {
        let refused = bench.hub.snapshot_download(None, Some(&inside), &all, &NoProgress);
        assert!(matches!(refused, Err(RepoError::Argument(_))), "{inside:?}: {refused:?}");
    }
    bench.add(&[(".cache/shard/view.json", b"{}")]);
    assert!(matches!(bench.hub.snapshot_download(None, Some(&out), &all, &NoProgress), Err(RepoError::Path { .. })));
}

#[cfg(unix)]
#[test]
fn fault_29_views_are_not_written_through_links() {
    use std::os::unix::fs::symlink;
    let bench = Bench::new();
    bench.add(&[("a/b.txt", b"right"), ("c.txt", b"c")]);
    let (out, elsewhere) = (bench.place("out"), bench.place("elsewhere"));
    fs::create_dir(&elsewhere).unwrap();
    fs::create_dir(&out).unwrap();
    fs::write(elsewhere.join("c.txt"), b"c").unwrap();
    symlink(&elsewhere, out.join("a")).unwrap();
    let refused = bench.hub.snapshot_download(None, Some(&out), &PathFilter::default(), &NoProgress);
    assert!(matches!(refused, Err(RepoError::InTheWay { .. })), "{refused:?}");
    assert!(!elsewhere.join("b.txt").exists());
    // A link to the right bytes is replaced, and what it led to stays.
    fs::remove_file(out.join("a")).unwrap();
    let _ = fs::remove_file(out.join("c.txt"));
    symlink(elsewhere.join("c.txt"), out.join("c.txt")).unwrap();
    bench.hub.snapshot_download(None, Some(&out), &PathFilter::default(), &NoProgress).unwrap();
    assert!(fs::symlink_metadata(out.join("c.txt")).unwrap().is_file());
    assert!(elsewhere.join("c.txt").exists());
    // The record's own folder may be no link either.
    fs::remove_dir_all(out.join(".cache")).unwrap();
    symlink(&elsewhere, out.join(".cache")).unwrap();
    assert!(bench.hub.snapshot_download(None, Some(&out), &PathFilter::default(), &NoProgress).is_err());
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 1);
}

#[cfg(unix)]
#[test]
fn fault_30_views_share_no_file_with_the_store() {
    use std::os::unix::fs::MetadataExt as _;
    let bench = Bench::new();
    // Stored as it is, since noise cannot be compressed.
    let bytes = noise(1 << 20, 4);
    bench.add(&[("model.bin", &bytes)]);
    let cached = bench.hub.hf_hub_download("model.bin", None, None).unwrap();
    let local = bench.hub.hf_hub_download("model.bin", None, Some(&bench.place("out"))).unwrap();
    let all = PathFilter::default();
    let snapshot = bench.hub.snapshot_download(None, None, &all, &NoProgress).unwrap().join("model.bin");
    for place in [cached, local, snapshot] {
        let metadata = fs::symlink_metadata(&place).unwrap();
        assert!(metadata.is_file() && metadata.nlink() == 1, "{place:?}");
        // In place, as a program that opens it for writing does.
        let mut file = fs::OpenOptions::new().write(true).open(&place).unwrap();
        std::io::Write::write_all(&mut file, b"scribbled").unwrap();
    }
    assert!(bench.hub.read_bytes("model.bin", None).unwrap() == bytes);
    assert!(bench.hub.verify(true, &NoProgress).unwrap().problems.is_empty());
}

#[test]
fn a_collection_removes_views_where_that_is_asked_for() {
    let bench = Bench::new();
    bench.add(&[("a/b.txt", b"right"), ("c.txt", b"c")]);
    let options = crate::GcOptions::default();
    let file = bench.hub.hf_hub_download("a/b.txt", None, None).unwrap();
    let snapshot = bench.hub.snapshot_download(None, None, &PathFilter::default(), &NoProgress).unwrap();
    let overview = bench.hub.storage_overview(&options).unwrap();
    assert!(overview.reclaimable_cache_size > 5 + 5, "{overview:?}");
    bench.hub.gc(&options, &NoProgress).unwrap();
    assert!(file.exists() && snapshot.exists());

    let options = crate::GcOptions { prune_cache: true, ..options };
    let plan = bench.hub.plan_gc(&options).unwrap();
    assert_eq!(plan.view_bytes, overview.reclaimable_cache_size);
    assert!(file.exists(), "a plan removes nothing");
    let report = bench.hub.gc(&options, &NoProgress).unwrap();
    assert_eq!((report.view_files, report.view_bytes), (plan.view_files, plan.view_bytes));
    assert!(report.freed_bytes() >= report.view_bytes);
    assert!(!file.exists() && !snapshot.exists());
    assert_eq!(bench.hub.storage_overview(&options).unwrap().reclaimable_cache_size, 0);
    assert_eq!(fs::read(bench.hub.hf_hub_download("a/b.txt", None, None).unwrap()).unwrap(), b"right");
}
