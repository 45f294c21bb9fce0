//! Questions and answers: JSON where they are short, binary where they may be long.

use serde::{Deserialize, Serialize};
use shard_core::Digest;
use shard_core::limits::Cut;
use shard_core::wire::{WireError, WireReader, put_varint};
use shard_history::revision::RefKind;
use shard_repo::SyncProblem;
use shard_repo::peer::{Chosen, Offer, PeerRef, RefMove, Wanted, Welcome};
use shard_store::{EntryKey, EntryKind, Target};

use super::MAX_KEYS;

/// What a repository says of itself.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WelcomeMessage {
    /// Bytes of the largest block: where tensors are cut.
    cut: u64,
    default_branch: String,
    checked_out: Option<String>,
    pub(crate) refs: Vec<RefMessage>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RefMessage {
    /// In full, as in `heads/main`.
    pub(crate) name: String,
    /// As in `commit 0123…`.
    target: String,
    commit: String,
}

/// A push that has begun.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Opened {
    pub(crate) push: String,
    pub(crate) welcome: WelcomeMessage,
}

/// What a fetch is for, and what is there.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Wants {
    /// As in `commit 0123…`.
    #[serde(default)]
    pub(crate) wants: Vec<String>,
    /// Ids of commits.
    #[serde(default)]
    pub(crate) has: Vec<String>,
    /// Whether blocks stay.
    #[serde(default)]
    pub(crate) lazy: bool,
    /// Ids of blocks, which are wanted instead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) blocks: Vec<String>,
}

/// Refs that shall move.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Moves {
    pub(crate) moves: Vec<MoveMessage>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MoveMessage {
    name: String,
    from: String,
    to: String,
    force: bool,
}

/// How many of what was asked about are there: only for people who look.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Has {
    pub(crate) entries: u64,
}

const NAME: SyncProblem = SyncProblem::Malformed("a ref is neither a branch nor a tag");
const TARGET: SyncProblem = SyncProblem::Malformed("a ref names what it cannot name");
const ID: SyncProblem = SyncProblem::Malformed("an id is not 64 lowercase hexadecimal digits");

fn full(kind: RefKind, name: &str) -> String {
    match kind {
        RefKind::Tag => format!("tags/{name}"),
        _ => format!("heads/{name}"),
    }
}

fn kind_and_name(full: &str) -> Result<(RefKind, String), SyncProblem> {
    shard_store::ref_name::check(full).map_err(|_| NAME)?;
    let branch = full.strip_prefix("heads/").map(|name| (RefKind::Branch, name));
    let found = branch.or_else(|| full.strip_prefix("tags/").map(|name| (RefKind::Tag, name)));
    found.map(|(kind, name)| (kind, name.to_owned())).ok_or(NAME)
}

fn id_of(text: &str) -> Result<Digest, SyncProblem> {
    Digest::from_hex(text).map_err(|_| ID)
}

/// A commit, a tag or nothing.
fn target_of(text: &str) -> Result<Target, SyncProblem> {
    match text.split_once(' ') {
        Some(("commit", id)) => Ok(Target::Commit(id_of(id)?)),
        Some(("tag", id)) => Ok(Target::Tag(id_of(id)?)),
        None if text == "deleted" => Ok(Target::Deleted),
        _ => Err(TARGET),
    }
}

impl From<&Welcome> for WelcomeMessage {
    fn from(welcome: &Welcome) -> Self {
        let refs = welcome.refs.iter().map(|found| RefMessage {
            name: full(found.kind, &found.name),
            target: found.target.to_string(),
            commit: found.commit.to_hex(),
        });
        Self {
            cut: welcome.cut.block() as u64,
            default_branch: welcome.default_branch.clone(),
            checked_out: welcome.checked_out.clone(),
            refs: refs.collect(),
        }
    }
}

