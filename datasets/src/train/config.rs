//! What is trained and how.

use std::collections::BTreeMap;

use serde_json::Value;

use super::TrainError;

/// A model's shape and the hyperparameters of its run.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainConfig {
    /// Seed of the text, the initial weights and the order of batches.
    pub seed: u64,
    /// Length of the text to learn from, in bytes; its last tenth is kept for validation.
    pub corpus_bytes: usize,
    /// Number of token ids, at least 256: the bytes, then the text's most frequent words.
    pub vocabulary: usize,
    /// Tokens that the model sees at once.
    pub context: usize,
    /// Elements of a token's vector; a multiple of `heads`.
    pub width: usize,
    /// Attention heads a block.
    pub heads: usize,
    /// Blocks.
    pub layers: usize,
    /// Sequences a step, each of `context` tokens; a multiple of `shards`.
    pub batch: usize,
    /// Parts of a batch that are worked on at the same time, each on a thread.
    pub shards: usize,
    /// Optimizer steps.
    pub steps: u64,
    /// Steps over which the learning rate rises to its peak.
    pub warm_up: u64,
    /// The learning rate after warm-up.
    pub peak_learning_rate: f64,
    /// The learning rate of the last step; between them lies half a cosine.
    pub final_learning_rate: f64,
    /// AdamW's decay rates of the two moments.
    pub betas: (f64, f64),
    /// AdamW's decoupled weight decay, on matrices and embeddings only, as GPT-2 and its descendants do.
    pub weight_decay: f64,
    /// The gradient is scaled down to this norm where it is longer.
    pub gradient_clip: f64,
    /// The steps after which the weights are saved, rising; at most `steps`.
    pub checkpoints: Vec<u64>,
    /// Those of the checkpoints that have all that training goes on from, too: see [`super::resume`].
    pub states: Vec<u64>,
    /// Weights whose names begin with one of these stay as they are.
    pub frozen: Vec<String>,
}

impl TrainConfig {
    /// The run of `shard demo`: 3.4 million weights (6.9 MB in bf16), six checkpoints of the run's settled half. About 25 s
    /// on two cores in a release build.
    #[must_use]
    pub fn demo() -> Self {
        Self {
            seed: 1,
            corpus_bytes: 300_000,
            vocabulary: 1024,
            context: 64,
            width: 256,
            heads: 4,
            layers: 4,
            batch: 8,
            shards: 2,
            steps: 240,
            warm_up: 20,
            peak_learning_rate: 1.5e-3,
            final_learning_rate: 1e-4,
            betas: (0.9, 0.95),
            weight_decay: 0.1,
            gradient_clip: 1.0,
            checkpoints: vec![140, 160, 180, 200, 220, 240],
            states: Vec::new(),
            frozen: Vec::new(),
        }
    }

    /// A run for tests: about 130 thousand weights, three checkpoints, under a second in a release build.
    #[must_use]
    pub fn tiny() -> Self {
        Self {
            corpus_bytes: 60_000,
            vocabulary: 512,
            context: 32,
            width: 64,
            heads: 2,
            layers: 2,
            batch: 4,
            steps: 200,
            warm_up: 10,
            peak_learning_rate: 5e-3,
            final_learning_rate: 5e-4,
            checkpoints: vec![160, 180, 200],
            ..Self::demo()
        }
    }

    /// The learning rate of step `step`, the first being 1: a linear rise over `warm_up` steps, then half a cosine down.
    #[must_use]
    pub fn learning_rate(&self, step: u64) -> f64 {
        if step < self.warm_up {
            return self.peak_learning_rate * step as f64 / self.warm_up as f64;
        }
        let span = self.steps.saturating_sub(self.warm_up).max(1);
        let done = (step - self.warm_up).min(span) as f64 / span as f64;
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
        self.final_learning_rate + (self.peak_learning_rate - self.final_learning_rate) * cosine
    }

    /// Whether a weight is trained.
    pub(super) fn trains(&self, name: &str) -> bool {
        !self.frozen.iter().any(|prefix| name.starts_with(prefix.as_str()))
    }

