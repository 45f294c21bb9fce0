//! Files that have to be read forever, and that today's code still writes: `tests/fixtures/v1` is a repository of version 1,
//! with every kind of file that is a format. A later version adds a folder; in this one no file ever changes.
//!
//! The first pack, its index file, and one record of each kind but leases are the examples of `docs/format.md`.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use shard_core::limits::Cut;
use shard_core::wire::put_varint;
use shard_core::{Digest, sha256};

use crate::backend::{Backend, Output};
use crate::entry::{EntryKey, EntryKind, EntrySource, Location, PackId};
use crate::epoch::{self, Epoch};
use crate::footer::{Footer, FooterEntry};
use crate::gather::{self, RawFooter};
use crate::lease::Lease;
use crate::memory::MemoryBackend;
use crate::pack::{Object, PackReader, PackWriter, pack_name};
use crate::process::Process;
use crate::{Nonce, RefState, RemoteList, Store, StoreOptions, Target, format, refs, remotes};

const SMALL_PACK: &str = "93097bf3bafc85621b748111e8d9dbf1d3f07177499c5ff74e49c629943736f6";
const LARGE_PACK: &str = "935823c6dd905507f8385b3e1e4eebdff8265a41710a4ba79cd61a10bcb90ac3";
const SKETCH_PACK: &str = "2ca83377f5479a2238b951d22359601f7a19f0f3f5cab13e5e93331d9a8e86ce";
const SMALL_INDEX: &str = "5e18d1621fb54c63950589174d34dbdc193cb3433022869e1d5ef5bd6ed288da";
const LARGE_INDEX: &str = "beaa673d94a1e4c178461f2d651abe18fb42a105b39d6377c6ce794cac4b2543";
const BLOCK: &str = "914e945318501dca8a6ddaa5e5e0d77a09ed24da2832bf6213dbc6fa9d4c6bc4";

/// What a file of a repository says.
#[derive(Debug, PartialEq)]
pub(super) enum Content {
    Format { id: Nonce, cut: Cut },
    Pack { salt: Nonce, footer: Footer, stored: Vec<Vec<u8>> },
    Index(Vec<(Digest, u64, Footer)>),
    Ref(RefState),
    Lease(Lease),
    Epoch(Epoch),
    Remotes(RemoteList),
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1")
}

/// The fixtures by their path in the repository.
pub(super) fn files() -> BTreeMap<String, Vec<u8>> {
    let root = folder();
    let (mut files, mut folders) = (BTreeMap::new(), vec![root.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            files.insert(name, std::fs::read(&path).unwrap());
        }
    }
    files
}

fn kind(path: &str) -> &str {
    path.split('/').next().unwrap()
}

fn backend(files: &BTreeMap<String, Vec<u8>>) -> MemoryBackend {
    let backend = MemoryBackend::new();
    for (path, bytes) in files {
        backend.put_if_absent(path, bytes).unwrap();
    }
    backend
}

fn name_digest(path: &str, extension: &str) -> Digest {
    Digest::from_hex(path.rsplit('/').next().unwrap().strip_suffix(extension).unwrap()).unwrap()
}

/// Reads a file of a repository.
pub(super) fn decode(path: &str, bytes: &[u8]) -> Result<Content, Box<dyn std::error::Error>> {
    Ok(match kind(path) {
        "format" => {
            let (id, cut) = format::decode_format(bytes)?;
            Content::Format { id, cut }
        }
        "packs" => {
            let backend = backend(&BTreeMap::from([(path.to_owned(), bytes.to_vec())]));
            let pack = PackReader::open(Object::new(&backend, path.to_owned()))?;
            assert_eq!(pack.sha256()?, name_digest(path, ".pack"));
            let footer = pack.footer().clone();
            let mut stored = Vec::new();
            for entry in &footer.entries {
                let mut out = Vec::new();
                let FooterEntry { key, offset, stored_len, raw_len, .. } = *entry;
                let location = Location { key, pack: PackId::Archive, offset, stored_len, raw_len, depth: 0 };
                pack.read_stored(&location, &mut out)?;
                stored.push(out);
            }
            Content::Pack { salt: Nonce(bytes[12..28].try_into()?), footer, stored }
        }
        "index" => Content::Index(gather::decode(&name_digest(path, ".idx"), bytes)?),
        "refs" => Content::Ref(RefState::decode(bytes)?),
        "leases" => Content::Lease(Lease::decode(bytes)?),
        "epochs" => Content::Epoch(Epoch::decode(bytes)?),
        "remotes" => Content::Remotes(RemoteList::decode(bytes)?),
        other => panic!("{other} is no format"),
    })
}

