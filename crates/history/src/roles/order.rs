//! Layers in the order in which a model uses them.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::kinds::{Group, What};
use super::words::{self, Word};
use super::{Part, Section, role_of};
use crate::layers::{Layer, natural_cmp};

/// Where a layer stands in its model, coarsely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Stage {
    /// What comes in: embeddings of what is neither an encoder nor a decoder.
    Input,
    Encoder,
    Middle,
    Decoder,
    /// What goes out.
    Output,
    Rest,
    Optimizer,
}

/// Where it stands within that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Rank {
    Embedding,
    /// Convolutions before the first layer.
    Stem,
    /// Layers of a stack: on the way down, at the bottom or where there is no up and down, on the way up.
    Down,
    Bottom,
    Up,
    FinalNorm,
    Pooler,
    Head,
    Rest,
}

/// Where a layer stands in its model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Place {
    stage: Stage,
    /// Of what an optimizer keeps, what it is: each moment has all layers.
    moment: Option<Part>,
    rank: Rank,
    /// The number and kind of embeddings and convolutions, which have an order among themselves: `conv1`, `bn1`, `conv2`.
    turn: Option<(u64, What)>,
}

/// A name among those of its stack.
#[derive(Debug, PartialEq, Eq)]
struct Natural(String);

impl Ord for Natural {
    fn cmp(&self, other: &Self) -> Ordering {
        natural_cmp(&self.0, &other.0)
    }
}

impl PartialOrd for Natural {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Puts layers, as [`roll_up`](crate::roll_up) gives them, into the order in which a model uses them: embeddings, the first
/// convolutions, the layers of each stack by number, the last norm, the pooler, the head, then what is none of these, and what
/// an optimizer keeps. An encoder comes before a decoder. Names sorted by the alphabet, as safetensors files have them, tell
/// none of that; where this says nothing either, the given order stays.
pub fn in_model_order(layers: &mut [Layer]) {
    let mut stacks: HashMap<(Place, String), usize> = HashMap::new();
    layers.sort_by_cached_key(|layer| {
        let place = Place::of(&layer.name);
        let stem = layer.name.chars().filter(|character| !character.is_ascii_digit()).collect();
        let count = stacks.len();
        let stack = *stacks.entry((place, stem)).or_insert(count);
        (place, stack, Natural(layer.name.clone()))
    });
}

impl Place {
    fn of(name: &str) -> Self {
        let lower = name.to_ascii_lowercase();
        let words = words::split(&lower);
        let role = role_of(name);
        let rank = Rank::of(&words, role.column.what);
        let moment = Some(role.part).filter(|part| part.section() == Section::Optimizer);
        let stage = if moment.is_some() { Stage::Optimizer } else { Stage::of(&words, rank) };
        let turn = matches!(rank, Rank::Embedding | Rank::Stem | Rank::Head).then(|| {
            let number = lower.rsplit(|character: char| !character.is_ascii_digit()).find(|digits| !digits.is_empty());
            let number = number.filter(|_| rank == Rank::Stem).and_then(|digits| digits.parse().ok());
            (number.unwrap_or(0), role.column.what)
        });
        Self { stage, moment, rank, turn }
    }
}

impl Rank {
    fn of(words: &[Word<'_>], what: What) -> Self {
        let has = |names: &[&str]| words.iter().any(|word| names.contains(&word.text));
        let last = words.last().map_or("", |word| word.text);
        match what {
            _ if what.group() == Group::Embedding => Self::Embedding,
            What::FinalNorm => Self::FinalNorm,
            What::Pooler => Self::Pooler,
            What::HeadDense | What::HeadNorm | What::Head => Self::Head,
            What::RecurrentIn | What::RecurrentHidden => Self::Bottom,
            _ if words.iter().any(Word::is_number) => {
                if has(&["mid", "middle"]) {
                    Self::Bottom
                } else if has(&["down", "input"]) {
                    Self::Down
                } else if has(&["up", "output", "single"]) {
                    Self::Up
                } else {
                    Self::Bottom
                }
            }
            // The parts of an encoder or decoder that are in no layer of it.
            _ if ENCODER.contains(&last) || DECODER.contains(&last) => Self::Stem,
            _ if words::parts(words).last().is_some_and(|part| is_stem(part, what)) => Self::Stem,
            _ => Self::Rest,
        }
    }
}

/// Whether a part of a name is that of a convolution before all layers, or of its norm, such as `conv_in` and `bn1`.
fn is_stem(part: &[Word<'_>], what: What) -> bool {
    (matches!(what, What::Convolution | What::BatchNorm | What::Norm)
        || part.iter().any(|word| word.text.starts_with("conv")))
        && !part.iter().any(|word| matches!(word.text, "quant" | "final" | "out" | "last"))
}

const ENCODER: [&str; 6] = ["encoder", "enc", "vision", "visual", "audio", "image"];
const DECODER: [&str; 4] = ["decoder", "dec", "language", "text"];

impl Stage {
    fn of(words: &[Word<'_>], rank: Rank) -> Self {
        let side = words.iter().find_map(|word| match word.text {
            text if ENCODER.contains(&text) => Some(Self::Encoder),
            text if DECODER.contains(&text) => Some(Self::Decoder),
            _ => None,
        });
        match (rank, side) {
            (Rank::Head, _) => Self::Output,
            (_, Some(side)) => side,
            (Rank::Embedding | Rank::Stem, None) => Self::Input,
            // What makes the input of an encoder has layers of its own.
            _ if words::find(words, "feature_extractor").is_some() => Self::Input,
            (Rank::Down | Rank::Bottom | Rank::Up, None) => Self::Middle,
            (Rank::FinalNorm | Rank::Pooler, None) => Self::Output,
            (Rank::Rest, None) => Self::Rest,
        }
    }
}