impl WelcomeMessage {
    /// What was said, checked.
    ///
    /// # Errors
    /// [`SyncProblem::Malformed`].
    pub(crate) fn read(self) -> Result<Welcome, SyncProblem> {
        let each = |message: RefMessage| {
            let (kind, name) = kind_and_name(&message.name)?;
            let target = target_of(&message.target)?;
            let commit = id_of(&message.commit)?;
            match &target {
                Target::Commit(id) if *id != commit => Err(TARGET),
                Target::Deleted => Err(TARGET),
                _ => Ok(PeerRef { kind, name, target, commit }),
            }
        };
        let branch = |name: &str| match shard_store::ref_name::check(&format!("heads/{name}")) {
            Ok(()) => Ok(()),
            Err(_) => Err(NAME),
        };
        branch(&self.default_branch)?;
        if let Some(name) = &self.checked_out {
            branch(name)?;
        }
        Ok(Welcome {
            cut: Cut::from_block(self.cut).ok_or(SyncProblem::Malformed("tensors are cut where none are"))?,
            default_branch: self.default_branch,
            checked_out: self.checked_out,
            refs: self.refs.into_iter().map(each).collect::<Result<_, _>>()?,
        })
    }
}

impl Wants {
    pub(crate) fn new(wanted: &Wanted) -> Self {
        let ids = |ids: &[Digest]| ids.iter().map(Digest::to_hex).collect();
        let (wants, has, lazy, blocks) = match wanted {
            Wanted::History { wants, has, is_lazy } => {
                (wants.iter().map(ToString::to_string).collect(), ids(has), *is_lazy, Vec::new())
            }
            Wanted::Blocks(blocks) => (Vec::new(), Vec::new(), false, ids(blocks)),
        };
        Self { wants, has, lazy, blocks }
    }

    /// # Errors
    /// [`SyncProblem::Malformed`].
    pub(crate) fn read(&self) -> Result<Wanted, SyncProblem> {
        let ids = |ids: &[String]| ids.iter().map(|text| id_of(text)).collect::<Result<Vec<_>, _>>();
        if !self.blocks.is_empty() {
            return match self.wants.is_empty() && self.has.is_empty() {
                true => Ok(Wanted::Blocks(ids(&self.blocks)?)),
                false => Err(SyncProblem::Malformed("either a history or blocks are wanted")),
            };
        }
        let wants = self.wants.iter().map(|text| target_of(text)).collect::<Result<Vec<_>, _>>()?;
        if wants.contains(&Target::Deleted) {
            return Err(TARGET);
        }
        Ok(Wanted::History { wants, has: ids(&self.has)?, is_lazy: self.lazy })
    }
}

impl Moves {
    pub(crate) fn new(moves: &[RefMove]) -> Self {
        let each = |wanted: &RefMove| MoveMessage {
            name: full(wanted.kind, &wanted.name),
            from: wanted.from.to_string(),
            to: wanted.to.to_string(),
            force: wanted.is_forced,
        };
        Self { moves: moves.iter().map(each).collect() }
    }

    /// # Errors
    /// [`SyncProblem::Malformed`].
    pub(crate) fn read(&self) -> Result<Vec<RefMove>, SyncProblem> {
        let each = |message: &MoveMessage| {
            let (kind, name) = kind_and_name(&message.name)?;
            let (from, to) = (target_of(&message.from)?, target_of(&message.to)?);
            Ok(RefMove { kind, name, from, to, is_forced: message.force })
        };
        self.moves.iter().map(each).collect()
    }
}

/// Ids of commits, one after the other.
pub(crate) fn commits(ids: &[Digest]) -> Vec<u8> {
    ids.iter().flat_map(|id| id.0).collect()
}

/// # Errors
/// [`SyncProblem::Malformed`].
pub(crate) fn commits_of(bytes: &[u8]) -> Result<Vec<Digest>, SyncProblem> {
    let (ids, rest) = bytes.as_chunks::<32>();
    match rest.is_empty() && ids.len() <= MAX_KEYS {
        true => Ok(ids.iter().map(|id| Digest(*id)).collect()),
        false => Err(SyncProblem::Malformed("a list of ids is cut off, or too long")),
    }
}

/// Kinds and ids of entries, one after the other: 33 bytes each.
pub(crate) fn keys(keys: &[EntryKey]) -> Vec<u8> {
    keys.iter().flat_map(|key| std::iter::once(key.kind as u8).chain(key.id.0)).collect()
}