/// The file and its path, as they are written today.
pub(super) fn encode(content: &Content) -> (String, Vec<u8>) {
    match content {
        Content::Format { id, cut } => ("format".to_owned(), format::encode_format(*id, *cut)),
        Content::Pack { salt, footer, stored } => {
            let mut pack = PackWriter::new(MemoryBackend::new().create().unwrap(), *salt).unwrap();
            for (entry, stored) in footer.entries.iter().zip(stored) {
                pack.append(&entry.key, stored, entry.raw_len, &entry.bases).unwrap();
            }
            let id = pack.complete().unwrap();
            let (output, _) = pack.into_parts();
            let mut bytes = vec![0; output.len() as usize];
            output.read_at(0, &mut bytes).unwrap();
            (pack_name(&id), bytes)
        }
        Content::Index(packs) => {
            let raw = |(pack, pack_len, footer): &(Digest, u64, Footer)| RawFooter {
                pack: *pack,
                pack_len: *pack_len,
                bytes: footer.encode(),
            };
            let bytes = gather::encode(&packs.iter().map(raw).collect::<Vec<_>>());
            (gather::file_name(&sha256(&bytes)), bytes)
        }
        Content::Ref(state) => (refs::file(&state.name, state.generation), state.encode()),
        Content::Lease(lease) => (lease.file(), lease.encode()),
        Content::Epoch(epoch) => (epoch::file(epoch.number), epoch.encode()),
        Content::Remotes(list) => (remotes::file(list.number), list.encode()),
    }
}

fn hex(text: &str) -> Digest {
    Digest::from_hex(text).unwrap()
}

/// An entry: its kind, what it decodes to, its stored bytes and its bases.
type Entry = (EntryKind, Vec<u8>, Vec<u8>, Vec<Digest>);

/// A pack of these entries, which start at `offsets`.
fn pack(salt: Nonce, entries: Vec<Entry>, offsets: &[u64]) -> Content {
    assert_eq!(entries.len(), offsets.len());
    let (mut footer, mut all_stored) = (Footer::default(), Vec::new());
    for ((kind, decoded, stored, bases), offset) in entries.into_iter().zip(offsets) {
        footer.entries.push(FooterEntry {
            key: EntryKey::new(kind, sha256(&decoded)),
            offset: *offset,
            stored_len: stored.len() as u64,
            raw_len: decoded.len() as u64,
            bases,
        });
        all_stored.push(stored);
    }
    Content::Pack { salt, footer, stored: all_stored }
}

/// An entry that is stored as it is: zero, none, whole, raw.
fn raw(kind: EntryKind, decoded: impl AsRef<[u8]>) -> Entry {
    let decoded = decoded.as_ref();
    let mut stored = vec![1];
    put_varint(&mut stored, decoded.len() as u64);
    stored.extend_from_slice(&[0; 5]);
    stored.extend_from_slice(decoded);
    (kind, decoded.to_vec(), stored, Vec::new())
}

fn small_pack() -> Content {
    pack(Nonce::ZERO, vec![raw(EntryKind::Block, "shard\n")], &[67])
}

