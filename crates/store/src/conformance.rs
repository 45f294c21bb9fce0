//! What every backend must do, as checks that any backend can be put through.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::backend::{Backend, BackendError};

/// A promise that a backend did not keep.
#[derive(Debug, thiserror::Error)]
#[error("the backend does not conform: {check}{}", .error.as_ref().map(|error| format!(": {error}")).unwrap_or_default())]
pub struct Failure {
    /// What was checked.
    pub check: &'static str,
    /// What the backend said instead, where it said something.
    #[source]
    pub error: Option<BackendError>,
}

/// How many writers race for one name.
const RACERS: usize = 8;
/// How many names they race for.
const ROUNDS: usize = 20;
/// How many where it has to be quick: some stores take a second over each.
const FEW_ROUNDS: usize = 4;

fn ensure(check: &'static str, holds: bool) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure { check, error: None }) }
}

fn works<T>(check: &'static str, result: Result<T, BackendError>) -> Result<T, Failure> {
    result.map_err(|error| Failure { check, error: Some(error) })
}

/// Checks a backend. It must hold nothing below `check/`, and holds no object there afterwards.
///
/// # Errors
/// The first [`Failure`].
pub fn check(backend: &dyn Backend) -> Result<(), Failure> {
    objects(backend)?;
    uploads(backend)?;
    names(backend)?;
    firsts(backend)?;
    races(backend, ROUNDS)
}

/// Checks only that a name is given once, also where many race for it: what all coordination of writers rests on.
///
/// # Errors
/// The first [`Failure`].
pub fn check_puts(backend: &dyn Backend) -> Result<(), Failure> {
    works("put", backend.put_if_absent("check/a", b"0123456789"))?;
    let again = backend.put_if_absent("check/a", b"other");
    ensure("a name is given once", again.is_err_and(|error| error.is_already_exists()))?;
    ensure("and keeps its bytes", works("get", backend.get("check/a", 10))? == b"0123456789")?;
    works("delete", backend.delete("check/a"))?;
    races(backend, FEW_ROUNDS)
}

fn objects(backend: &dyn Backend) -> Result<(), Failure> {
    ensure("a folder that is not there is empty", works("list", backend.list("check"))?.is_empty())?;
    ensure("and has no first", works("list_first", backend.list_first("check"))?.is_none())?;
    let missing = |result: Result<(), BackendError>| result.is_err_and(|error| error.is_not_found());
    ensure("what is not there has no bytes", missing(backend.get_range("check/a", 0, &mut [0])))?;
    ensure("nor a size", missing(backend.size("check/a").map(drop)))?;
    ensure("nor can it be fetched", missing(backend.get("check/a", 100).map(drop)))?;
    ensure("nor its end", missing(backend.get_tail("check/a", 4).map(drop)))?;
    works("deleting it is fine", backend.delete("check/a"))?;

    works("put", backend.put_if_absent("check/a", b"0123456789"))?;
    let again = backend.put_if_absent("check/a", b"other");
    ensure("a name is given once", again.is_err_and(|error| error.is_already_exists()))?;
    ensure("and keeps its bytes", works("get", backend.get("check/a", 10))? == b"0123456789")?;
    ensure("a size is in bytes", works("size", backend.size("check/a"))? == 10)?;
    ensure("a limit holds", matches!(backend.get("check/a", 9), Err(BackendError::Io { .. })))?;
    let mut range = [0; 4];
    works("get_range", backend.get_range("check/a", 6, &mut range))?;
    ensure("a range is what it should be", range == *b"6789")?;
    works("an empty range at the end", backend.get_range("check/a", 10, &mut []))?;
    let (mut first, mut last) = ([0; 3], [0; 2]);
    works("get_parts", backend.get_parts("check/a", 5, &mut [&mut first, &mut [], &mut last]))?;
    ensure("parts of a range are what they should be", (first, last) == (*b"567", *b"89"))?;
    let beyond = backend.get_parts("check/a", 6, &mut [&mut first, &mut last]);
    ensure("nor are parts beyond the end", matches!(beyond, Err(BackendError::OutOfBounds { .. })))?;
    ensure("nor of nothing", missing(backend.get_parts("check/none", 0, &mut [&mut first, &mut last])))?;
    for offset in [7, 10, 11, u64::MAX] {
        let beyond = backend.get_range("check/a", offset, &mut range);
        ensure("no bytes beyond the end", matches!(beyond, Err(BackendError::OutOfBounds { .. })))?;
    }
    for (len, tail) in [(0, &b""[..]), (4, b"6789"), (10, b"0123456789"), (11, b"0123456789")] {
        let found = works("get_tail", backend.get_tail("check/a", len))?;
        ensure("the end of an object is what it should be", found == (tail.to_vec(), 10))?;
    }
    works("an empty object", backend.put_if_absent("check/empty", b""))?;
    ensure("has no bytes", works("get", backend.get("check/empty", 0))?.is_empty())?;
    ensure("nor an end", works("get_tail", backend.get_tail("check/empty", 4))? == (Vec::new(), 0))?;

    works("a folder in a folder", backend.put_if_absent("check/b/c", b"x"))?;
    works("a name that starts like it", backend.put_if_absent("check/b-", b"x"))?;
    let listed = works("list", backend.list("check"))?;
    ensure("a listing is sorted and not deep", listed == ["a", "b", "b-", "empty"])?;
    ensure("its first is the first", works("list_first", backend.list_first("check"))?.as_deref() == Some("a"))?;
    ensure("a folder lists its own", works("list", backend.list("check/b"))? == ["c"])?;
    for name in ["check/a", "check/b/c", "check/b-", "check/empty"] {
        works("delete", backend.delete(name))?;
    }
    ensure("what was deleted is gone", missing(backend.size("check/a").map(drop)))?;
    works("and its name is free", backend.put_if_absent("check/a", b"new"))?;
    ensure("for other bytes", works("get", backend.get("check/a", 10))? == b"new")?;
    works("delete", backend.delete("check/a"))
}