/// # Errors
/// [`SyncProblem::Malformed`].
pub(crate) fn keys_of(bytes: &[u8]) -> Result<Vec<EntryKey>, SyncProblem> {
    let chosen = chosen_of(bytes)?;
    match chosen.iter().any(|chosen| chosen.is_base) {
        false => Ok(chosen.into_iter().map(|chosen| chosen.key).collect()),
        true => Err(SyncProblem::Malformed("an entry is of no known kind")),
    }
}

/// Set beside the kind of an entry that later ones lean on.
const IS_BASE: u8 = 0x80;

/// As [`keys`], with the top bit of the kind set where later ones lean on an entry.
pub(crate) fn chosen(chosen: &[Chosen]) -> Vec<u8> {
    let kind = |chosen: &Chosen| chosen.key.kind as u8 | if chosen.is_base { IS_BASE } else { 0 };
    chosen.iter().flat_map(|chosen| std::iter::once(kind(chosen)).chain(chosen.key.id.0)).collect()
}

/// # Errors
/// [`SyncProblem::Malformed`].
pub(crate) fn chosen_of(bytes: &[u8]) -> Result<Vec<Chosen>, SyncProblem> {
    let (entries, rest) = bytes.as_chunks::<33>();
    if !rest.is_empty() || entries.len() > MAX_KEYS {
        return Err(SyncProblem::Malformed("a list of entries is cut off, or too long"));
    }
    let each = |entry: &[u8; 33]| {
        let [kind, id @ ..] = *entry;
        let is_base = kind & IS_BASE != 0;
        let kind =
            EntryKind::from_byte(kind & !IS_BASE).ok_or(SyncProblem::Malformed("an entry is of no known kind"))?;
        Ok(Chosen { key: EntryKey::new(kind, Digest(id)), is_base })
    };
    entries.iter().map(each).collect()
}

/// Answers, eight a byte, the first in the lowest bit.
pub(crate) fn bits(answers: &[bool]) -> Vec<u8> {
    let byte = |eight: &[bool]| eight.iter().rev().fold(0, |byte, answer| byte << 1 | u8::from(*answer));
    answers.chunks(8).map(byte).collect()
}

/// # Errors
/// [`SyncProblem::Malformed`].
pub(crate) fn bits_of(bytes: &[u8], count: usize) -> Result<Vec<bool>, SyncProblem> {
    if bytes.len() != count.div_ceil(8) {
        return Err(SyncProblem::Malformed("an answer is not as long as the question"));
    }
    let bit = |at: usize| bytes.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1);
    Ok((0..count).map(bit).collect())
}

/// Set beside the kind of an offer that is needed for itself.
const IS_NEEDED: u8 = 0x80;

/// Offers: kind (its top bit set where it is needed for itself), id, varints of the lengths decoded and stored and of the number of
/// bases, and the ids of these.
pub(crate) fn offers(offers: &[Offer]) -> Vec<u8> {
    let mut out = Vec::new();
    for offer in offers {
        out.push(offer.key.kind as u8 | if offer.is_needed { IS_NEEDED } else { 0 });
        out.extend_from_slice(&offer.key.id.0);
        for number in [offer.raw_len, offer.stored_len, offer.bases.len() as u64] {
            put_varint(&mut out, number);
        }
        out.extend(offer.bases.iter().flat_map(|base| base.0));
    }
    out
}

/// # Errors
/// [`SyncProblem::Malformed`].
pub(crate) fn offers_of(bytes: &[u8]) -> Result<Vec<Offer>, SyncProblem> {
    let malformed = |_: WireError| SyncProblem::Malformed("a list of offers is none");
    let mut reader = WireReader::new(bytes);
    let mut offers = Vec::new();
    while reader.remaining() > 0 {
        offers.push(offer(&mut reader).map_err(malformed)?);
    }
    Ok(offers)
}

