use super::*;

#[test]
fn twins_are_the_commits_of_git() {
    let bench = Bench::new();
    bench.hub.set_large_file_threshold(1000).unwrap();
    let large = noise(1000, 2);
    bench.add(&[
        ("a/b/c", b"deep"),
        ("a.b", b"dot"),
        ("a0", b"zero"),
        ("large.bin", &large),
        ("small.bin", &large[..999]),
    ]);
    let request = CommitRequest {
        author: Some("Ada <ada@example.com>".to_owned()),
        description: Some("Why".to_owned()),
        ..CommitRequest::new("Second")
    };
    let operations = vec![CommitOperation::delete("a.b"), CommitOperation::add("a/new", b"n".as_slice())];
    let info = bench.hub.create_commit(operations, &request, &NoProgress).unwrap();

    // The same by Git, from files on disk.
    let work = bench.place("work");
    fs::create_dir(&work).unwrap();
    let run = |args: &[&str], input: Option<&str>| {
        let mut command = Command::new("git");
        command.current_dir(&work).args(args);
        for (name, value) in [("NAME", "Ada"), ("EMAIL", "ada@example.com")] {
            command.env(format!("GIT_AUTHOR_{name}"), value).env(format!("GIT_COMMITTER_{name}"), value);
        }
        let commit = bench.hub.read_commit(info.id).unwrap();
        let date = format!("{} +0000", commit.time().unwrap().unix_seconds());
        command.env("GIT_AUTHOR_DATE", &date).env("GIT_COMMITTER_DATE", &date);
        let file = bench.place("input");
        fs::write(&file, input.unwrap_or_default()).unwrap();
        let out = command.stdin(fs::File::open(file).unwrap()).output().unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    };
    run(&["init", "-q"], None);
    run(&["config", "core.autocrlf", "false"], None);
    bench.hub.snapshot_download(None, Some(&work), &PathFilter::default(), &NoProgress).unwrap();
    fs::remove_dir_all(work.join(".cache")).unwrap();
    let pointer = git::lfs_pointer(&shard_core::sha256(&large), 1000);
    fs::write(work.join("large.bin"), pointer).unwrap();
    run(&["add", "-A"], None);
    let tree = run(&["write-tree"], None);
    let parent = bench.hub.twin(info.parent.unwrap()).unwrap();
    // The parent is there by its id alone, as commit-tree asks for one that is.
    let made = bench.hub.read_commit(info.parent.unwrap()).unwrap();
    let mut twins = twin::Twins::new(&bench.hub).unwrap();
    let parent_tree = twins.tree(made.tree).unwrap();
    let bytes = git::commit_bytes(&made, &parent_tree, &[]);
    let written =
        run(&["hash-object", "-t", "commit", "-w", "--stdin", "--literally"], Some(&String::from_utf8(bytes).unwrap()));
    assert_eq!(written, parent.to_hex());
    let expected = run(&["commit-tree", &tree, "-p", &written], Some("Second\n\nWhy\n"));
    assert_eq!(info.twin.to_hex(), expected);

    let listed = run(&["ls-tree", "-r", "-t", &tree], None);
    let options = ListOptions { recursive: true, git_ids: true, ..ListOptions::default() };
    let ours = bench.hub.list_repo_tree(None, None, options).unwrap().into_iter().map(|entry| match entry {
        RepoEntry::File(file) => format!("{} blob {}\t{}", file.mode.as_str(), file.blob_id.unwrap(), file.path),
        RepoEntry::Folder(folder) => format!("040000 tree {}\t{}", folder.tree_id.unwrap(), folder.path),
    });
    let (mut ours, mut theirs): (Vec<String>, Vec<String>) =
        (ours.collect(), listed.lines().map(str::to_owned).collect());
    ours.sort();
    theirs.sort();
    assert_eq!(ours, theirs);

    // Ids of Git name the commits, with and without the cache, also from a handle that knows nothing.
    assert_eq!(bench.hub.resolve(&info.twin.to_hex()).unwrap(), info.id);
    assert_eq!(bench.hub.resolve(&format!("{}~1", info.twin)).unwrap(), info.parent.unwrap());
    for entry in fs::read_dir(bench.hub.dir().join("cache")).unwrap() {
        let place = entry.unwrap().path();
        if place.to_string_lossy().contains("twins") {
            fs::remove_file(place).unwrap();
        }
    }
    let fresh = Repository::discover(&bench.hub.dir(), Settings::default()).unwrap();
    assert_eq!(fresh.resolve(&parent.to_hex()).unwrap(), info.parent.unwrap());
    assert_eq!(fresh.twin(info.id).unwrap(), info.twin);
    assert!(fresh.resolve(&"0".repeat(40)).is_err());
    assert!(fresh.set_large_file_threshold(5).is_err());
    assert!(matches!(fresh.large_file_threshold(), Ok(1000)));
    let RepoEntry::File(file) = &fresh.get_paths_info(&["large.bin"], None, options).unwrap()[0] else { panic!() };
    assert_eq!((file.lfs.unwrap().size, file.etag()), (1000, file.sha256.to_hex()));
}

