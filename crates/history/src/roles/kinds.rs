//! What tensors do in a model, in the order in which a model uses them.

/// Kinds that stand together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Group {
    Embedding,
    Attention,
    Mlp,
    StateSpace,
    Convolution,
    Own,
    End,
}

/// Which of several alike: a layer may have two attentions, and many MLPs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) enum Area {
    /// The only one, or the first.
    #[default]
    Main,
    /// The attention to another stack's output.
    Cross,
    /// The MLPs of which a router chooses some.
    Experts,
    /// The MLP beside them, through which everything goes.
    Shared,
}

impl Area {
    /// What comes before the label of a kind, short and in full.
    pub(super) const fn labels(self) -> (&'static str, &'static str) {
        match self {
            Self::Main => ("", ""),
            Self::Cross => ("cross ", "cross-"),
            Self::Experts => ("expert ", "experts' "),
            Self::Shared => ("shared ", "shared expert's "),
        }
    }
}

/// What a tensor does, in model order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) enum What {
    Embedding,
    PatchEmbedding,
    ClassToken,
    TypeEmbedding,
    PositionEmbedding,
    PositionIds,
    TimeEmbedding,
    EmbeddingProjection,
    EmbeddingNorm,

    AttentionNorm,
    QueryDown,
    QueryDownNorm,
    QueryUp,
    Query,
    KeyValueDown,
    KeyValueDownNorm,
    KeyValueUp,
    Key,
    Value,
    KeyValue,
    Qkv,
    QueryNorm,
    KeyNorm,
    Rotary,
    RelativeBias,
    Sinks,
    Mask,
    AttentionOut,
    AttentionGain,
    PostAttentionNorm,

    MlpNorm,
    PreMlpNorm,
    Router,
    Gate,
    Up,
    GateUp,
    Down,
    MlpGain,
    PostMlpNorm,

    Norm,
    SsmIn,
    SsmConvolution,
    SsmX,
    SsmDt,
    SsmA,
    SsmD,
    SsmNorm,
    SsmOut,

    Convolution,
    BatchNorm,
    Skip,
    SkipNorm,
    RecurrentIn,
    RecurrentHidden,

    /// Nothing is known but that it is a weight or a bias.
    #[default]
    Plain,
    /// Known by its own name.
    Own,
    /// A constant of a graph.
    Constant,

    FinalNorm,
    Pooler,
    HeadDense,
    HeadNorm,
    Head,
}

impl What {
    /// The kinds that it stands with.
    pub(super) fn group(self) -> Group {
        if self < Self::AttentionNorm {
            Group::Embedding
        } else if self < Self::MlpNorm {
            Group::Attention
        } else if self < Self::Norm {
            Group::Mlp
        } else if self < Self::Convolution {
            Group::StateSpace
        } else if self < Self::Plain {
            Group::Convolution
        } else if self < Self::FinalNorm {
            Group::Own
        } else {
            Group::End
        }
    }

    /// Whether it is the factor and offset of a norm.
    pub(super) const fn is_norm(self) -> bool {
        matches!(
            self,
            Self::EmbeddingNorm
                | Self::AttentionNorm
                | Self::QueryDownNorm
                | Self::KeyValueDownNorm
                | Self::QueryNorm
                | Self::KeyNorm
                | Self::PostAttentionNorm
                | Self::MlpNorm
                | Self::PreMlpNorm
                | Self::PostMlpNorm
                | Self::SsmNorm
                | Self::Norm
                | Self::BatchNorm
                | Self::SkipNorm
                | Self::FinalNorm
                | Self::HeadNorm
        )
    }

