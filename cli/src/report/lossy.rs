//! How files that are approximations are marked, wherever they are listed.

use serde_json::{Value, json};
use shard_manifest::{ContentManifest, Lossy, ObjectError};

use super::style::Style;
use super::table::Cell;
use super::text::visible;

/// The title of the column that has [`cell`]s; tables leave it out where no file is lossy.
pub(crate) const COLUMN: &str = "lossy";

/// The mark of a file, `None` where it has none. One that is malformed is a mark all the same.
pub(crate) type Mark = Option<Result<Lossy, ObjectError>>;

/// What the manifest says of its file being an approximation.
pub(crate) fn of(manifest: &ContentManifest) -> Mark {
    manifest.lossy().transpose()
}

/// The bound of a file in a table of files.
pub(crate) fn cell(mark: Option<Result<&Lossy, &ObjectError>>) -> Cell {
    match mark {
        None => "".into(),
        Some(Ok(lossy)) => Cell::new(format!("within {}", lossy.bound), Style::Yellow),
        Some(Err(_)) => Cell::new("malformed mark", Style::Red),
    }
}

/// What follows "FILE is"; `None` for a file without a mark.
pub(crate) fn what(mark: &Mark) -> Option<String> {
    mark.as_ref().map(|mark| match mark {
        Ok(lossy) => lossy.to_string(),
        Err(error) => format!("marked as lossy, but its mark is malformed: {error}"),
    })
}

/// A line for each file that has a mark, below a table of files.
pub(crate) fn lines<'a>(files: impl IntoIterator<Item = (&'a str, &'a Mark)>) -> String {
    let lines = files.into_iter().filter_map(|(path, mark)| Some(format!("{} is {}\n", visible(path), what(mark)?)));
    lines.collect()
}

/// Adds the mark to the JSON of a file; there is no such field for a file that is what was given.
pub(crate) fn add_to(json: &mut Value, mark: Option<Result<&Lossy, &ObjectError>>) {
    match mark {
        None => {}
        Some(Ok(lossy)) => json["lossy"] = lossy.to_value(),
        Some(Err(error)) => json["lossy"] = json!({"malformed": error.to_string()}),
    }
}
