//! How files that are approximations are marked, wherever they are listed.

use serde_json::{Value, json};
use shard_manifest::{ContentManifest, Lossy};

use super::style::Style;
use super::table::Cell;

/// The title of the column that has [`cell`]s; tables leave it out where no file is lossy.
pub(crate) const COLUMN: &str = "lossy";

/// The bound of a file in a table of files.
pub(crate) fn cell(lossy: Option<&Lossy>) -> Cell {
    lossy.map_or_else(|| "".into(), |lossy| Cell::new(format!("within {}", lossy.bound), Style::Yellow))
}

/// What the manifest says of its file being an approximation. A mark that makes no sense is one all the same.
pub(crate) fn of_manifest(manifest: &ContentManifest) -> Option<String> {
    match manifest.lossy() {
        Ok(lossy) => lossy.map(|lossy| lossy.to_string()),
        Err(error) => Some(format!("marked as lossy, but its mark is malformed: {error}")),
    }
}

/// Adds the mark to the JSON of a file; there is no such field for a file that is what was given.
pub(crate) fn add_to(json: &mut Value, lossy: Option<&Lossy>) {
    if let Some(lossy) = lossy {
        json["lossy"] = lossy.to_value();
    }
}

/// [`add_to`] with what the manifest says.
pub(crate) fn add_of_manifest(json: &mut Value, manifest: &ContentManifest) {
    match manifest.lossy() {
        Ok(lossy) => add_to(json, lossy.as_ref()),
        Err(error) => json["lossy"] = json!({"malformed": error.to_string()}),
    }
}