    /// The label, short and in full.
    pub(super) const fn labels(self) -> (&'static str, &'static str) {
        match self {
            Self::Embedding => ("embed", "token embedding"),
            Self::PatchEmbedding => ("patch", "patch embedding"),
            Self::ClassToken => ("class", "class token"),
            Self::TypeEmbedding => ("type", "token type embedding"),
            Self::PositionEmbedding => ("pos", "position embedding"),
            Self::PositionIds => ("pos ids", "numbers of the positions"),
            Self::TimeEmbedding => ("time", "time embedding"),
            Self::EmbeddingProjection => ("embed proj", "projection of the embedding"),
            Self::EmbeddingNorm => ("embed norm", "norm of the embedding"),
            Self::AttentionNorm => ("attn norm", "attention norm"),
            Self::QueryDown => ("q_a", "attention query, to the latent space"),
            Self::QueryDownNorm => ("q_a norm", "attention query, norm of the latent space"),
            Self::QueryUp => ("q_b", "attention query, from the latent space"),
            Self::Query => ("q", "attention query"),
            Self::KeyValueDown => ("kv_a", "attention key and value, to the latent space"),
            Self::KeyValueDownNorm => ("kv_a norm", "attention key and value, norm of the latent space"),
            Self::KeyValueUp => ("kv_b", "attention key and value, from the latent space"),
            Self::Key => ("k", "attention key"),
            Self::Value => ("v", "attention value"),
            Self::KeyValue => ("kv", "attention key and value"),
            Self::Qkv => ("qkv", "attention query, key and value"),
            Self::QueryNorm => ("q norm", "attention query norm"),
            Self::KeyNorm => ("k norm", "attention key norm"),
            Self::Rotary => ("rope", "attention's rotary frequencies"),
            Self::RelativeBias => ("rel bias", "attention's bias of relative positions"),
            Self::Sinks => ("sinks", "attention sinks"),
            Self::Mask => ("mask", "attention mask"),
            Self::AttentionOut => ("o", "attention output"),
            Self::AttentionGain => ("attn gain", "attention's layer scale"),
            Self::PostAttentionNorm => ("post attn norm", "norm after the attention"),
            Self::MlpNorm => ("mlp norm", "MLP norm"),
            Self::PreMlpNorm => ("pre mlp norm", "norm before the MLP"),
            Self::Router => ("router", "router to the experts"),
            Self::Gate => ("gate", "MLP gate"),
            Self::Up => ("up", "MLP up"),
            Self::GateUp => ("gate_up", "MLP gate and up"),
            Self::Down => ("down", "MLP down"),
            Self::MlpGain => ("mlp gain", "the MLP's layer scale"),
            Self::PostMlpNorm => ("post mlp norm", "norm after the MLP"),
            Self::SsmIn => ("in_proj", "input projection"),
            Self::SsmConvolution => ("conv1d", "convolution over time"),
            Self::SsmX => ("x_proj", "projection to the state's parameters"),
            Self::SsmDt => ("dt_proj", "time step"),
            Self::SsmA => ("A_log", "state transition"),
            Self::SsmD => ("D", "skip connection of the state space"),
            Self::SsmNorm => ("ssm norm", "norm of the state space"),
            Self::SsmOut => ("out_proj", "output projection"),
            Self::Norm => ("norm", "norm"),
            Self::Convolution => ("conv", "convolution"),
            Self::BatchNorm => ("bn", "batch norm"),
            Self::Skip => ("downsample", "convolution of the skip connection"),
            Self::SkipNorm => ("downsample bn", "batch norm of the skip connection"),
            Self::RecurrentIn => ("ih", "recurrent cell, from the input"),
            Self::RecurrentHidden => ("hh", "recurrent cell, from the hidden state"),
            Self::Plain => ("weight", "weights and biases"),
            Self::Own => ("", ""),
            Self::Constant => ("const", "constants of the graph"),
            Self::FinalNorm => ("final norm", "final norm"),
            Self::Pooler => ("pooler", "pooler"),
            Self::HeadDense => ("head dense", "dense layer of the head"),
            Self::HeadNorm => ("head norm", "norm of the head"),
            Self::Head => ("head", "head"),
        }
    }
}
