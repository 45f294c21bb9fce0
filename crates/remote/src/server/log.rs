//! What is logged: a line for each request, and one for whatever else happens.

use std::fmt;
use std::io::Write as _;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use shard_core::text::{visible, with_causes};
use shard_store::timestamp;

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Text,
    /// None at all.
    Off,
}

/// Where lines go.
#[derive(Clone)]
pub struct Log {
    format: LogFormat,
    write: Arc<dyn Fn(&str) + Send + Sync>,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("format", &self.format).finish_non_exhaustive()
    }
}

impl Log {
    /// To the standard error stream, each line in one piece.
    #[must_use]
    pub fn stderr(format: LogFormat) -> Self {
        Self::to(format, |line| {
            // Where this cannot be written there is nobody to tell.
            let _ = std::io::stderr().lock().write_all(line.as_bytes());
        })
    }

    /// To wherever lines are taken, each with its end.
    pub fn to(format: LogFormat, write: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self { format, write: Arc::new(write) }
    }

    /// Writes a line: an event, and what belongs to it.
    pub(super) fn line(&self, event: &str, fields: Value) {
        let mut line = match self.format {
            LogFormat::Off => return,
            LogFormat::Json => {
                let mut all = Map::new();
                all.insert("time".to_owned(), timestamp::now_exact().into());
                all.insert("event".to_owned(), event.into());
                if let Value::Object(fields) = fields {
                    all.extend(fields.into_iter().filter(|(_, value)| !value.is_null()));
                }
                Value::Object(all).to_string()
            }
            LogFormat::Text => {
                let mut line = format!("{} {event}", timestamp::now());
                if let Value::Object(fields) = &fields {
                    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
                        let value = value.as_str().map_or_else(|| value.to_string(), |text| visible(text).into_owned());
                        line.push_str(&format!(" {name}={value}"));
                    }
                }
                line
            }
        };
        line.push('\n');
        (self.write)(&line);
    }

    /// Something that whoever runs the server should know.
    pub(super) fn problem(&self, about: &str, why: &dyn std::error::Error) {
        self.line("problem", json!({"about": about, "error": with_causes(why)}));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn a_line_is_one_line() {
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        for format in [LogFormat::Json, LogFormat::Text, LogFormat::Off] {
            let kept = Arc::clone(&lines);
            let log = Log::to(format, move |line| kept.lock().unwrap().push(line.to_owned()));
            log.line("request", json!({"repository": "a\nb", "token": null, "status": 200}));
        }
        let lines = lines.lock().unwrap();
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|line| line.matches('\n').count() == 1 && line.ends_with('\n')), "{lines:?}");
        let read: Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(
            (&read["event"], &read["repository"], &read["status"]),
            (&"request".into(), &"a\nb".into(), &200.into())
        );
        assert!(read.get("token").is_none() && read["time"].is_string());
        assert!(lines[1].contains("status=200") && !lines[1].contains("token"), "{}", lines[1]);
    }
}