    /// The configuration as names and values, for a run record.
    #[must_use]
    pub fn hyperparameters(&self) -> BTreeMap<String, Value> {
        let pairs: [(&str, Value); 19] = [
            ("architecture", "gpt2".into()),
            ("optimizer", "adamw".into()),
            ("schedule", "cosine".into()),
            ("seed", self.seed.into()),
            ("corpus_bytes", self.corpus_bytes.into()),
            ("vocabulary", self.vocabulary.into()),
            ("context", self.context.into()),
            ("width", self.width.into()),
            ("heads", self.heads.into()),
            ("layers", self.layers.into()),
            ("batch", self.batch.into()),
            ("steps", self.steps.into()),
            ("warm_up", self.warm_up.into()),
            ("peak_learning_rate", self.peak_learning_rate.into()),
            ("final_learning_rate", self.final_learning_rate.into()),
            ("beta1", self.betas.0.into()),
            ("beta2", self.betas.1.into()),
            ("weight_decay", self.weight_decay.into()),
            ("gradient_clip", self.gradient_clip.into()),
        ];
        let frozen = (!self.frozen.is_empty()).then(|| ("frozen".to_owned(), self.frozen.clone().into()));
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).chain(frozen).collect()
    }

    /// Tokens of a training example: the context and the token after it.
    pub(super) fn sample(&self) -> usize {
        self.context + 1
    }

    pub(super) fn check(&self) -> Result<(), TrainError> {
        let sizes = [self.context, self.width, self.heads, self.layers, self.batch, self.shards];
        if sizes.contains(&0) || self.steps == 0 {
            return Err(TrainError::Config("every size has to be at least 1"));
        }
        if self.vocabulary < crate::text::Tokenizer::BYTES {
            return Err(TrainError::Config("the vocabulary has at least 256 ids"));
        }
        if !self.width.is_multiple_of(self.heads) {
            return Err(TrainError::Config("the width has to be a multiple of the heads"));
        }
        if !self.batch.is_multiple_of(self.shards) {
            return Err(TrainError::Config("the batch has to be a multiple of its shards"));
        }
        let rising = self.checkpoints.windows(2).all(|pair| pair[0] < pair[1]);
        if !rising || self.checkpoints.iter().any(|step| *step == 0 || *step > self.steps) {
            return Err(TrainError::Config("checkpoints are rising steps, from 1 to the last step"));
        }
        if self.states.iter().any(|step| !self.checkpoints.contains(step)) {
            return Err(TrainError::Config("states are saved with checkpoints only"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_rises_and_falls() {
        let config = TrainConfig::demo();
        let rates: Vec<f64> = (1..=config.steps).map(|step| config.learning_rate(step)).collect();
        let peak = config.warm_up as usize - 1;
        assert_eq!(rates[peak], config.peak_learning_rate);
        assert!(rates[..=peak].is_sorted_by(|a, b| a < b) && rates[peak..].is_sorted_by(|a, b| a > b));
        assert!((rates[rates.len() - 1] - config.final_learning_rate).abs() < 1e-12);
        let flat = TrainConfig { steps: 3, warm_up: 9, ..config };
        assert!((1..=3).all(|step| flat.learning_rate(step).is_finite()));
    }

    #[test]
    fn what_describes_no_run_is_refused() {
        let good = TrainConfig::tiny();
        assert!(good.check().is_ok() && TrainConfig::demo().check().is_ok());
        assert_eq!(good.hyperparameters().len(), 19);
        for bad in [
            TrainConfig { heads: 3, ..good.clone() },
            TrainConfig { layers: 0, ..good.clone() },
            TrainConfig { vocabulary: 255, ..good.clone() },
            TrainConfig { checkpoints: vec![2, 1], ..good.clone() },
            TrainConfig { checkpoints: vec![good.steps + 1], ..good.clone() },
            TrainConfig { states: vec![good.steps - 1], ..good.clone() },
        ] {
            assert!(matches!(bad.check(), Err(TrainError::Config(_))), "{bad:?}");
        }
    }
}
