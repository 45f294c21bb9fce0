//! The functions that a checkpoint calls to make tensors, and what they make of their arguments.
//!
//! They are those of `torch/_utils.py`, `torch/_tensor.py` and `torch/jit/_pickle.py`, and the constructors that came before them.

use super::dtype::ElementType;
use super::storage::{Outside, Outsiders, View};
use crate::assemble::MAX_RANK;
use crate::pickle::{Call, Node, NodeId, Tree};

/// Most entries that PyTorch says of a tensor; it has names for two.
const MAX_METADATA: usize = 64;

/// A tensor that belongs to another.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part {
    Scales,
    ZeroPoints,
    Values,
    Sizes,
    Strides,
    Offsets,
    Indices,
    CrowIndices,
    ColIndices,
    CcolIndices,
    RowIndices,
}

impl Part {
    /// What PyTorch calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Scales => "scales",
            Self::ZeroPoints => "zero_points",
            Self::Values => "values",
            Self::Sizes => "sizes",
            Self::Strides => "strides",
            Self::Offsets => "offsets",
            Self::Indices => "indices",
            Self::CrowIndices => "crow_indices",
            Self::ColIndices => "col_indices",
            Self::CcolIndices => "ccol_indices",
            Self::RowIndices => "row_indices",
        }
    }
}

/// What a call makes.
pub(crate) enum Made {
    /// A tensor, and tensors that belong to it, each with its name in it.
    Tensor(Option<(View, ElementType)>, Vec<(NodeId, Part)>),
    /// What one of its arguments is, with attributes.
    Same { of: NodeId, attributes: Option<NodeId> },
    /// What another function would make of other arguments, with attributes.
    Other { callable: NodeId, arguments: NodeId, attributes: Option<NodeId> },
    /// A dict of a list of pairs.
    Pairs(NodeId),
    /// An object of which nothing is known.
    Object,
}

/// What the call of `callable` makes.
pub(crate) fn made(tree: &Tree, outside: &dyn Outsiders, callable: NodeId, arguments: NodeId) -> Made {
    let Some((module, name)) = tree.global(callable) else { return Made::Object };
    let arguments = tree.tuple(arguments).unwrap_or_default();
    match (module, name, arguments) {
        (b"torch._utils", b"_rebuild_tensor" | b"_rebuild_tensor_v2", [storage, offset, size, stride, rest @ ..]) => {
            // Whether it is conjugated or negated comes after the gradient and the hooks.
            let changed = rest.get(2).is_some_and(|metadata| changes_values(tree, *metadata));
            let view = view(tree, outside, [*storage, *offset, *size, *stride]).filter(|_| !changed);
            Made::Tensor(view.map(typed), Vec::new())
        }
        (b"torch._utils", b"_rebuild_tensor_v3", [storage, offset, size, stride, _, _, dtype, rest @ ..]) => {
            let changed = rest.first().is_some_and(|metadata| changes_values(tree, *metadata));
            let element = tree.global(*dtype).and_then(|(_, name)| ElementType::from_dtype_name(name));
            let view = view(tree, outside, [*storage, *offset, *size, *stride]).filter(|_| !changed);
            Made::Tensor(view.zip(element), Vec::new())
        }
        (b"torch._utils", b"_rebuild_qtensor", [storage, offset, size, stride, quantizer, ..]) => {
            let view = view(tree, outside, [*storage, *offset, *size, *stride]);
            let parts = match tree.tuple(*quantizer) {
                Some([_, scales, zero_points, _axis]) => {
                    vec![(*scales, Part::Scales), (*zero_points, Part::ZeroPoints)]
                }
                _ => Vec::new(),
            };
            Made::Tensor(view.map(typed), parts)
        }
        (b"torch._utils", b"_rebuild_sparse_tensor" | b"_rebuild_sparse_csr_tensor", [layout, data, ..]) => {
            Made::Tensor(None, sparse_parts(tree, *layout, *data))
        }
        (b"torch._utils", b"_rebuild_nested_tensor", [buffer, sizes, strides, offsets, ..]) => {
            let parts =
                [(*buffer, Part::Values), (*sizes, Part::Sizes), (*strides, Part::Strides), (*offsets, Part::Offsets)];
            Made::Tensor(None, parts.to_vec())
        }
        (b"torch._utils", b"_rebuild_meta_tensor_no_storage" | b"_rebuild_wrapper_subclass", _) => {
            Made::Tensor(None, Vec::new())
        }
        (b"torch._utils", b"_rebuild_parameter_with_state", [data, _, _, state]) => {
            Made::Same { of: *data, attributes: Some(*state) }
        }
        (b"torch._utils", b"_rebuild_parameter" | b"_rebuild_device_tensor_from_cpu_tensor", [data, ..])
        | (b"torch.nn.parameter", b"Parameter" | b"Buffer", [data, ..])
        | (b"torch.autograd.variable", b"Variable", [data, ..])
        | (b"torch.jit._pickle", _, [data, ..]) => Made::Same { of: *data, attributes: None },
        (
            b"torch._tensor" | b"torch.tensor",
            b"_rebuild_from_type" | b"_rebuild_from_type_v2",
            [callable, _, arguments, state],
        ) => Made::Other { callable: *callable, arguments: *arguments, attributes: Some(*state) },
        (b"collections", b"OrderedDict", [pairs]) => Made::Pairs(*pairs),
        _ => Made::Object,
    }
}

