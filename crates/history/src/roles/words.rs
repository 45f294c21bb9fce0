//! The words of a tensor's name, and what they say beside its kind.

use super::Part;

/// A word of a name: what stands between dots, slashes, colons and underscores, in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word<'w> {
    pub(super) text: &'w str,
    /// Where it starts in the name, in bytes.
    start: usize,
    /// What stands before it: a separator, or nothing (0).
    separator: u8,
    /// What stands after it: a separator, or nothing (`.`).
    next: u8,
}

impl Word<'_> {
    /// Where it ends in the name, in bytes.
    pub(super) fn end(&self) -> usize {
        self.start + self.text.len()
    }

    /// Whether it is of the same part of the name as the word before it.
    pub(super) fn glued(&self) -> bool {
        self.separator == b'_'
    }

    /// Whether it counts something; a number beside a colon, as in `kernel:0`, is of an output.
    pub(super) fn is_number(&self) -> bool {
        self.separator != b':' && self.next != b':' && self.is_digits()
    }

    pub(super) fn is_digits(&self) -> bool {
        self.text.bytes().all(|byte| byte.is_ascii_digit())
    }
}

/// Splits a name, in lower case, into words. TensorFlow's number of an output (`kernel:0`) and the number that sets a name apart
/// that was there before (`weight#2`) are left out.
pub(super) fn split(lower: &str) -> Vec<Word<'_>> {
    let is_count = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let lower = match lower.rsplit_once('#') {
        Some((before, tail)) if is_count(tail) => before,
        _ => lower,
    };
    let mut words = Vec::new();
    let (mut start, mut separator) = (0, 0);
    for (at, next) in lower.bytes().enumerate().chain([(lower.len(), b'.')]) {
        if !matches!(next, b'.' | b'/' | b':' | b'_') {
            continue;
        }
        match lower.get(start..at) {
            // Of `/_` the first counts; a colon beside a word always does.
            Some(text) if !text.is_empty() => {
                words.push(Word { text, start, separator, next });
                separator = next;
            }
            _ if next == b':' || matches!(separator, b'_' | b':') => separator = next,
            _ => {}
        }
        start = at + 1;
    }
    if words.last().is_some_and(|word| word.separator == b':' && is_count(word.text)) {
        words.pop();
    }
    words
}

/// The parts of a name: runs of words that underscores join.
pub(super) fn parts<'s, 'w>(words: &'s [Word<'w>]) -> Vec<&'s [Word<'w>]> {
    words.chunk_by(|_, next| next.glued()).collect()
}

