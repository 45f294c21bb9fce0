//! Addresses of buckets.

use std::fmt;

use shard_store::backend::check_name;

use crate::error::BucketError;

/// Which protocol a bucket speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// S3, of AWS or of another store that speaks it.
    S3,
    /// Google Cloud Storage.
    Gs,
    /// Azure Blob Storage.
    Az,
}

/// The address of a folder in a bucket: `s3://bucket/prefix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    scheme: Scheme,
    bucket: String,
    prefix: String,
}

impl Address {
    /// Whether a text begins like the address of a bucket.
    #[must_use]
    pub fn is_meant(url: &str) -> bool {
        url.split_once("://").is_some_and(|(scheme, _)| scheme_of(scheme).is_some())
    }

    /// Reads an address. A slash at its end means nothing.
    ///
    /// # Errors
    /// [`BucketError::Address`].
    pub fn parse(url: &str) -> Result<Self, BucketError> {
        let refuse = |why| BucketError::Address { url: url.chars().take(200).collect(), why };
        let (scheme, rest) = url.split_once("://").ok_or_else(|| refuse("is not the address of a bucket"))?;
        let scheme =
            scheme_of(scheme).ok_or_else(|| refuse("is not the address of a bucket: s3://, gs:// or az://"))?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if bucket.contains('@') {
            return Err(refuse("has a name or password in it, which would be kept and shown"));
        }
        if !(3..=222).contains(&bucket.len()) || !bucket.bytes().all(fits) || bucket.starts_with('.') {
            return Err(refuse("names no bucket: 3 or more letters, digits, dots, dashes or underscores"));
        }
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        let is_plain = |part: &str| {
            !part.is_empty()
                && part != "."
                && part != ".."
                && part.chars().all(|c| !c.is_control() && !matches!(c, '\\' | '?' | '#' | '*' | '<' | '>' | '|' | '"'))
        };
        if prefix.len() > 512 || (!prefix.is_empty() && !prefix.split('/').all(is_plain)) {
            return Err(refuse(
                "has a folder that no store takes: empty, with a dot alone, or with a character such as ? and #",
            ));
        }
        Ok(Self { scheme, bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }

    /// The protocol.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The bucket, or container.
    #[must_use]
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The folder in it; empty at its root.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The same with a folder below it.
    ///
    /// # Errors
    /// [`BucketError::Address`].
    pub fn below(&self, folder: &str) -> Result<Self, BucketError> {
        Self::parse(&format!("{self}/{folder}"))
    }

    /// The key of an object, from the bucket's root on.
    pub(crate) fn key(&self, name: &str) -> Result<String, shard_store::BackendError> {
        check_name(name)?;
        Ok(if self.prefix.is_empty() { name.to_owned() } else { format!("{}/{name}", self.prefix) })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::S3 => "s3",
            Scheme::Gs => "gs",
            Scheme::Az => "az",
        };
        write!(f, "{scheme}://{}", self.bucket)?;
        if !self.prefix.is_empty() {
            write!(f, "/{}", self.prefix)?;
        }
        Ok(())
    }
}

fn scheme_of(text: &str) -> Option<Scheme> {
    match text {
        "s3" => Some(Scheme::S3),
        "gs" => Some(Scheme::Gs),
        "az" => Some(Scheme::Az),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_one_form() {
        for (given, shown) in [
            ("s3://models", "s3://models"),
            ("s3://models/", "s3://models"),
            ("gs://models/a b/c/", "gs://models/a b/c"),
            ("az://models/team.x", "az://models/team.x"),
        ] {
            assert_eq!(Address::parse(given).unwrap().to_string(), shown);
            assert!(Address::is_meant(given));
        }
        assert_eq!(Address::parse("s3://models/x").unwrap().key("refs/a").unwrap(), "x/refs/a");
        assert_eq!(Address::parse("s3://models").unwrap().key("refs/a").unwrap(), "refs/a");
        assert!(Address::parse("s3://models/x").unwrap().key("../y").is_err());
    }

    #[test]
    fn fault_25_addresses_that_could_mean_something_else_are_refused() {
        for bad in [
            "s3://",
            "s3://ab",
            "s3:///x",
            "s3://models//x",
            "s3://models/../x",
            "s3://models/./x",
            "s3://models/a?b",
            "s3://models/a#b",
            "s3://key:secret@models/x",
            "s3://mod els/x",
            "http://models/x",
            "models",
            "s3://models/a\nb",
            "s3://models:80/x",
        ] {
            assert!(matches!(Address::parse(bad), Err(BucketError::Address { .. })), "{bad}");
        }
    }
}
