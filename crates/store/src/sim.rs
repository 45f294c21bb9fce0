//! A file system in memory that can lose power, run out of space and fail, as the real ones do.
//!
//! Bytes are durable once their file was synced, names once their directory was. At a power loss everything else is kept or
//! lost piece by piece (a write in sectors of 512 bytes, a change of a directory by itself), in whatever order: what was done
//! later may be there while what was done before is not.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::fs::{File, FileSystem};

const SECTOR: usize = 512;

/// A fault that is planted to see whether the tests notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Syncing a file does nothing.
    SkipFileSync,
    /// Syncing a directory does nothing.
    SkipDirSync,
}

/// What is to happen at the n-th operation that changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The power fails, and stays off.
    PowerLoss,
    /// This operation alone fails with this error number.
    Errno(i32),
    /// This and all later operations that take space fail as on a full disk.
    DiskFull,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    File(usize),
    Dir,
}

#[derive(Default, Clone)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<(usize, Vec<u8>)>,
}

#[derive(Default, Clone)]
struct Dir {
    now: BTreeMap<String, Node>,
    durable: BTreeMap<String, Node>,
    unsynced: Vec<(String, Option<Node>)>,
}

#[derive(Default)]
struct World {
    files: Vec<Inode>,
    dirs: HashMap<PathBuf, Dir>,
    operations: u64,
    fault: Option<(u64, Fault)>,
    dead: bool,
    bug: Option<Bug>,
}

/// The file system. Clones are the same one.
#[derive(Clone)]
pub(crate) struct SimFs(Arc<Mutex<World>>);

/// Numbers that look random and are the same every time (splitmix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % sides
    }
}

fn split(path: &Path) -> io::Result<(PathBuf, String)> {
    let name = path.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidInput)?;
    Ok((path.parent().unwrap_or(Path::new("/")).to_owned(), name.to_owned()))
}