/// Blocks with bases in this pack and in another one, and one entry of every other kind but sketches.
fn large_pack() -> Content {
    let first = hex(BLOCK);
    // parent, xor, whole, constant: a short base in another pack.
    let upper = sha256(b"SHARD*");
    let stored = [&[0x11, 6, 0, 1, 1, 0], first.0.as_slice(), &[1, 0x20]].concat();
    let based = (EntryKind::Block, b"SHARD*".to_vec(), stored, vec![first]);
    // The same with a reference to two ranges, one of them in this pack.
    let ranges = [&[0, 2, 1], upper.0.as_slice(), &[0, 3, 1], &first.0, &[3, 3]].concat();
    let stored = [&[0x01, 6, 0, 1, 1, 0], ranges.as_slice(), &[1, 0]].concat();
    let mut bases = vec![upper, first];
    bases.sort_unstable();
    let mixed = (EntryKind::Block, b"SHArd\n".to_vec(), stored, bases);

    let manifest = format!(
        r#"{{"cut":4194304,"format":"opaque","segments":[{{"blocks":["{BLOCK}"],"len":6}}],"sha256":"{BLOCK}","size":6,"tensors":[],"type":"manifest","version":1}}"#
    );
    let manifest_id = sha256(manifest.as_bytes());
    let storage = format!(
        r#"{{"blocks":{{"{BLOCK}":{{"chain":"zero[raw]","depth":0,"pack":"{SMALL_PACK}","raw":6,"stored":13}}}},"manifest":"{manifest_id}","type":"storage","version":1}}"#
    );
    let tree = format!(
        r#"{{"entries":[{{"manifest":"{manifest_id}","mode":"100644","name":"a","sha256":"{BLOCK}","size":6}}],"type":"tree","version":1}}"#
    );
    let commit = format!(
        r#"{{"created_at":"2026-01-01T00:00:00Z","message":"first","parents":[],"tree":"{}","type":"commit","version":1}}"#,
        sha256(tree.as_bytes())
    );
    let tag = format!(
        r#"{{"created_at":"2026-01-01T00:00:00Z","message":"","name":"V1","target":"{}","type":"tag","version":1}}"#,
        sha256(commit.as_bytes())
    );
    let archive = format!(
        r#"{{"files":[{{"manifest":"{manifest_id}","mode":"100644","path":"a","sha256":"{BLOCK}","size":6,"storage":"{}"}}],"type":"archive","version":1}}"#,
        sha256(storage.as_bytes())
    );
    let entries = vec![
        based,
        mixed,
        raw(EntryKind::Manifest, &manifest),
        raw(EntryKind::Storage, &storage),
        raw(EntryKind::Tree, &tree),
        raw(EntryKind::Commit, &commit),
        raw(EntryKind::Tag, &tag),
        raw(EntryKind::Archive, &archive),
    ];
    pack(Nonce([4; 16]), entries, &[67, 146, 267, 578, 939, 1219, 1438, 1650])
}

/// The sketch of one tensor: segment 1, 1024 elements, words that count up from 1.0.
fn sketch_pack() -> Content {
    let words = (0..64u16).flat_map(|i| (0x3f80 + i).to_le_bytes());
    let sketch: Vec<u8> =
        [&[1][..], &sha256(b"manifest").0, &[1, 1, 0x80, 0x08]].concat().into_iter().chain(words).collect();
    pack(Nonce::ZERO, vec![raw(EntryKind::Sketch, sketch)], &[69])
}

fn id_in_large_pack(kind: EntryKind) -> Digest {
    let Content::Pack { footer, .. } = large_pack() else { unreachable!() };
    footer.entries.iter().find(|entry| entry.key.kind == kind).unwrap().key.id
}

fn refs() -> Vec<RefState> {
    let state =
        |name: &str, generation: u64, nonce: u8, previous: Option<u8>, target: Target, message: &str| RefState {
            name: name.to_owned(),
            generation,
            nonce: Nonce([nonce; 16]),
            previous: previous.map(|byte| Nonce([byte; 16])),
            operation: Nonce([0x33; 16]),
            target,
            created_at: "2026-01-01T00:00:00Z".to_owned(),
            message: message.to_owned(),
        };
    let (commit, tree) = (id_in_large_pack(EntryKind::Commit), id_in_large_pack(EntryKind::Tree));
    let tag = id_in_large_pack(EntryKind::Tag);
    vec![
        state("HEAD", 1, 0x55, None, Target::Symbolic("heads/main".to_owned()), "init"),
        state("heads/main", 1, 0x22, None, Target::Commit(commit), ""),
        state("heads/main", 2, 0x11, Some(0x22), Target::Commit(sha256(b"commit")), "commit: a \\ b\nc"),
        state("heads/gone", 1, 0x66, None, Target::Commit(commit), "\u{1b}[31m \u{85} ü \u{2028} \r\n"),
        state("heads/gone", 2, 0x77, Some(0x66), Target::Deleted, "branch: delete"),
        state("stage", 1, 0x88, None, Target::Tree(tree), "add"),
        state("tags/V1", 1, 0x99, None, Target::Tag(tag), "tag"),
    ]
}

