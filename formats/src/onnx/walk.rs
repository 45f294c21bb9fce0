//! The walk over a model, from front to back.

use std::sync::Arc;

use super::Found;
use super::tensor::OpenTensor;
use crate::assemble::MAX_TENSORS;
use crate::distinct::{MAX_NAMES, make_distinct};
use crate::format::{FormatError, FormatErrorKind};
use crate::protobuf::{Event, Span, Value, Walker};
use crate::source::Source;

/// Most fields of a model that are read: it bounds the time that a file of nothing but fields takes.
pub(crate) const MAX_FIELDS: u64 = 1 << 26;

/// A message that is open.
enum Frame {
    Model(Model),
    /// With what comes before the names of its tensors.
    Graph(String),
    Node(Node),
    Attribute(Attribute),
    Function(Function),
    Training(usize),
    /// With what its name becomes, or `None` where it keeps its own.
    Tensor(Box<OpenTensor>, Option<String>),
    Sparse(Sparse),
    /// A key and a value.
    Entry(String, String),
}

#[derive(Default)]
struct Model {
    graph: bool,
    trainings: usize,
}

#[derive(Default)]
struct Node {
    /// The first that has a name.
    output: String,
    name: String,
    constant: bool,
}

#[derive(Default)]
struct Attribute {
    name: String,
    tensor: bool,
    sparse: bool,
    tensors: usize,
    sparses: usize,
    graphs: usize,
}

#[derive(Default)]
struct Function {
    name: String,
    domain: String,
    overload: String,
}

#[derive(Default)]
struct Sparse {
    /// What comes before `.values` and `.indices`, or `None` for the values' own name.
    label: Option<String>,
    name: String,
    values: bool,
    indices: bool,
}

/// The tensors of a model, in file order, with distinct names. `fields` is how many fields may be read; it is left with those
/// that were not.
///
/// # Errors
/// [`FormatError`] for what is no message or lacks a graph; beyond that, for what is repeated that may not be, and what is
/// larger than shard follows.
pub(crate) fn walk(source: &dyn Source, fields: &mut u64) -> Result<Vec<Found>, FormatError> {
    let mut walk = Walk {
        walker: Walker::new(source, *fields),
        open: vec![Open { frame: Frame::Model(Model::default()), first: 0, end: source.len() }],
        found: Vec::new(),
        name_bytes: 0,
        location: None,
        graph: false,
    };
    let ended = walk.run();
    *fields = walk.walker.fields_left();
    ended?;
    if !walk.graph {
        return Err(FormatError::malformed("a model without a graph"));
    }
    make_distinct(&mut walk.found.iter_mut().map(|found| &mut found.name).collect::<Vec<_>>());
    Ok(walk.found)
}

struct Open {
    frame: Frame,
    /// How many tensors had been found when it was opened.
    first: usize,
    /// Where the message ends.
    end: u64,
}

struct Walk<'a> {
    walker: Walker<'a>,
    open: Vec<Open>,
    found: Vec<Found>,
    name_bytes: usize,
    /// The file that was named last as the place of data.
    location: Option<Arc<str>>,
    graph: bool,
}