fn uploads(backend: &dyn Backend) -> Result<(), Failure> {
    let bytes: Vec<u8> = (0..1_000_000u32).flat_map(|i| (i % 253).to_le_bytes()).collect();
    let mut upload = works("create", backend.create())?;
    ensure("an upload starts empty", upload.is_empty())?;
    for piece in bytes.chunks(300_007) {
        works("append", upload.append(piece))?;
        let mut tail = [0; 5];
        works("an upload can be read back", upload.read_at(upload.len() - 5, &mut tail))?;
        ensure("as it was written", piece.ends_with(&tail))?;
    }
    ensure("its length is what was appended", upload.len() == bytes.len() as u64)?;
    let beyond = upload.read_at(bytes.len() as u64 - 1, &mut [0; 2]);
    ensure("nothing is read beyond it", matches!(beyond, Err(BackendError::OutOfBounds { .. })))?;
    ensure("it is not seen before it is finished", works("list", backend.list("check/uploads"))?.is_empty())?;
    works("finish", upload.finish("check/uploads/one"))?;
    ensure("then it is whole", works("get", backend.get("check/uploads/one", u64::MAX))? == bytes)?;

    let mut second = works("create", backend.create())?;
    works("append", second.append(b"other"))?;
    let taken = second.finish("check/uploads/one");
    ensure("a taken name is not given", taken.is_err_and(|error| error.is_already_exists()))?;
    ensure("and stays as it was", works("size", backend.size("check/uploads/one"))? == bytes.len() as u64)?;
    let mut dropped = works("create", backend.create())?;
    works("append", dropped.append(b"dropped"))?;
    drop(dropped);
    ensure("what is dropped leaves nothing", works("list", backend.list("check/uploads"))? == ["one"])?;
    works("delete", backend.delete("check/uploads/one"))
}

fn names(backend: &dyn Backend) -> Result<(), Failure> {
    for name in ["", "/", "../x", "check/../x", "/etc/passwd", "check//x", "check/.x", "check/A", "check/x\0"] {
        let refused = [
            backend.get_range(name, 0, &mut []),
            backend.size(name).map(drop),
            backend.get(name, 1).map(drop),
            backend.get_tail(name, 1).map(drop),
            backend.put_if_absent(name, b""),
            backend.list(name).map(drop),
            backend.list_first(name).map(drop),
            backend.delete(name),
            works("create", backend.create())?.finish(name),
        ];
        let all = refused.iter().all(|result| matches!(result, Err(BackendError::Name(_))));
        ensure("names that could mean something else are refused", all)?;
    }
    Ok(())
}