/// Whether what PyTorch says of a tensor means that its values are not those of its bytes.
fn changes_values(tree: &Tree, metadata: NodeId) -> bool {
    let entries = match tree.node(metadata) {
        Node::None => return false,
        Node::Dict(entries) => entries,
        Node::Call(call) => tree.entries(call),
        _ => return true,
    };
    // It may be shared by all tensors, so that a long one would be read as many times.
    let mut items = tree.items(entries);
    for _ in 0..MAX_METADATA {
        match (items.next(), items.next()) {
            (Some(_), Some(value)) if matches!(tree.node(value), Node::Bool(false)) => {}
            (Some(_), Some(_)) => return true,
            _ => return false,
        }
    }
    true
}

fn view(tree: &Tree, outside: &dyn Outsiders, [storage, offset, size, stride]: [NodeId; 4]) -> Option<View> {
    let Node::Persistent(id) = tree.node(storage) else { return None };
    let Outside::Storage(storage) = outside.find(tree, id)? else { return None };
    Some(View {
        storage,
        offset: tree.unsigned(offset)?,
        shape: dimensions(tree, size)?,
        strides: dimensions(tree, stride)?,
    })
}

/// A tuple of integers, or a `torch.Size` of one.
fn dimensions(tree: &Tree, id: NodeId) -> Option<Vec<u64>> {
    let dims = match tree.node(id) {
        Node::Call(Call { arguments, .. }) => match tree.tuple(arguments)? {
            [dims] => *dims,
            _ => return None,
        },
        _ => id,
    };
    let dims: Vec<NodeId> = match tree.node(dims) {
        Node::List(chain) => tree.items(chain).take(MAX_RANK + 1).collect(),
        _ => tree.tuple(dims)?.iter().take(MAX_RANK + 1).copied().collect(),
    };
    if dims.len() > MAX_RANK {
        return None;
    }
    dims.into_iter().map(|dim| tree.unsigned(dim)).collect()
}

/// The dense tensors of a sparse one.
fn sparse_parts(tree: &Tree, layout: NodeId, data: NodeId) -> Vec<(NodeId, Part)> {
    // A layout is `_get_layout("torch.sparse_coo")`.
    let layout = match tree.node(layout) {
        Node::Call(call) => tree.tuple(call.arguments).and_then(<[NodeId]>::first).and_then(|name| tree.text(*name)),
        _ => tree.text(layout),
    };
    match (layout, tree.tuple(data).unwrap_or_default()) {
        (Some(b"torch.sparse_coo"), [indices, values, ..]) => vec![(*indices, Part::Indices), (*values, Part::Values)],
        (Some(b"torch.sparse_csr" | b"torch.sparse_bsr"), [crow, col, values, ..]) => {
            vec![(*crow, Part::CrowIndices), (*col, Part::ColIndices), (*values, Part::Values)]
        }
        (Some(b"torch.sparse_csc" | b"torch.sparse_bsc"), [ccol, row, values, ..]) => {
            vec![(*ccol, Part::CcolIndices), (*row, Part::RowIndices), (*values, Part::Values)]
        }
        _ => Vec::new(),
    }
}

/// A view of its storage's type.
fn typed(view: View) -> (View, ElementType) {
    let element = view.storage.element;
    (view, element)
}
