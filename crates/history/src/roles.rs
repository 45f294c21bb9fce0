//! Finds what a tensor does in its model, by its name, whatever the naming scheme.
//!
//! A name is read from its end. What says which *part* this is comes off first (`weight`, `bias`, `running_mean`, `weight_scale`,
//! `exp_avg`), then an adapter's part (`lora_A`), and what is left is compared with the names that libraries give. A name that
//! none of them gives is a kind of its own, so nothing is ever lost.
//!
//! The names are those of published checkpoints: Hugging Face transformers, diffusers and PEFT, timm, torchvision, fairseq,
//! llama.cpp's GGUF, Flax, Haiku and Keras, and the quantised forms that ONNX Runtime, GPTQ and bitsandbytes write.

mod kinds;
mod order;
mod rules;
#[cfg(test)]
mod tests;
mod words;

use std::cmp::Ordering;

use crate::layers::{layer_of, natural_cmp};
use kinds::{Area, What};
pub use order::in_model_order;
use words::{Adapter, Word};

/// Which of the tensors of its kind a tensor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The weight itself, in whatever type it is stored; also a norm's factor.
    Weight,
    /// What is added: a bias, a norm's offset.
    Bias,
    /// The length of each row, where a weight is kept as length and direction (Salimans and Kingma 2016).
    Gain,
    /// Batch norm's running mean.
    RunningMean,
    /// Batch norm's running variance.
    RunningVariance,
    /// How many batches a batch norm has seen.
    BatchCount,
    /// What the integers of a quantised weight are multiplied by.
    Scale,
    /// The integer that stands for zero in a quantised weight.
    ZeroPoint,
    /// What the integers of quantised activations are multiplied by.
    ActivationScale,
    /// Whatever else comes with a quantised weight: a code book, the order of its groups.
    Quantization,
    /// The optimizer's copy of the weight in full precision.
    Master,
    /// The optimizer's running mean of gradients (Kingma and Ba 2015: m).
    FirstMoment,
    /// The optimizer's running mean of squared gradients (v).
    SecondMoment,
    /// AMSGrad's largest second moment so far.
    MaxSecondMoment,
    /// The momentum of stochastic gradient descent.
    Momentum,
    /// How many steps the optimizer made.
    Step,
    /// Whatever else an optimizer keeps.
    OptimizerState,
}

impl Part {
    /// What sets it apart in a column's label, short and in full; nothing for weights and biases.
    const fn label(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Weight | Self::Bias => None,
            Self::Gain => Some(("gain", "gain of the weight norm")),
            Self::RunningMean | Self::RunningVariance => Some(("stats", "running mean and variance")),
            Self::BatchCount => Some(("count", "batches seen")),
            Self::Scale => Some(("scale", "scale of the quantisation")),
            Self::ZeroPoint => Some(("zero", "zero point of the quantisation")),
            Self::ActivationScale => Some(("act scale", "scale of the activations")),
            Self::Quantization => Some(("quant", "other data of the quantisation")),
            Self::Master => Some(("master", "the optimizer's copy in full precision")),
            Self::FirstMoment => Some(("m", "first moment")),
            Self::SecondMoment => Some(("v", "second moment")),
            Self::MaxSecondMoment => Some(("v max", "largest second moment")),
            Self::Momentum => Some(("momentum", "momentum")),
            Self::Step => Some(("step", "steps of the optimizer")),
            Self::OptimizerState => Some(("state", "state of the optimizer")),
        }
    }

    /// The part that stands for all that share a column.
    const fn of_column(self) -> Self {
        match self {
            Self::Bias => Self::Weight,
            Self::RunningVariance => Self::RunningMean,
            other => other,
        }
    }

    /// Whether it is something that an optimizer keeps beside the weights.
    #[must_use]
    pub const fn is_optimizer_state(self) -> bool {
        matches!(self.section(), Section::Optimizer)
    }

    /// Which columns it stands with.
    const fn section(self) -> Section {
        match self {
            Self::Weight | Self::Bias | Self::Gain | Self::RunningMean | Self::RunningVariance | Self::BatchCount => {
                Section::Weights
            }
            Self::Scale | Self::ZeroPoint | Self::ActivationScale | Self::Quantization => Section::Quantization,
            Self::Master
            | Self::FirstMoment
            | Self::SecondMoment
            | Self::MaxSecondMoment
            | Self::Momentum
            | Self::Step
            | Self::OptimizerState => Section::Optimizer,
        }
    }
}

/// Columns that stand together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Section {
    Weights,
    Adapters,
    Quantization,
    Optimizer,
}

