//! Pictures of change: on the terminal, and as files.

use std::path::{Path, PathBuf};

use shard_heatmap::{Heatmap, models};
use shard_repo::Comparison;

use super::{By, write};
use crate::Context;
use crate::error::{Failure, code};

/// Where pictures are written to.
#[derive(Debug, clap::Args)]
pub(crate) struct Pictures {
    /// Write the picture as SVG
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Write the picture as PNG
    #[arg(long, value_name = "FILE")]
    png: Option<PathBuf>,
    /// Write the picture as a page to explore: sort, filter, switch the metric. One file, which needs no network
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl Pictures {
    /// Whether any is wanted.
    pub(crate) fn any(&self) -> bool {
        self.files().next().is_some()
    }

    fn files(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.svg, &self.png, &self.html].into_iter().flatten()
    }

    /// Refuses folders that are not there, before anything is read.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        for file in self.files() {
            if file.as_os_str() == "-" {
                return Err(Failure::new(code::USAGE, "pictures are written to files, not to standard output")
                    .next("name a file; one that is called - is ./-"));
            }
            let folder = file.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
            if !folder.is_dir() {
                return Err(Failure::new(code::NOT_FOUND, format!("there is no folder {}", folder.display()))
                    .next("make it, or write the picture somewhere else"));
            }
        }
        Ok(())
    }

    /// Writes all that are wanted.
    pub(crate) fn write(&self, map: &Heatmap) -> Result<(), Failure> {
        if let Some(path) = &self.svg {
            write(path, shard_heatmap::svg(map).as_bytes())?;
        }
        if let Some(path) = &self.png {
            let bytes = shard_heatmap::png(map)
                .map_err(|error| Failure::new(code::REFUSED, "the picture cannot be drawn").because(error))?;
            write(path, &bytes)?;
        }
        if let Some(path) = &self.html {
            write(path, shard_heatmap::html(map).as_bytes())?;
        }
        Ok(())
    }
}

/// The picture of a comparison.
pub(super) fn of(title: &str, found: &Comparison, by: By) -> Heatmap {
    models::of_comparison(title.to_owned(), found, by.metric())
}

/// A picture as text for this terminal.
pub(crate) fn text(map: &Heatmap, context: &Context) -> String {
    shard_heatmap::text(map, &context.ui.picture_options())
}