impl World {
    fn alive(&self) -> io::Result<()> {
        if self.dead { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }

    /// Counts an operation that changes something, and lets it fail where it is to.
    fn tick(&mut self, takes_space: bool) -> io::Result<()> {
        self.alive()?;
        self.operations += 1;
        let Some((at, fault)) = self.fault else { return Ok(()) };
        match fault {
            Fault::PowerLoss if self.operations == at => {
                self.dead = true;
                self.alive()
            }
            Fault::Errno(errno) if self.operations == at => Err(io::Error::from_raw_os_error(errno)),
            Fault::DiskFull if self.operations >= at && takes_space => Err(io::Error::from_raw_os_error(28)),
            _ => Ok(()),
        }
    }

    fn dir(&mut self, path: &Path) -> io::Result<&mut Dir> {
        self.dirs.get_mut(path).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn node(&self, path: &Path) -> io::Result<Node> {
        let (dir, name) = split(path)?;
        let dir = self.dirs.get(&dir).ok_or(io::ErrorKind::NotFound)?;
        dir.now.get(&name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn set(&mut self, path: &Path, node: Option<Node>) -> io::Result<()> {
        let (dir, name) = split(path)?;
        let dir = self.dir(&dir)?;
        match node {
            Some(node) => dir.now.insert(name.clone(), node),
            None => dir.now.remove(&name),
        };
        dir.unsynced.push((name, node));
        Ok(())
    }

    fn add(&mut self, path: &Path, node: Node) -> io::Result<()> {
        match self.node(path) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => self.set(path, Some(node)),
        }
    }
}

impl SimFs {
    /// An empty file system with the directory `/`.
    pub(crate) fn new() -> Self {
        let dirs = HashMap::from([(PathBuf::from("/"), Dir::default())]);
        Self(Arc::new(Mutex::new(World { dirs, ..World::default() })))
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    pub(crate) fn plant(&self, bug: Option<Bug>) {
        self.world().bug = bug;
    }

    /// Lets a fault happen at the `after`-th operation from now.
    pub(crate) fn fail(&self, after: u64, fault: Fault) {
        let mut world = self.world();
        world.fault = Some((world.operations + after, fault));
    }

    pub(crate) fn repair(&self) {
        self.world().fault = None;
    }

    /// How many operations changed something so far.
    pub(crate) fn operations(&self) -> u64 {
        self.world().operations
    }

    /// What is found after a power loss at this moment, as the dice fall.
    pub(crate) fn after_power_loss(&self, seed: u64) -> Self {
        let world = self.world();
        let mut dice = Dice(seed);
        // The extremes are kept likely: nothing unsynced survives, or all of it.
        let odds = [0, 100, 50, 50, 90, 10][(seed % 6) as usize];
        let mut keep = || dice.roll(100) < odds;
        let files = world.files.iter().map(|file| {
            let mut bytes = file.durable.clone();
            for (offset, written) in &file.unsynced {
                for (number, sector) in written.chunks(SECTOR).enumerate() {
                    if keep() {
                        let at = offset + number * SECTOR;
                        if bytes.len() < at + sector.len() {
                            bytes.resize(at + sector.len(), 0);
                        }
                        bytes[at..at + sector.len()].copy_from_slice(sector);
                    }
                }
            }
            Inode { now: bytes.clone(), durable: bytes, unsynced: Vec::new() }
        });
        let files = files.collect();
        let dirs = world.dirs.iter().map(|(path, dir)| {
            let mut names = dir.durable.clone();
            for (name, node) in &dir.unsynced {
                match node {
                    _ if !keep() => {}
                    Some(node) => drop(names.insert(name.clone(), *node)),
                    None => drop(names.remove(name)),
                }
            }
            (path.clone(), Dir { now: names.clone(), durable: names, unsynced: Vec::new() })
        });
        let mut dirs: HashMap<PathBuf, Dir> = dirs.collect();
        // A directory that no name leads to is not there.
        let all: Vec<PathBuf> = dirs.keys().cloned().collect();
        for path in all {
            let reachable = path.ancestors().all(|part| match split(part) {
                Err(_) => true,
                Ok((above, name)) => dirs.get(&above).is_some_and(|dir| dir.now.get(&name) == Some(&Node::Dir)),
            });
            if !reachable {
                dirs.remove(&path);
            }
        }
        Self(Arc::new(Mutex::new(World { files, dirs, ..World::default() })))
    }
}

struct SimFile {
    fs: SimFs,
    number: usize,
}

impl File for SimFile {
    fn size(&self) -> io::Result<u64> {
        let world = self.fs.world();
        world.alive()?;
        Ok(world.files[self.number].now.len() as u64)
    }

    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        let world = self.fs.world();
        world.alive()?;
        let bytes = &world.files[self.number].now;
        let bytes = bytes.get(offset as usize..offset as usize + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut world = self.fs.world();
        world.tick(true)?;
        let (file, offset) = (&mut world.files[self.number], offset as usize);
        if file.now.len() < offset + bytes.len() {
            file.now.resize(offset + bytes.len(), 0);
        }
        file.now[offset..offset + bytes.len()].copy_from_slice(bytes);
        file.unsynced.push((offset, bytes.to_vec()));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.fs.world();
        let result = world.tick(false);
        let bug = world.bug;
        let file = &mut world.files[self.number];
        match result {
            Ok(()) if bug != Some(Bug::SkipFileSync) => {
                file.durable = file.now.clone();
                file.unsynced.clear();
            }
            // As Linux does: the pages are marked clean although they never reached the disk, and the next sync is happy.
            Err(_) => file.unsynced.clear(),
            Ok(()) => {}
        }
        result
    }
}

impl FileSystem for SimFs {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let world = self.world();
        world.alive()?;
        match world.node(path)? {
            Node::File(number) => Ok(Arc::new(SimFile { fs: self.clone(), number })),
            Node::Dir => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn create(&self, path: &Path, _read_only: bool) -> io::Result<Arc<dyn File>> {
        let mut world = self.world();
        world.tick(true)?;
        let number = world.files.len();
        world.add(path, Node::File(number))?;
        world.files.push(Inode::default());
        Ok(Arc::new(SimFile { fs: self.clone(), number }))
    }

    fn publish(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.tick(true)?;
        let node = world.node(from)?;
        world.add(to, node)
    }

    fn replace(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.tick(false)?;
        let node = world.node(from)?;
        world.set(to, Some(node))?;
        world.set(from, None)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.tick(false)?;
        world.node(path)?;
        world.set(path, None)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.tick(true)?;
        world.add(path, Node::Dir)?;
        world.dirs.insert(path.to_owned(), Dir::default());
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        let result = world.tick(false);
        let bug = world.bug;
        let dir = world.dir(path)?;
        match result {
            Ok(()) if bug != Some(Bug::SkipDirSync) => {
                dir.durable = dir.now.clone();
                dir.unsynced.clear();
            }
            _ => {}
        }
        result
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut world = self.world();
        world.alive()?;
        if let Ok(Node::File(_)) = world.node(path) {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(world.dir(path)?.now.keys().cloned().collect())
    }
}