fn leases() -> [Lease; 2] {
    let unknown = || "-".to_owned();
    let known = Process {
        host: "node-7 \\ rack\t2".to_owned(),
        machine: "0123456789abcdef".to_owned(),
        boot: "fedcba9876543210".to_owned(),
        namespace: "4026531836".to_owned(),
        pid: 4_194_303,
        start: "18446744073709551615".to_owned(),
    };
    let nobody = Process { host: String::new(), machine: unknown(), boot: unknown(), ..known.clone() };
    let nobody = Process { namespace: unknown(), pid: 1, start: unknown(), ..nobody };
    let lease = |epoch, nonce, purpose: &str, process| Lease {
        epoch,
        nonce: Nonce([nonce; 16]),
        purpose: purpose.to_owned(),
        process,
        created_at: "2026-01-01T00:00:00Z".to_owned(),
    };
    [lease(0, 0xaa, "", nobody), lease(3, 0xbb, "commit", known)]
}

fn epochs() -> [Epoch; 3] {
    let epoch = |number, condemned: &[Digest]| Epoch { number, condemned: condemned.iter().copied().collect() };
    [epoch(1, &[hex(SMALL_PACK)]), epoch(2, &[]), epoch(3, &[sha256(b"a"), sha256(b"b")])]
}

fn index(packs: &[(&str, u64, Content)]) -> Content {
    let footer = |content: &Content| match content {
        Content::Pack { footer, .. } => footer.clone(),
        _ => Footer::default(),
    };
    Content::Index(packs.iter().map(|(id, len, content)| (hex(id), *len, footer(content))).collect())
}

fn remote_list() -> RemoteList {
    let urls = [("lab-2", "file:///srv/a\\b"), ("origin", "/srv/models")];
    let urls = urls.map(|(name, url)| (name.to_owned(), url.to_owned()));
    RemoteList { number: 2, urls: urls.into(), promises: Some("origin".to_owned()) }
}

