//! SHA-256 of several messages at once (FIPS 180-4).
//!
//! The CPU's SHA instructions wait for one another within one message: half of their throughput stays unused. Two messages,
//! taken in turn, fill the gaps. Sixteen messages, one in each 32-bit lane of AVX-512, take 0.56 of the time of eight such pairs
//! (Xeon of 2023). The safe twin and oracle is [`Sha256`], which every other CPU uses.

use shard_core::{Digest, Sha256};

#[cfg(target_arch = "x86_64")]
use super::Isa;

#[cfg(target_arch = "x86_64")]
mod pair;
#[cfg(target_arch = "x86_64")]
mod sixteen;

/// Bytes that the compression function takes at once.
const BLOCK: usize = 64;

/// The first 32 bits of the fractional parts of the cube roots of the first 64 primes.
#[cfg(target_arch = "x86_64")]
static K: [u32; 64] = [
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98,
    0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
    0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8,
    0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
    0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819,
    0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
    0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
    0xc67178f2,
];

/// Messages that [`sha256_all`] takes side by side.
pub const LANES: usize = 16;

/// Lanes that have to have a message for all of them to be faster than pairs are.
const LEAST: usize = 10;

/// The digests of messages, in their order. Fastest where [`LANES`] of them have about one length.
#[must_use]
pub fn sha256_all(messages: &[&[u8]]) -> Vec<Digest> {
    let mut hashes: Vec<Sha256> = messages.iter().map(|_| Sha256::new()).collect();
    // The longest first: what they have in common is done side by side.
    let mut open: Vec<(&mut Sha256, &[u8])> = hashes.iter_mut().zip(messages.iter().copied()).collect();
    open.sort_by_key(|(_, rest)| std::cmp::Reverse(rest.len()));
    #[cfg(target_arch = "x86_64")]
    if Isa::best().has_avx512() {
        loop {
            let lanes = open.iter().take(LANES).take_while(|(_, rest)| rest.len() >= BLOCK).count();
            if lanes < LEAST {
                break;
            }
            let blocks = open[lanes - 1].1.len() / BLOCK;
            let mut taken: Vec<(&mut [u32; 8], &[[u8; BLOCK]])> = Vec::with_capacity(lanes);
            for (hash, rest) in &mut open[..lanes] {
                let (now, after) = rest.split_at(blocks * BLOCK);
                *rest = after;
                // Only whole blocks were taken in so far.
                let Some(words) = hash.take_blocks(blocks) else { continue };
                taken.push((words, now.as_chunks().0));
            }
            // SAFETY: the CPU has the instructions.
            unsafe { sixteen::compress(&mut taken) };
            open.sort_by_key(|(_, rest)| std::cmp::Reverse(rest.len()));
        }
    }
    for two in open.chunks_mut(2) {
        match two {
            [(one, first), (two, second)] => update_both([one, two], [first, second]),
            rest => rest.iter_mut().for_each(|(hash, rest)| hash.update(rest)),
        }
    }
    hashes.into_iter().map(Sha256::finish).collect()
}

/// The digests of two messages.
#[must_use]
pub fn sha256_pair(a: &[u8], b: &[u8]) -> [Digest; 2] {
    let mut hashes = [Sha256::new(), Sha256::new()];
    let [one, two] = &mut hashes;
    update_both([one, two], [a, b]);
    hashes.map(Sha256::finish)
}

/// The digest of a message, which another hash takes in as its next bytes.
#[must_use]
pub fn sha256_along(message: &[u8], other: &mut Sha256) -> Digest {
    let mut hash = Sha256::new();
    update_both([&mut hash, other], [message, message]);
    hash.finish()
}

/// Takes the next bytes of two messages into their hashes.
fn update_both(mut hashes: [&mut Sha256; 2], mut messages: [&[u8]; 2]) {
    for (hash, message) in hashes.iter_mut().zip(&mut messages) {
        let (head, rest) = message.split_at(hash.to_boundary().min(message.len()));
        hash.update(head);
        *message = rest;
    }
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("sha")
        && std::arch::is_x86_feature_detected!("ssse3")
        && std::arch::is_x86_feature_detected!("sse4.1")
    {
        let count = messages.map(|message| message.len() / BLOCK);
        let count = count[0].min(count[1]);
        let [one, two] = &mut hashes;
        if count > 0
            && let (Some(one), Some(two)) = (one.take_blocks(count), two.take_blocks(count))
        {
            let parts = messages.map(|message| message.split_at(count * BLOCK));
            // SAFETY: the CPU has the instructions.
            unsafe { pair::compress([one, two], parts.map(|(blocks, _)| blocks.as_chunks().0)) };
            messages = parts.map(|(_, rest)| rest);
        }
    }
    for (hash, message) in hashes.into_iter().zip(messages) {
        hash.update(message);
    }
}

#[cfg(test)]
mod tests {
    use shard_core::sha256;

    use super::*;

    #[test]
    fn pairs_are_what_the_oracle_says() {
        let bytes: Vec<u8> = (0..1000u32).map(|i| ((i * i) >> 3) as u8).collect();
        for len in (0..200).chain([255, 256, 257, 500]) {
            for other in [len, 0, 63, 64, 65, 300] {
                let (a, b) = (&bytes[..len], &bytes[len..len + other]);
                assert_eq!(sha256_pair(a, b), [sha256(a), sha256(b)], "{len} and {other} bytes");
            }
        }
    }

    #[test]
    fn many_are_what_the_oracle_says() {
        let bytes: Vec<u8> = (0..70_000u32).map(|i| ((i * i) >> 3) as u8).collect();
        let mut messages: Vec<&[u8]> = Vec::new();
        let check = |messages: &[&[u8]]| {
            let expected: Vec<_> = messages.iter().map(|message| sha256(message)).collect();
            assert_eq!(sha256_all(messages), expected, "{:?}", messages.iter().map(|m| m.len()).collect::<Vec<_>>());
        };
        for count in 0..50 {
            check(&messages);
            messages.push(&bytes[count * 7..][..4096]);
        }
        // Of all lengths, in no order.
        let lens = (0..90usize).map(|i| [0, 1, 63, 64, 65, 127, 128, 640, 641, 10_000, 65_536][i * 7 % 11] + i % 3);
        let mixed: Vec<&[u8]> = lens.enumerate().map(|(at, len)| &bytes[at..at + len]).collect();
        for count in [2, 15, 16, 17, 33, 90] {
            check(&mixed[..count]);
        }
    }

    #[test]
    fn a_hash_that_goes_along_is_what_the_oracle_says() {
        let bytes: Vec<u8> = (0..1000u32).map(|i| ((i * i) >> 3) as u8).collect();
        for before in [0, 1, 63, 64, 65, 130] {
            for len in (0..200).chain([255, 256, 257, 500]) {
                let (mut whole, message) = (Sha256::new(), &bytes[before..before + len]);
                whole.update(&bytes[..before]);
                assert_eq!(sha256_along(message, &mut whole), sha256(message), "{len} bytes after {before}");
                whole.update(&bytes[before + len..]);
                assert_eq!(whole.finish(), sha256(&bytes), "{len} bytes after {before}");
            }
        }
    }
}