/// Names like those of a ref's states, the newest of which lists first.
fn firsts(backend: &dyn Backend) -> Result<(), Failure> {
    for newest in (1..=12u64).map(|generation| format!("{:016x}", u64::MAX - generation)) {
        works("put", backend.put_if_absent(&format!("check/first/{newest}"), newest.as_bytes()))?;
        let first = works("list_first", backend.list_first("check/first"))?;
        ensure("what was just put lists first", first.as_deref() == Some(&newest))?;
    }
    let names = works("list", backend.list("check/first"))?;
    ensure("a listing has all of them", names.len() == 12 && names.is_sorted())?;
    for name in names {
        works("delete", backend.delete(&format!("check/first/{name}")))?;
    }
    Ok(())
}

fn races(backend: &dyn Backend, rounds: usize) -> Result<(), Failure> {
    for round in 0..rounds {
        let name = format!("check/race-{round}");
        let winners = AtomicUsize::new(0);
        let winner = AtomicUsize::new(usize::MAX);
        let others = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for racer in 0..RACERS {
                let (name, winners, winner, others) = (&name, &winners, &winner, &others);
                scope.spawn(move || match backend.put_if_absent(name, format!("racer {racer}").as_bytes()) {
                    Ok(()) => {
                        winners.fetch_add(1, Ordering::SeqCst);
                        winner.store(racer, Ordering::SeqCst);
                    }
                    Err(error) if error.is_already_exists() => {
                        others.fetch_add(1, Ordering::SeqCst);
                    }
                    Err(_) => {}
                });
            }
        });
        ensure("of many writers of a name one wins", winners.into_inner() == 1)?;
        ensure("and the others are told", others.into_inner() == RACERS - 1)?;
        let bytes = works("get", backend.get(&name, 100))?;
        ensure("the winner's bytes are there", bytes == format!("racer {}", winner.into_inner()).as_bytes())?;
        works("delete", backend.delete(&name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::LocalBackend;
    use crate::memory::MemoryBackend;
    use std::sync::Mutex;

    #[test]
    fn fault_14_memory_conforms() {
        check(&MemoryBackend::new()).unwrap();
    }

    #[test]
    fn fault_14_local_conforms() {
        let dir = tempfile::tempdir().unwrap();
        check(&LocalBackend::new(dir.path()).unwrap()).unwrap();
        assert_eq!(std::fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
    }

    /// A backend that looks before it writes, as naive ones do.
    struct LooksFirst(MemoryBackend, Mutex<()>);

    impl Backend for LooksFirst {
        fn get_range(&self, name: &str, offset: u64, out: &mut [u8]) -> Result<(), BackendError> {
            self.0.get_range(name, offset, out)
        }
        fn size(&self, name: &str) -> Result<u64, BackendError> {
            self.0.size(name)
        }
        fn put_if_absent(&self, name: &str, bytes: &[u8]) -> Result<(), BackendError> {
            crate::backend::check_name(name)?;
            if self.0.size(name).is_ok() {
                return Err(BackendError::AlreadyExists { name: name.to_owned() });
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
            let _one_at_a_time = self.1.lock();
            self.0.delete(name)?;
            self.0.put_if_absent(name, bytes)
        }
        fn create(&self) -> Result<Box<dyn crate::Upload>, BackendError> {
            self.0.create()
        }
        fn list(&self, folder: &str) -> Result<Vec<String>, BackendError> {
            self.0.list(folder)
        }
        fn delete(&self, name: &str) -> Result<(), BackendError> {
            self.0.delete(name)
        }
    }

    #[test]
    fn fault_14_a_backend_that_only_looks_first_is_caught() {
        let failure = check(&LooksFirst(MemoryBackend::new(), Mutex::default())).unwrap_err();
        assert_eq!(failure.check, "of many writers of a name one wins");
    }
}