#[test]
fn listings_say_the_last_commit() {
    let bench = Bench::new();
    let first = bench.add(&[("a/x", b"1"), ("a/y", b"1"), ("b", b"1")]);
    let second = bench.add(&[("a/x", b"2")]);
    bench.hub.create_branch("side", "main").unwrap();
    let side =
        bench.hub.upload_file("c", b"1".as_slice(), &CommitRequest::new("Side").on("side"), &NoProgress).unwrap();
    let third = bench.add(&[("b", b"2")]);
    let last = |revision: &str, path: &str| {
        let options = ListOptions { recursive: true, last_commit: true, ..ListOptions::default() };
        let entries = bench.hub.list_repo_tree(None, Some(revision), options).unwrap();
        entries.into_iter().find(|entry| entry.path() == path).map(|entry| match entry {
            RepoEntry::File(file) => file.last_commit.unwrap().id,
            RepoEntry::Folder(folder) => folder.last_commit.unwrap().id,
        })
    };
    assert_eq!(last("main", "a"), Some(second.id));
    assert_eq!(last("main", "a/x"), Some(second.id));
    assert_eq!(last("main", "a/y"), Some(first.id));
    assert_eq!(last("main", "b"), Some(third.id));
    assert_eq!((last("side", "b"), last("side", "c")), (Some(first.id), Some(side.id)));
    let entries = bench.hub.list_repo_tree(Some("a/"), None, ListOptions::default()).unwrap();
    assert_eq!(entries.iter().map(RepoEntry::path).collect::<Vec<_>>(), ["a/x", "a/y"]);
    for path in ["b", "nowhere"] {
        assert!(matches!(
            bench.hub.list_repo_tree(Some(path), None, ListOptions::default()),
            Err(RepoError::NoSuchPath { .. })
        ));
    }
    let found = bench.hub.get_paths_info(&["b", "nowhere", "a", "b"], None, ListOptions::default()).unwrap();
    assert_eq!(found.iter().map(RepoEntry::path).collect::<Vec<_>>(), ["b", "a", "b"]);
    let info = bench.hub.repo_info(None).unwrap();
    assert_eq!((info.head, info.refs.len(), info.default_branch.as_str()), (Some(third.id), 2, "main"));
}

#[test]
fn ranges_read_only_what_they_overlap() {
    let bench = Bench::new();
    let bytes = noise((9 << 20) + 5, 3);
    bench.add(&[("big.bin", &bytes)]);
    let entry = bench.hub.file_of("big.bin", None).unwrap();
    let manifest = bench.hub.manifest(entry.manifest).unwrap();
    let blocks: Vec<_> = manifest.blocks().collect();
    assert!(blocks.len() > 2);
    let len = bytes.len() as u64;
    for (start, wanted) in
        [(0, 10), (len - 3, 10), (blocks[1].file_offset - 2, 4), (1, len), (len, 1), (len + 5, 2), (7, 0)]
    {
        let expected = &bytes[(start.min(len) as usize)..(start.saturating_add(wanted).min(len) as usize)];
        assert!(bench.hub.read_range("big.bin", start, wanted, None).unwrap() == expected, "{start} {wanted}");
    }
    let mut file = bench.hub.open_file("big.bin", None).unwrap();
    let mut tail = Vec::new();
    file.seek(SeekFrom::End(-(6 << 20))).unwrap();
    file.read_to_end(&mut tail).unwrap();
    assert!(tail == bytes[bytes.len() - (6 << 20)..]);
    assert!(file.seek(SeekFrom::Current(-(100 << 20))).is_err());
    file.seek(SeekFrom::Start(len + 9)).unwrap();
    assert_eq!(file.read(&mut [0; 9]).unwrap(), 0);

    // With its last block damaged, whatever lies before it can still be read.
    let pack = fs::read_dir(bench.hub.dir().join("packs")).unwrap().next().unwrap().unwrap().path();
    let last = blocks.last().unwrap();
    let mut stored = fs::read(&pack).unwrap();
    let needle = &bytes[last.file_offset as usize..last.file_offset as usize + 64];
    let at = stored.windows(64).position(|window| window == needle).unwrap();
    stored[at] ^= 1;
    fs::remove_file(&pack).unwrap();
    fs::write(&pack, stored).unwrap();
    let fresh = Repository::discover(&bench.hub.dir(), Settings::default()).unwrap();
    assert!(fresh.read_range("big.bin", 0, last.file_offset, None).unwrap() == bytes[..last.file_offset as usize]);
    assert!(fresh.read_range("big.bin", last.file_offset, 1, None).is_err());
    assert!(fresh.hf_hub_download("big.bin", None, None).is_err());
}

#[test]
fn compressed_files_are_read_whole_and_in_part() {
    let bench = Bench::new();
    let values: Vec<u8> = (0..400_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> (13 + i % 11)) as u8).collect();
    let file = zip(&[("w.npy", &npy(&values), 6)]);
    bench.add(&[("w.npz", &file)]);
    let entry = bench.hub.file_of("w.npz", None).unwrap();
    assert!(!bench.hub.manifest(entry.manifest).unwrap().compressed.is_empty());
    assert!(bench.hub.read_bytes("w.npz", None).unwrap() == file);
    assert!(bench.hub.read_range("w.npz", 1000, 500, None).unwrap() == file[1000..1500]);
    assert_eq!(bench.hub.twin(bench.hub.resolve("main").unwrap()).unwrap().to_hex().len(), 40);
    assert_eq!(fs::read_dir(bench.hub.dir().join("tmp")).unwrap().count(), 0, "no copy is left");
}