/// The words of a name that no scheme has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Own<'a> {
    /// What stands before it, where the last part of the name alone says little: `norm1` of `norm1.linear`.
    of: &'a str,
    /// The last part: `dt_proj`.
    last: &'a str,
}

impl Own<'_> {
    /// The parts in the order in which they are read.
    fn parts(&self) -> [&str; 2] {
        if self.of.is_empty() { [self.last, ""] } else { [self.of, self.last] }
    }
}

impl Ord for Own<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let pairs = self.parts().into_iter().zip(other.parts());
        pairs.map(|(part, other)| natural_cmp(part, other)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    }
}

impl PartialOrd for Own<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A kind of tensors: those that may stand in one column. Weights and biases of one kind do; moments of an optimizer, factors
/// of an adapter and scales of quantised weights are kinds of their own.
///
/// The order is the one in which a model uses them: embeddings, attention (norm, q, k, v, qkv, o), the same for
/// cross-attention, the MLP (norm, gate, up, down, router), experts, state space models, convolutions and their norms, what
/// is known by its own name only, the last norm, the pooler, the head. After all of these come adapters, then what comes with
/// quantised weights, then what an optimizer keeps, each in the same order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Column<'a> {
    what: What,
    area: Area,
    /// The number of those that come in several: 1 of `conv1`.
    number: Option<u64>,
    own: Own<'a>,
    adapter: Option<Adapter>,
    part: Part,
}

impl Column<'_> {
    /// As short as can be understood beside its neighbours: `q`, `cross k`, `conv1`, `q A`, `q m`, `q scale`. What no scheme has
    /// is called what the file calls it: such words are a stranger's, and may hold anything.
    #[must_use]
    pub fn short(&self) -> String {
        let (kind, _) = self.what.labels();
        let number = self.number.map(|number| number.to_string()).unwrap_or_default();
        let kind = format!("{}{kind}{number}{}", self.area.labels().0, self.own_label());
        self.with_parts(kind, " ", |(short, _)| short)
    }

    /// In full: `attention query`, `cross-attention key`, `attention query, LoRA A`, `attention query, first moment`.
    #[must_use]
    pub fn full(&self) -> String {
        let (_, kind) = self.what.labels();
        let number = self.number.map(|number| format!(" {number}")).unwrap_or_default();
        let kind = format!("{}{kind}{number}{}", self.area.labels().1, self.own_label());
        self.with_parts(kind, ", ", |(_, full)| full)
    }

    fn own_label(&self) -> String {
        let dot = if self.own.of.is_empty() { "" } else { "." };
        format!("{}{dot}{}", self.own.of, self.own.last)
    }

    fn with_parts(
        &self,
        kind: String,
        between: &str,
        choose: fn(&(&'static str, &'static str)) -> &'static str,
    ) -> String {
        let adapter = self.adapter.map(|Adapter { short, full }| choose(&(short, full)));
        let part = self.part.label().map(|labels| choose(&labels));
        // Of a tensor of which nothing else is known, the part says enough.
        let kind = Some(kind).filter(|_| self.what != What::Plain || (adapter.is_none() && part.is_none()));
        let labels = [kind.as_deref(), adapter, part];
        labels.into_iter().flatten().collect::<Vec<_>>().join(between)
    }

    fn section(&self) -> Section {
        let section = self.part.section();
        if self.adapter.is_some() { section.max(Section::Adapters) } else { section }
    }

    /// Convolutions take turns with their norms: `conv1`, `bn1`, `conv2`, `bn2`.
    fn turn(&self) -> u64 {
        match self.what {
            What::Convolution | What::BatchNorm => self.number.map_or(0, |number| number.saturating_add(1)),
            _ => u64::MAX,
        }
    }
}

impl Ord for Column<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let place = |column: &Self| (column.section(), column.what.group(), column.area, column.turn(), column.what);
        place(self)
            .cmp(&place(other))
            .then_with(|| self.number.cmp(&other.number))
            .then_with(|| self.own.cmp(&other.own))
            .then_with(|| (self.part, self.adapter).cmp(&(other.part, other.adapter)))
    }
}

impl PartialOrd for Column<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// What a tensor does in its model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Role<'a> {
    /// The kind of tensors that it belongs to.
    pub column: Column<'a>,
    /// Which of them it is.
    pub part: Part,
}