fn offer(reader: &mut WireReader<'_>) -> Result<Offer, WireError> {
    let kind = reader.u8()?;
    let is_needed = kind & IS_NEEDED != 0;
    let invalid = WireError::Invalid { what: "kind", at: reader.position() };
    let kind = EntryKind::from_byte(kind & !IS_NEEDED).ok_or(invalid)?;
    let key = EntryKey::new(kind, reader.digest()?);
    let (raw_len, stored_len, bases) = (reader.varint()?, reader.varint()?, reader.varint()?);
    if raw_len > kind.max_raw_len() || stored_len > kind.max_stored_len() || bases > reader.remaining() as u64 / 32 {
        return Err(WireError::Invalid { what: "length", at: reader.position() });
    }
    let bases = (0..bases).map(|_| reader.digest()).collect::<Result<_, _>>()?;
    Ok(Offer { key, raw_len, stored_len, bases, is_needed })
}

#[cfg(test)]
mod tests {
    use shard_core::sha256;

    use super::*;

    #[test]
    fn lists_come_back_as_they_were() {
        let ids: Vec<Digest> = (0..20u8).map(|byte| sha256(&[byte])).collect();
        assert_eq!(commits_of(&commits(&ids)).unwrap(), ids);
        let kinds = EntryKind::ALL.into_iter().cycle();
        let all: Vec<EntryKey> = ids.iter().zip(kinds).map(|(id, kind)| EntryKey::new(kind, *id)).collect();
        assert_eq!(keys_of(&keys(&all)).unwrap(), all);
        let some: Vec<Chosen> = all.iter().map(|key| Chosen { key: *key, is_base: key.id.0[0] % 2 == 0 }).collect();
        assert_eq!(chosen_of(&chosen(&some)).unwrap(), some);
        let each = |(at, key): (usize, &EntryKey)| Offer {
            key: *key,
            raw_len: at as u64 * 1000,
            stored_len: at as u64,
            bases: ids[..at % 4].to_vec(),
            is_needed: at % 3 == 0,
        };
        let many: Vec<Offer> = all.iter().enumerate().map(each).collect();
        assert_eq!(offers_of(&offers(&many)).unwrap(), many);
        for count in 0..20 {
            let answers: Vec<bool> = (0..count).map(|at| at % 3 == 1).collect();
            assert_eq!(bits_of(&bits(&answers), count).unwrap(), answers);
        }
    }

    #[test]
    fn fault_24_what_is_cut_off_or_lies_is_refused() {
        let id = sha256(b"x");
        let offer = Offer { key: EntryKey::block(id), raw_len: 5, stored_len: 5, bases: vec![id; 3], is_needed: true };
        let whole = offers(&[offer]);
        for end in 1..whole.len() {
            assert!(offers_of(&whole[..end]).is_err(), "{end}");
        }
        assert!(commits_of(&[0; 33]).is_err() && keys_of(&[1; 32]).is_err() && keys_of(&[0; 33]).is_err());
        assert!(bits_of(&[0, 0], 8).is_err() && bits_of(&[], 1).is_err());
        let mut many = vec![1];
        many.extend_from_slice(&id.0);
        many.extend_from_slice(&[5, 5, 0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert!(offers_of(&many).is_err(), "more bases than bytes");
    }

    #[test]
    fn fault_24_names_and_targets_are_checked() {
        let message = |name: &str, target: &str| WelcomeMessage {
            cut: Cut::V1.block() as u64,
            default_branch: "main".to_owned(),
            checked_out: None,
            refs: vec![RefMessage { name: name.to_owned(), target: target.to_owned(), commit: sha256(b"c").to_hex() }],
        };
        let commit = format!("commit {}", sha256(b"c"));
        assert!(message("heads/main", &commit).read().is_ok());
        assert!(message("tags/v1", &format!("tag {}", sha256(b"t"))).read().is_ok());
        for name in ["HEAD", "heads/../x", "heads/", "stage", "tags/a\nb", "heads/a.lock"] {
            assert!(message(name, &commit).read().is_err(), "{name:?}");
        }
        for target in ["deleted", "ref heads/x", "commit 00", &format!("commit {}", sha256(b"other")), "tree"] {
            assert!(message("heads/main", target).read().is_err(), "{target:?}");
        }
    }
}