impl Walk<'_> {
    fn run(&mut self) -> Result<(), FormatError> {
        while let Some(event) = self.walker.next()? {
            match event {
                Event::Field(number, value) => {
                    if let Some((frame, span)) = self.field(number, value)? {
                        self.walker.enter(span)?;
                        self.open.push(Open { frame, first: self.found.len(), end: span.end() });
                    }
                }
                Event::End => self.close()?,
            }
        }
        Ok(())
    }

    /// Takes a field of the innermost message, or says which message it is, to be opened.
    fn field(&mut self, number: u64, value: Value) -> Result<Option<(Frame, Span)>, FormatError> {
        let Some(open) = self.open.last_mut() else { return Ok(None) };
        let walker = &mut self.walker;
        // A number is of no interest but in tensors.
        let span = match (&mut open.frame, value) {
            (Frame::Tensor(tensor, _), value) if number != 13 => {
                tensor.take(number, value, walker)?;
                return Ok(None);
            }
            (_, Value::Bytes(span)) => span,
            (Frame::Model(_), _) if matches!(number, 2 | 3 | 4 | 6 | 7 | 8 | 14 | 20 | 25 | 26) => {
                return Err(FormatError::malformed("a number where a model has text or a message"));
            }
            _ => return Ok(None),
        };
        let frame = match (&mut open.frame, number) {
            (Frame::Model(_), 1 | 5) => {
                return Err(FormatError::malformed("a text or a message where a model has a number"));
            }
            (Frame::Model(model), 7) => {
                model.graph = true;
                Frame::Graph(String::new())
            }
            (Frame::Model(model), 20) => {
                model.trainings += 1;
                Frame::Training(model.trainings - 1)
            }
            (Frame::Model(_), 25) => Frame::Function(Function::default()),
            (Frame::Training(_), 1) => Frame::Graph("initialization/".to_owned()),
            (Frame::Training(_), 2) => Frame::Graph("algorithm/".to_owned()),
            (Frame::Graph(_), 1) | (Frame::Function(_), 7) => Frame::Node(Node::default()),
            (Frame::Graph(_), 5) => Frame::Tensor(Box::default(), None),
            (Frame::Graph(_), 15) => Frame::Sparse(Sparse::default()),
            (Frame::Node(node), 2) if node.output.is_empty() => {
                node.output = walker.text(span)?;
                return Ok(None);
            }
            (Frame::Node(node), 3) => {
                node.name = walker.text(span)?;
                return Ok(None);
            }
            (Frame::Node(node), 4) => {
                node.constant = walker.text(span)? == "Constant";
                return Ok(None);
            }
            (Frame::Node(_), 5) | (Frame::Function(_), 11) => Frame::Attribute(Attribute::default()),
            (Frame::Function(function), 1) => return text(walker, span, &mut function.name),
            (Frame::Function(function), 10) => return text(walker, span, &mut function.domain),
            (Frame::Function(function), 13) => return text(walker, span, &mut function.overload),
            (Frame::Attribute(attribute), number) => return attribute.field(number, span, walker),
            (Frame::Sparse(sparse), 1) => {
                once(&mut sparse.values)?;
                Frame::Tensor(Box::default(), Some(".values".to_owned()))
            }
            (Frame::Sparse(sparse), 2) => {
                once(&mut sparse.indices)?;
                Frame::Tensor(Box::default(), Some(".indices".to_owned()))
            }
            (Frame::Tensor(..), _) => Frame::Entry(String::new(), String::new()),
            (Frame::Entry(key, _), 1) => return text(walker, span, key),
            (Frame::Entry(_, value), 2) => return text(walker, span, value),
            _ => return Ok(None),
        };
        Ok(Some((frame, span)))
    }

    /// Closes the innermost message: what it says of names goes before the names of the tensors in it.
    fn close(&mut self) -> Result<(), FormatError> {
        let Some(Open { frame, first, end }) = self.open.pop() else { return Ok(()) };
        match frame {
            Frame::Model(model) => self.graph = model.graph,
            Frame::Graph(prefix) => self.prefix(first, &prefix)?,
            Frame::Training(index) => self.prefix(first, &format!("training_info.{index}/"))?,
            Frame::Attribute(attribute) => self.prefix(first, &attribute.name)?,
            Frame::Function(function) => self.prefix(first, &function.prefix())?,
            Frame::Sparse(sparse) => match sparse.label.as_deref().unwrap_or(&sparse.name) {
                // Without a name of its own, a sparse initializer has none.
                "" if sparse.label.is_none() => self.found.truncate(first),
                label => self.prefix(first, label)?,
            },
            Frame::Node(node) => {
                let label = if node.output.is_empty() { &node.name } else { &node.output };
                if label.is_empty() {
                    self.found.truncate(first);
                    return Ok(());
                }
                if node.constant {
                    for found in self.found.get_mut(first..).unwrap_or_default() {
                        let rest = found.name.strip_prefix("sparse_value").or_else(|| found.name.strip_prefix("value"));
                        if let Some(rest) = rest.filter(|rest| matches!(*rest, "" | ".values" | ".indices")) {
                            found.name = rest.to_owned();
                        } else {
                            found.name.insert(0, '/');
                        }
                    }
                    self.prefix(first, label)?;
                } else {
                    self.prefix(first, &format!("{label}/"))?;
                }
            }
            Frame::Tensor(tensor, label) => self.tensor(*tensor, label, end)?,
            Frame::Entry(key, value) => {
                if let Some(Open { frame: Frame::Tensor(tensor, _), .. }) = self.open.last_mut() {
                    tensor.entries.set(&key, value);
                }
            }
        }
        Ok(())
    }

    fn tensor(&mut self, tensor: OpenTensor, label: Option<String>, end: u64) -> Result<(), FormatError> {
        if let Some(Open { frame: Frame::Sparse(sparse), .. }) = self.open.last_mut()
            && label.as_deref() == Some(".values")
        {
            sparse.name.clone_from(&tensor.name);
        }
        if let Some(mut found) = tensor.close(end, &mut self.location) {
            match label {
                Some(label) => found.name = label,
                None if found.name.is_empty() => return Ok(()),
                None => {}
            }
            if self.found.len() == MAX_TENSORS {
                return Err(FormatError::new(FormatErrorKind::Limit, format!("more than {MAX_TENSORS} tensors")));
            }
            self.count(found.name.len())?;
            self.found.push(found);
        }
        Ok(())
    }

    /// Puts `prefix` before the names of the tensors from number `first` on.
    fn prefix(&mut self, first: usize, prefix: &str) -> Result<(), FormatError> {
        if prefix.is_empty() {
            return Ok(());
        }
        self.count(self.found.len().saturating_sub(first).saturating_mul(prefix.len()))?;
        for found in self.found.get_mut(first..).unwrap_or_default() {
            found.name.insert_str(0, prefix);
        }
        Ok(())
    }

    fn count(&mut self, bytes: usize) -> Result<(), FormatError> {
        self.name_bytes = self.name_bytes.saturating_add(bytes);
        match self.name_bytes <= MAX_NAMES {
            true => Ok(()),
            false => Err(FormatError::new(FormatErrorKind::Limit, format!("names of more than {MAX_NAMES} bytes"))),
        }
    }
}