/// What a tensor does in its model, by its name. Every name has a role, and one that differs only in the number of its layer
/// has the same.
#[must_use]
pub fn role_of(name: &str) -> Role<'_> {
    let lower = name.to_ascii_lowercase();
    let mut words = words::split(&lower);
    let of_optimizer = words::take_optimizer(&mut words);
    let of_weight = words::take_part(&mut words);
    let adapter = words::take_adapter(&mut words);
    let place = Place::of(name, &words);
    let Kind { what, area, number, own } = rules::find(&place, of_weight).unwrap_or_else(|| unknown(name, &place));
    let of_weight = match of_weight {
        // Flax calls a norm's factor its scale.
        Some(Part::Scale) if what.is_norm() => Part::Weight,
        // GPT-2 and GPT-NeoX call the mask `attn.bias`.
        Some(_) if what == What::Mask => Part::Weight,
        part => part.unwrap_or(Part::Weight),
    };
    let part = of_optimizer.unwrap_or(of_weight);
    Role { column: Column { what, area, number, own, adapter, part: part.of_column() }, part }
}

/// A kind of tensors, without what sets its parts apart.
#[derive(Debug, Clone, Copy, Default)]
struct Kind<'a> {
    what: What,
    area: Area,
    number: Option<u64>,
    own: Own<'a>,
}

/// Where the words that tell a tensor's kind stand.
#[derive(Debug, Clone, Copy)]
struct Place<'w> {
    /// All words of the name but those of parts.
    all: &'w [Word<'w>],
    /// The words that tell it: those after the number of the layer, or those before it where none come after it.
    words: &'w [Word<'w>],
    /// The word before the number, which may be about all that comes after it: `experts`, `multi_head_attention`.
    before: &'w [Word<'w>],
    /// How the words and the number of the layer stand to each other.
    numbered: Numbered,
    /// Whether they are words of the layer's name, whose digits then count layers: `conv1`, `dense_3`.
    names_layer: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Numbered {
    /// The words come after the number: `h.3.attn.c_attn`.
    Inside,
    /// The number comes after the words: `dense_3`, `features.3`.
    Itself,
    /// There is no number.
    Nowhere,
}

impl<'w> Place<'w> {
    fn of(name: &str, all: &'w [Word<'w>]) -> Self {
        let number = words::number_of_layer(all).unwrap_or(all.len());
        let (before, rest) = all.split_at(number);
        let part =
            before.iter().rposition(|word| !word.glued()).and_then(|start| all.get(start..=number)).unwrap_or(&[]);
        let is_part = |words: &[Word<'_>]| {
            let same = |(a, b): (&Word<'_>, &Word<'_>)| a.text == b.text || (a.is_digits() && b.is_digits());
            words.len() == part.len() && words.iter().zip(part).all(same)
        };
        let (words, before, numbered) = match rest {
            [] => (all, &[][..], Numbered::Nowhere),
            [_] => (before, &[][..], Numbered::Itself),
            // Keras says it twice: `dense_1/dense_1/kernel:0`.
            [_, inside @ ..] if is_part(inside) => (before, &[][..], Numbered::Itself),
            [_, inside @ ..] => (inside, before.get(before.len().saturating_sub(1)..).unwrap_or(&[]), Numbered::Inside),
        };
        let end = words.last().map_or(0, Word::end);
        Self { all, words, before, numbered, names_layer: numbered != Numbered::Inside && end <= layer_of(name).len() }
    }
}

/// The kind of a tensor whose name no scheme has: what the last part of the name says.
fn unknown<'a>(name: &'a str, place: &Place<'_>) -> Kind<'a> {
    let parts = words::parts(place.words);
    let Some(last) = parts.last() else { return Kind::default() };
    let is_constant = |part: &&[Word<'_>]| part.first().is_some_and(|word| word.text.starts_with("constant"));
    if words::parts(place.all).iter().rev().take(2).any(is_constant) {
        return Kind { what: What::Constant, ..Kind::default() };
    }
    let label = words::label(name, last);
    let own = if place.names_layer {
        // `features.0.weight`: the layer has a number for a name, and its weight has no other.
        let is_counted = place.numbered == Numbered::Itself
            && name.as_bytes().get(last.last().map_or(0, Word::end)).is_none_or(|byte| *byte != b'_');
        let label = label.trim_end_matches(|character: char| character.is_ascii_digit());
        Own { of: "", last: if is_counted { "" } else { label } }
    } else {
        let is_weak = last.iter().all(|word| word.is_number() || words::WEAK.contains(&word.text));
        let before = parts.iter().rev().skip(1).find(|part| !part.iter().all(Word::is_number));
        Own { of: before.filter(|_| is_weak).map_or("", |part| words::label(name, part)), last: label }
    };
    let what = if own.last.is_empty() { What::Plain } else { What::Own };
    Kind { what, own, ..Kind::default() }
}
