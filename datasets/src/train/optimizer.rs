//! AdamW (Loshchilov and Hutter, 2019) on fp32 master weights.

use candle_core::Result;
use candle_core::Tensor;
use candle_core::backprop::GradStore;

use super::config::TrainConfig;
use super::model::Model;

const EPSILON: f64 = 1e-8;

/// What the optimizer keeps of a weight, elements in the weight's order.
pub(super) struct Moments {
    /// Running mean of the gradient.
    pub(super) first: Vec<f32>,
    /// Running mean of its square.
    pub(super) second: Vec<f32>,
    /// Whether the weight is trained at all.
    trains: bool,
}

/// The optimizer's state.
pub(super) struct AdamW {
    betas: (f64, f64),
    weight_decay: f64,
    gradient_clip: f64,
    /// Steps done.
    pub(super) steps: i32,
    /// Of every weight, in the model's order.
    pub(super) moments: Vec<Moments>,
}

impl AdamW {
    pub(super) fn new(config: &TrainConfig, model: &Model) -> Self {
        let moments = model.weights().iter().map(|parameter| {
            let len = parameter.value.elem_count();
            Moments { first: vec![0.0; len], second: vec![0.0; len], trains: config.trains(&parameter.name) }
        });
        Self {
            betas: config.betas,
            weight_decay: config.weight_decay,
            gradient_clip: config.gradient_clip,
            steps: 0,
            moments: moments.collect(),
        }
    }

    /// One step on every weight that is trained, along the mean of the gradients of a batch's equal parts. A weight without a
    /// gradient (none is, in this model) counts as having gradient zero.
    pub(super) fn step(
        &mut self,
        model: &Model,
        parts: impl ExactSizeIterator<Item = GradStore>,
        learning_rate: f64,
    ) -> Result<()> {
        self.steps += 1;
        let share = 1.0 / parts.len() as f32;
        let mut gradients: Vec<Vec<f32>> =
            model.weights().iter().map(|parameter| vec![0.0; parameter.value.elem_count()]).collect();
        for part in parts {
            for ((parameter, moments), sum) in model.weights().iter().zip(&self.moments).zip(&mut gradients) {
                if !moments.trains {
                    continue;
                }
                let Some(gradient) = part.get(&parameter.value) else { continue };
                for (sum, gradient) in sum.iter_mut().zip(gradient.flatten_all()?.to_vec1::<f32>()?) {
                    *sum += share * gradient;
                }
            }
        }
        let norm = gradients.iter().flatten().map(|g| f64::from(*g) * f64::from(*g)).sum::<f64>().sqrt();
        let scale = if norm > self.gradient_clip { (self.gradient_clip / norm) as f32 } else { 1.0 };

        let (beta1, beta2) = (self.betas.0 as f32, self.betas.1 as f32);
        // The corrections for the moments' start at zero, folded into the step and into epsilon's place.
        let step = (learning_rate / (1.0 - self.betas.0.powi(self.steps))) as f32;
        let second_scale = (1.0 / (1.0 - self.betas.1.powi(self.steps))) as f32;
        for ((parameter, moments), gradient) in model.weights().iter().zip(&mut self.moments).zip(gradients) {
            if !moments.trains {
                continue;
            }
            let decays = parameter.value.rank() > 1;
            let keep = if decays { (1.0 - learning_rate * self.weight_decay) as f32 } else { 1.0 };
            let mut weights: Vec<f32> = parameter.value.flatten_all()?.to_vec1()?;
            let state = moments.first.iter_mut().zip(&mut moments.second);
            for ((weight, (first, second)), gradient) in weights.iter_mut().zip(state).zip(gradient) {
                let gradient = gradient * scale;
                *first = beta1 * *first + (1.0 - beta1) * gradient;
                *second = beta2 * *second + (1.0 - beta2) * gradient * gradient;
                *weight = keep * *weight - step * *first / ((second_scale * *second).sqrt() + EPSILON as f32);
            }
            parameter.value.set(&Tensor::from_vec(weights, parameter.value.shape(), parameter.value.device())?)?;
        }
        Ok(())
    }
}