/// What the fixtures say, by their paths.
fn expected() -> BTreeMap<String, Content> {
    let id = Nonce(0x067d_b394_31ce_8758_15bd_9413_f3dc_b7ba_u128.to_be_bytes());
    let mut expected = BTreeMap::from([
        ("format".to_owned(), Content::Format { id, cut: Cut::V1 }),
        (format!("packs/{SMALL_PACK}.pack"), small_pack()),
        (format!("packs/{LARGE_PACK}.pack"), large_pack()),
        (format!("packs/{SKETCH_PACK}.pack"), sketch_pack()),
        (format!("index/{SMALL_INDEX}.idx"), index(&[(SMALL_PACK, 169, small_pack())])),
        (
            format!("index/{LARGE_INDEX}.idx"),
            index(&[(LARGE_PACK, 2387, large_pack()), (SMALL_PACK, 169, small_pack())]),
        ),
    ]);
    let places = ["%48%45%41%44/fffffffffffffffe", "heads%2fmain/fffffffffffffffe", "heads%2fmain/fffffffffffffffd"];
    let more = ["heads%2fgone/fffffffffffffffe", "heads%2fgone/fffffffffffffffd", "stage/fffffffffffffffe"];
    let places = places.into_iter().chain(more).chain(["tags%2f%561/fffffffffffffffe"]);
    expected.extend(places.zip(refs()).map(|(place, state)| (format!("refs/{place}"), Content::Ref(state))));
    let places =
        ["0000000000000000-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "0000000000000003-bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"];
    let found = places.into_iter().zip(leases());
    expected.extend(found.map(|(place, lease)| (format!("leases/{place}"), Content::Lease(lease))));
    let places = ["fffffffffffffffe", "fffffffffffffffd", "fffffffffffffffc"];
    let found = places.into_iter().zip(epochs());
    expected.extend(found.map(|(place, epoch)| (format!("epochs/{place}"), Content::Epoch(epoch))));
    expected.insert("remotes/fffffffffffffffd".to_owned(), Content::Remotes(remote_list()));
    expected
}

#[test]
fn every_fixture_decodes() {
    let (files, expected) = (files(), expected());
    assert_eq!(files.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (path, bytes) in &files {
        assert_eq!(&decode(path, bytes).unwrap(), &expected[path], "{path}");
    }
}

#[test]
fn todays_code_writes_the_same_files() {
    let files = files();
    for (path, content) in expected() {
        assert_eq!(encode(&content), (path.clone(), files[&path].clone()), "{path}");
    }
}

#[test]
fn the_fixtures_hold_everything_that_is_a_format() {
    let (mut kinds, mut entries, mut targets) = (BTreeSet::new(), BTreeSet::new(), HashSet::new());
    let (mut bases_here, mut bases_elsewhere) = (0, 0);
    for (path, bytes) in files() {
        kinds.insert(kind(&path).to_owned());
        match decode(&path, &bytes).unwrap() {
            Content::Pack { footer, .. } => {
                let blocks: HashSet<Digest> = footer.entries.iter().map(|entry| entry.key.id).collect();
                let (here, elsewhere): (Vec<Digest>, Vec<Digest>) =
                    footer.entries.iter().flat_map(|entry| &entry.bases).partition(|base| blocks.contains(*base));
                bases_here += here.len();
                bases_elsewhere += elsewhere.len();
                entries.extend(footer.entries.iter().map(|entry| entry.key.kind));
            }
            Content::Ref(state) => {
                targets.insert(std::mem::discriminant(&state.target));
            }
            _ => {}
        }
    }
    assert_eq!(kinds, ["epochs", "format", "index", "leases", "packs", "refs", "remotes"].map(str::to_owned).into());
    assert_eq!(entries, EntryKind::ALL.into());
    assert_eq!(targets.len(), 5, "targets of refs");
    assert!(bases_here > 0 && bases_elsewhere > 0);
}

#[test]
fn the_fixtures_are_a_repository() {
    let backend = Arc::new(backend(&files()));
    let store = Store::open_backend(backend, StoreOptions::default()).unwrap();
    assert_eq!(store.id().to_hex(), "067db39431ce875815bd9413f3dcb7ba");
    assert!(store.packs().unwrap().iter().all(|pack| pack.problem.is_none()));
    let mut found = 0;
    for kind in EntryKind::ALL {
        for key in store.keys(kind).unwrap() {
            store.read(&key, &mut Vec::new()).unwrap();
            found += 1;
        }
    }
    assert_eq!(found, 10);
    let depth = |bytes: &[u8]| store.copies(&EntryKey::block(sha256(bytes))).unwrap()[0].depth;
    assert_eq!((depth(b"shard\n"), depth(b"SHARD*"), depth(b"SHArd\n")), (0, 1, 2));

    let names: Vec<String> = store.refs().list("").unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["HEAD", "heads/main", "stage", "tags/V1"]);
    assert_eq!(store.refs().read_resolved("HEAD").unwrap().state.as_ref(), refs().get(2));
    assert_eq!(store.refs().log("heads/main").unwrap().filter(Result::is_ok).count(), 2);
    let held: Vec<Lease> = store.leases().list().unwrap().into_iter().map(|(_, lease)| lease.unwrap()).collect();
    assert_eq!(held, leases());
    assert_eq!(store.epochs().current().unwrap(), epochs()[2]);
    assert_eq!(store.epochs().condemned_after(0).unwrap().len(), 3);
    assert_eq!(store.remotes().read().unwrap(), remote_list());
}

/// The page on formats shows the bytes of fixtures: in hexadecimal between a line's offset and its remark, or as text.
#[test]
fn the_examples_in_the_documentation_are_fixtures() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/format.md")).unwrap();
    let files = files();
    for path in ["format", "refs/heads%2fmain/fffffffffffffffd", "epochs/fffffffffffffffe", "remotes/fffffffffffffffd"]
    {
        let record = std::str::from_utf8(&files[path]).unwrap();
        assert!(page.contains(&format!("```\n{record}```\n")), "{path}");
    }
    assert!(page.contains(&format!("`{SMALL_PACK}.pack`")) && page.contains(&format!("`{SMALL_INDEX}.idx`")));
    let dump: String = page
        .split("```\n")
        .find(|block| block.starts_with("  0  73686172 6470616b"))
        .unwrap()
        .lines()
        .flat_map(|line| line[5..].split("  ").next().unwrap().split(' '))
        .collect();
    let pack: String = files[&format!("packs/{SMALL_PACK}.pack")].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(dump, pack);
}

#[test]
#[ignore = "writes what is missing, changes nothing: cargo test -p shard-store golden::write_fixtures -- --ignored"]
fn write_fixtures() {
    for content in expected().values() {
        let (path, bytes) = encode(content);
        let path = folder().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        if !path.exists() {
            std::fs::write(path, bytes).unwrap();
        }
    }
}