/// Which word is the number of the layer: the first that is one, as [`layer_of`](crate::layer_of) has it.
pub(super) fn number_of_layer(words: &[Word<'_>]) -> Option<usize> {
    (0..words.len()).find(|at| words.get(*at).is_some_and(Word::is_number) && !is_variable(words, *at))
}

/// Whether a word is the number of a layer's variable, as Keras 3 has it: `0` of `vars/0`.
fn is_variable(words: &[Word<'_>], at: usize) -> bool {
    let is_part = |word: &Word<'_>| !matches!(word.separator, b'_' | b':') && !matches!(word.next, b'_' | b':');
    let before = at.checked_sub(1).and_then(|before| words.get(before));
    before.is_some_and(|word| word.text == "vars" && is_part(word)) && words.get(at).is_some_and(is_part)
}

/// Where the words of a pattern begin, if these words end in them. `_` in a pattern is any separator.
pub(super) fn ends_with(words: &[Word<'_>], pattern: &str) -> Option<usize> {
    // Most patterns end in another word: that is seen without taking them apart.
    if !pattern.ends_with(words.last()?.text) {
        return None;
    }
    let mut at = words.len();
    for expected in pattern.rsplit('_') {
        at = at.checked_sub(1)?;
        if words.get(at)?.text != expected {
            return None;
        }
    }
    Some(at)
}

/// Where a pattern begins and ends, if it stands somewhere in these words; the last such place.
pub(super) fn find(words: &[Word<'_>], pattern: &str) -> Option<(usize, usize)> {
    (1..=words.len()).rev().find_map(|end| ends_with(words.get(..end)?, pattern).map(|start| (start, end)))
}

/// What a part of a name is called that no scheme knows: its words after the last number within it, as the file writes them.
/// One number at its end is left to it (`dense_1`); several are those of a graph's values.
pub(super) fn label<'a>(name: &'a str, part: &[Word<'_>]) -> &'a str {
    let numbers = part.iter().rev().take_while(|word| word.is_number()).count();
    let (kept, tail) = part.split_at(part.len() - numbers);
    let start = kept.iter().rposition(Word::is_number).map_or(0, |at| at + 1);
    let first = kept.get(start).or_else(|| tail.last());
    let last = if tail.len() == 1 { tail.last() } else { kept.last().or_else(|| tail.last()) };
    first.zip(last).and_then(|(first, last)| name.get(first.start..last.end())).unwrap_or(name)
}

/// Words that say little by themselves: `norm1.linear` is not `norm2.linear`.
pub(super) const WEAK: [&str; 12] =
    ["linear", "lin", "dense", "proj", "projection", "fc", "conv", "layer", "layers", "net", "main", "inner"];

/// Whether a part of a name says that what follows or comes before it is an optimizer's.
pub(super) fn marks_optimizer(part: &[Word<'_>]) -> bool {
    match part {
        [first, second] if first.text == "opt" => second.text == "state",
        [first, ..] => {
            matches!(first.text, "optimizer" | "optimizers" | "optim" | "adam" | "adamw" | "rmsprop" | "sgd")
        }
        [] => false,
    }
}

/// What an optimizer keeps; whether it says so only after a word that [marks](marks_optimizer) one. Longer names come first.
const MOMENTS: [(&str, Part, bool); 22] = [
    ("max_exp_avg_sq", Part::MaxSecondMoment, false),
    ("exp_avg_sq_row", Part::SecondMoment, false),
    ("exp_avg_sq_col", Part::SecondMoment, false),
    ("exp_avg_sq", Part::SecondMoment, false),
    ("exp_avg", Part::FirstMoment, false),
    ("square_avg", Part::SecondMoment, false),
    ("momentum_buffer", Part::Momentum, false),
    ("fp32_param", Part::Master, false),
    ("master_param", Part::Master, false),
    ("momentum", Part::Momentum, true),
    ("velocity", Part::Momentum, true),
    ("trace", Part::Momentum, true),
    ("m", Part::FirstMoment, true),
    ("mu", Part::FirstMoment, true),
    ("state1", Part::FirstMoment, true),
    ("v", Part::SecondMoment, true),
    ("nu", Part::SecondMoment, true),
    ("state2", Part::SecondMoment, true),
    ("vhat", Part::MaxSecondMoment, true),
    ("step", Part::Step, true),
    ("iteration", Part::Step, true),
    ("count", Part::Step, true),
];

/// Takes out what says that a tensor is of an optimizer, and with it the number of the parameter.
pub(super) fn take_optimizer(words: &mut Vec<Word<'_>>) -> Option<Part> {
    // A dict that holds `state` with numbers in it is an optimizer's.
    let is_state = matches!(&words[..], [state, number, ..] if state.text == "state" && number.is_number());
    let marked = |words: &[Word<'_>]| is_state || parts(words).into_iter().any(marks_optimizer);
    let moment = MOMENTS.iter().find_map(|(pattern, part, needs_mark)| {
        let (start, end) = find(words, pattern)?;
        // A short name is one part of the name, and follows the mark: `adam/m/dense`, not `adam_m`.
        let is_part = words.get(start).is_some_and(|word| !word.glued()) && !words.get(end).is_some_and(Word::glued);
        (!needs_mark || (is_part && marked(words.get(..start)?))).then_some((start, end, *part))
    });
    let part = match moment {
        Some((start, end, part)) => {
            words.drain(start..end);
            part
        }
        None if marked(words) => Part::OptimizerState,
        None => return None,
    };
    let mut kept = Vec::with_capacity(words.len());
    let mut after_mark = false;
    for part in parts(words) {
        after_mark = match part {
            [state] if matches!(state.text, "state" | "vars") => true,
            [number] if after_mark && number.is_number() => true,
            part => marks_optimizer(part),
        };
        if !after_mark {
            kept.extend_from_slice(part);
        }
    }
    *words = kept;
    Some(part)
}

/// How a name ends that says which part this is; whether that has to be a part of the name by itself. Longer ones come first.
const ENDINGS: [(&str, Part, bool); 47] = [
    ("parametrizations_weight_original0", Part::Gain, true),
    ("parametrizations_weight_original1", Part::Weight, true),
    ("quant_state_bitsandbytes_nf4", Part::Quantization, true),
    ("quant_state_bitsandbytes_fp4", Part::Quantization, true),
    ("nested_quant_map", Part::Quantization, true),
    ("quant_map", Part::Quantization, true),
    ("nested_absmax", Part::Scale, true),
    ("absmax", Part::Scale, true),
    ("weight_scale_inv", Part::Scale, true),
    ("weight_scale", Part::Scale, true),
    ("weight_zero_point", Part::ZeroPoint, true),
    ("weight_quantized", Part::Weight, true),
    ("weight_packed", Part::Weight, true),
    ("weight_shape", Part::Quantization, true),
    ("input_scale", Part::ActivationScale, true),
    ("output_scale", Part::ActivationScale, true),
    ("scale_inv", Part::Scale, false),
    ("zero_point", Part::ZeroPoint, false),
    ("zero_points", Part::ZeroPoint, false),
    ("qweight", Part::Weight, true),
    ("qzeros", Part::ZeroPoint, true),
    ("g_idx", Part::Quantization, true),
    ("scb", Part::Scale, true),
    ("scales", Part::Scale, false),
    ("scale", Part::Scale, false),
    ("quantized", Part::Weight, false),
    ("running_mean", Part::RunningMean, true),
    ("moving_mean", Part::RunningMean, true),
    ("running_var", Part::RunningVariance, true),
    ("moving_variance", Part::RunningVariance, true),
    ("num_batches_tracked", Part::BatchCount, true),
    ("weight_orig", Part::Weight, true),
    ("weight_g", Part::Gain, true),
    ("weight_v", Part::Weight, true),
    ("weight", Part::Weight, false),
    ("weights", Part::Weight, false),
    ("kernel", Part::Weight, false),
    ("blocks", Part::Weight, false),
    ("bias", Part::Bias, false),
    ("biases", Part::Bias, false),
    ("gamma", Part::Weight, true),
    ("beta", Part::Bias, true),
    ("offset", Part::Bias, true),
    ("mean", Part::RunningMean, true),
    ("var", Part::RunningVariance, true),
    ("w", Part::Weight, true),
    ("b", Part::Bias, true),
];

/// Ends of names that wrappers add, and that say nothing.
const WRAPPERS: [&str; 4] = ["base_layer", "original_module", "modules_to_save_default", "attributes_variable_value"];

/// Words whose scale is a weight, not that of a quantised tensor.
const SCALED: [&str; 6] = ["logit", "layer", "skip", "embed", "temperature", "channel"];

/// Takes off how a name ends, where that says which part this is.
pub(super) fn take_part(words: &mut Vec<Word<'_>>) -> Option<Part> {
    take_wrappers(words);
    let special = take_variable(words).or_else(|| take_recurrent(words)).or_else(|| take_letter(words));
    if special.is_some() {
        return special;
    }
    let (start, part) = ending(words)?;
    words.truncate(start);
    take_wrappers(words);
    // Of a scale it may be said whose it is; a bias is told from a weight, not of one.
    if !matches!(part, Part::Weight | Part::Bias)
        && let Some((start, Part::Weight | Part::Bias)) = ending(words)
    {
        words.truncate(start);
        take_wrappers(words);
    }
    Some(part)
}

fn take_wrappers(words: &mut Vec<Word<'_>>) {
    loop {
        if let Some(start) = WRAPPERS.iter().find_map(|pattern| ends_with(words, pattern)).filter(|start| *start > 0) {
            words.truncate(start);
        } else if let [.., output, number] = &words[..]
            && output.text == "output"
            && output.glued()
            && number.glued()
            && number.is_number()
        {
            // What a node of an ONNX graph puts out.
            words.truncate(words.len() - 2);
        } else {
            return;
        }
    }
}

fn ending(words: &[Word<'_>]) -> Option<(usize, Part)> {
    // A number after the ending counts tensors that have the same name: `kernel_1`.
    let words = match words {
        [before @ .., last] if last.is_number() && last.glued() => before,
        all => all,
    };
    ENDINGS.iter().find_map(|(pattern, part, whole)| {
        let start = ends_with(words, pattern)?;
        let (before, rest) = words.split_at_checked(start)?;
        let glued = rest.first()?.glued();
        let follows = |names: &[&str]| glued && before.last().is_some_and(|word| names.contains(&word.text));
        let allowed = match *pattern {
            "scale" => !follows(&SCALED),
            // `gate_up_proj_blocks` are the codes of a weight; `down_blocks` would be a stack of layers.
            "blocks" => follows(&["proj"]),
            "mean" | "var" => !glued && before.iter().any(|word| word.text == "stats"),
            _ => !(*whole && glued),
        };
        allowed.then_some((start, *part))
    })
}

/// Takes off what says which weight of a recurrent cell this is beside where it comes from: of `rnn.weight_ih_l0` it leaves
/// `rnn.ih`.
fn take_recurrent(words: &mut Vec<Word<'_>>) -> Option<Part> {
    let is_count =
        |text: &str| text.strip_prefix('l').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    let count = words.iter().rev().take_while(|word| word.text == "reverse" || is_count(word.text)).count();
    let end = words.len() - count;
    let [.., part, from] = words.get(..end)? else { return None };
    let part = match (part.text, from.text) {
        ("weight", "ih" | "hh" | "hr") => Part::Weight,
        ("bias", "ih" | "hh") => Part::Bias,
        _ => return None,
    };
    let separator = words.get(end - 2)?.separator;
    words.truncate(end);
    words.remove(end - 2);
    words.last_mut()?.separator = separator;
    Some(part)
}

/// Takes a name that is nothing but a letter and a number, as of `W1` and `b1`.
fn take_letter(words: &mut Vec<Word<'_>>) -> Option<Part> {
    let [word] = &words[..] else { return None };
    let part = match word.text.trim_end_matches(|character: char| character.is_ascii_digit()) {
        "w" | "weight" | "kernel" => Part::Weight,
        "b" | "bias" => Part::Bias,
        _ => return None,
    };
    words.clear();
    Some(part)
}

/// Takes off the number of a variable, as Keras 3 has it: of a layer `vars/0` is the kernel and `vars/1` the bias.
fn take_variable(words: &mut Vec<Word<'_>>) -> Option<Part> {
    let [before @ .., _, number] = &words[..] else { return None };
    if !is_variable(words, before.len() + 1) {
        return None;
    }
    let normalises = before.iter().any(|word| word.text.starts_with("normalization"));
    let part = match number.text {
        "0" => Part::Weight,
        "1" => Part::Bias,
        "2" if normalises => Part::RunningMean,
        "3" if normalises => Part::RunningVariance,
        _ => return None,
    };
    let length = before.len();
    words.truncate(length);
    Some(part)
}

/// A part of an adapter, by its labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Adapter {
    pub(super) short: &'static str,
    pub(super) full: &'static str,
}

/// How adapters call their parts, and the labels. LoRA: Hu et al. 2021; DoRA: Liu et al. 2024; LoHa and LoKr: Yeh et al.
/// 2023; (IA)³: Liu et al. 2022. Longer names come first.
const ADAPTERS: [(&str, Adapter); 21] = {
    const fn adapter(short: &'static str, full: &'static str) -> Adapter {
        Adapter { short, full }
    }
    [
        ("lora_a", adapter("A", "LoRA A")),
        ("lora_down", adapter("A", "LoRA A")),
        ("lora_embedding_a", adapter("A", "LoRA A")),
        ("lora_b", adapter("B", "LoRA B")),
        ("lora_up", adapter("B", "LoRA B")),
        ("lora_embedding_b", adapter("B", "LoRA B")),
        ("lora_mid", adapter("mid", "LoRA, between A and B")),
        ("lora_magnitude_vector", adapter("magnitude", "DoRA magnitude")),
        ("dora_scale", adapter("magnitude", "DoRA magnitude")),
        ("hada_w1_a", adapter("w1 A", "LoHa, A of the first product")),
        ("hada_w1_b", adapter("w1 B", "LoHa, B of the first product")),
        ("hada_w2_a", adapter("w2 A", "LoHa, A of the second product")),
        ("hada_w2_b", adapter("w2 B", "LoHa, B of the second product")),
        ("lokr_w1_a", adapter("w1 A", "LoKr, A of the first factor")),
        ("lokr_w1_b", adapter("w1 B", "LoKr, B of the first factor")),
        ("lokr_w1", adapter("w1", "LoKr, first factor")),
        ("lokr_w2_a", adapter("w2 A", "LoKr, A of the second factor")),
        ("lokr_w2_b", adapter("w2 B", "LoKr, B of the second factor")),
        ("lokr_w2", adapter("w2", "LoKr, second factor")),
        ("ia3_l", adapter("ia3", "(IA)³ factor")),
        ("alpha", adapter("alpha", "LoRA alpha")),
    ]
};

/// Takes off what says which part of an adapter this is, and what comes after it: the adapter's name.
pub(super) fn take_adapter(words: &mut Vec<Word<'_>>) -> Option<Adapter> {
    // Anything may have an alpha: an adapter's ends a name that begins with what it is.
    let is_lora = words.first().is_some_and(|word| word.text == "lora");
    let (start, adapter) = ADAPTERS.iter().find_map(|(pattern, adapter)| {
        let (start, end) = find(words, pattern)?;
        (*pattern != "alpha" || (is_lora && end == words.len())).then_some((start, *adapter))
    })?;
    words.truncate(start);
    take_wrappers(words);
    Some(adapter)
}