impl Attribute {
    fn field(
        &mut self,
        number: u64,
        span: Span,
        walker: &mut Walker<'_>,
    ) -> Result<Option<(Frame, Span)>, FormatError> {
        let next = |count: &mut usize| {
            *count += 1;
            *count - 1
        };
        let sparse = |label| Frame::Sparse(Sparse { label: Some(label), ..Sparse::default() });
        let frame = match number {
            1 => return text(walker, span, &mut self.name),
            5 => {
                once(&mut self.tensor)?;
                Frame::Tensor(Box::default(), Some(String::new()))
            }
            10 => Frame::Tensor(Box::default(), Some(format!(".{}", next(&mut self.tensors)))),
            6 => Frame::Graph("/".to_owned()),
            11 => Frame::Graph(format!(".{}/", next(&mut self.graphs))),
            22 => {
                once(&mut self.sparse)?;
                sparse(String::new())
            }
            23 => sparse(format!(".{}", next(&mut self.sparses))),
            _ => return Ok(None),
        };
        Ok(Some((frame, span)))
    }
}

impl Function {
    fn prefix(&self) -> String {
        let Self { name, domain, overload } = self;
        match overload.as_str() {
            "" => format!("{domain}::{name}/"),
            overload => format!("{domain}::{name}:{overload}/"),
        }
    }
}

/// Takes a text, which is not opened.
fn text(walker: &mut Walker<'_>, span: Span, to: &mut String) -> Result<Option<(Frame, Span)>, FormatError> {
    *to = walker.text(span)?;
    Ok(None)
}

/// Notes a message that there may be one of. Two would be one message in two parts, which no writer makes.
fn once(seen: &mut bool) -> Result<(), FormatError> {
    match std::mem::replace(seen, true) {
        true => Err(FormatError::malformed("a tensor that comes in two parts")),
        false => Ok(()),
    }
}
