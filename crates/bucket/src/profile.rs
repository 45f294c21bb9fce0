//! The files that AWS's own tools keep credentials and settings in, as far as shard follows them: `~/.aws/credentials` and
//! `~/.aws/config`, of the profile that `AWS_PROFILE` names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::BucketError;

/// Ways to credentials that are other programs' business.
const ELSEWHERE: [&str; 5] = ["sso_session", "sso_start_url", "credential_process", "role_arn", "login_session"];

type Sections = BTreeMap<String, BTreeMap<String, String>>;

/// What a profile says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Profile {
    pub(crate) key_id: Option<String>,
    pub(crate) secret: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) endpoint: Option<String>,
    /// By what the credentials are got, where not from the files.
    pub(crate) elsewhere: Option<&'static str>,
}

impl Profile {
    /// Reads the profile that the environment chooses; one that is named has to be there.
    pub(crate) fn read(env: impl Fn(&str) -> Option<String>) -> Result<Self, BucketError> {
        let named = env("AWS_PROFILE").or_else(|| env("AWS_DEFAULT_PROFILE"));
        let home = env("HOME").or_else(|| env("USERPROFILE")).map(PathBuf::from);
        let file = |variable: &str, name: &str| {
            env(variable).map(PathBuf::from).or_else(|| Some(home.as_ref()?.join(".aws").join(name)))
        };
        let credentials = sections_of(file("AWS_SHARED_CREDENTIALS_FILE", "credentials").as_deref())?;
        let config = sections_of(file("AWS_CONFIG_FILE", "config").as_deref())?;
        let name = named.as_deref().unwrap_or("default");
        match Self::find(name, &credentials, &config) {
            Some(profile) => Ok(profile),
            None if named.is_some() => Err(BucketError::Credentials(format!(
                "the profile {name:?} that AWS_PROFILE names is in neither ~/.aws/credentials nor ~/.aws/config"
            ))),
            None => Ok(Self::default()),
        }
    }

    fn find(name: &str, credentials: &Sections, config: &Sections) -> Option<Self> {
        let kept = credentials.get(name);
        let settings = config.get(&format!("profile {name}")).or_else(|| config.get(name));
        if kept.is_none() && settings.is_none() {
            return None;
        }
        let get = |key: &str| [kept, settings].into_iter().flatten().find_map(|section| section.get(key)).cloned();
        let services = get("services").and_then(|services| config.get(&format!("services {services}")));
        let of_s3 = services.and_then(|services| services.get("s3.endpoint_url")).cloned();
        let (key_id, secret) = (get("aws_access_key_id"), get("aws_secret_access_key"));
        let elsewhere = ELSEWHERE.into_iter().find(|key| get(key).is_some()).filter(|_| key_id.is_none());
        Some(Self {
            key_id,
            secret,
            token: get("aws_session_token"),
            region: get("region"),
            endpoint: of_s3.or_else(|| get("endpoint_url")),
            elsewhere,
        })
    }
}

fn sections_of(path: Option<&Path>) -> Result<Sections, BucketError> {
    let Some(path) = path else { return Ok(Sections::new()) };
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(parse(&text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Sections::new()),
        Err(source) => Err(BucketError::Settings { path: path.to_owned(), source }),
    }
}

/// Sections of `key = value`; what is indented below a key without a value is `key.inner`. Lines that are neither mean nothing.
fn parse(text: &str) -> Sections {
    let mut sections = Sections::new();
    let (mut section, mut outer) = (String::new(), None::<String>);
    for line in text.lines() {
        let is_indented = line.starts_with([' ', '\t']);
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.split(']').next()).filter(|_| !is_indented) {
            section = name.split_whitespace().collect::<Vec<_>>().join(" ").replace('"', "");
            sections.entry(section.clone()).or_default();
            outer = None;
            continue;
        }
        let Some((key, value)) = line.split_once('=') else { continue };
        let (key, value) = (key.trim().to_ascii_lowercase(), value.split(" #").next().unwrap_or_default().trim());
        let key = match (&outer, is_indented) {
            (Some(outer), true) => format!("{outer}.{key}"),
            _ => key,
        };
        if value.is_empty() && !is_indented {
            outer = Some(key);
        } else {
            if !is_indented {
                outer = None;
            }
            sections.entry(section.clone()).or_default().insert(key, value.to_owned());
        }
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREDENTIALS: &str = "# mine\n[default]\naws_access_key_id = A\naws_secret_access_key=B=/+\n\n[lab]\naws_access_key_id=C\n\
                               aws_secret_access_key = D\naws_session_token = E\n";
    const CONFIG: &str = "[default]\nregion = eu-west-1 # near\n[profile lab]\nregion=us-east-2\nservices = own\n[profile sso]\n\
                          sso_session = x\n[services own]\ns3 =\n  endpoint_url = http://10.0.0.1:8333\nec2 =\n  endpoint_url = https://x\n";

    #[test]
    fn a_profile_is_read_from_both_files() {
        let (credentials, config) = (parse(CREDENTIALS), parse(CONFIG));
        let default = Profile::find("default", &credentials, &config).unwrap();
        assert_eq!((default.key_id.as_deref(), default.secret.as_deref()), (Some("A"), Some("B=/+")));
        assert_eq!((default.region.as_deref(), default.endpoint), (Some("eu-west-1"), None));
        let lab = Profile::find("lab", &credentials, &config).unwrap();
        assert_eq!((lab.token.as_deref(), lab.region.as_deref()), (Some("E"), Some("us-east-2")));
        assert_eq!(lab.endpoint.as_deref(), Some("http://10.0.0.1:8333"));
        assert_eq!(Profile::find("sso", &credentials, &config).unwrap().elsewhere, Some("sso_session"));
        assert_eq!(Profile::find("none", &credentials, &config), None);
    }

    #[test]
    fn a_profile_that_is_named_has_to_be_there() {
        let dir = tempfile::tempdir().unwrap();
        let aws = dir.path().join(".aws");
        std::fs::create_dir(&aws).unwrap();
        std::fs::write(aws.join("credentials"), CREDENTIALS).unwrap();
        let home = dir.path().to_str().unwrap().to_owned();
        let read = |profile: Option<&str>| {
            Profile::read(|name| match name {
                "HOME" => Some(home.clone()),
                "AWS_PROFILE" => profile.map(str::to_owned),
                _ => None,
            })
        };
        assert_eq!(read(Some("lab")).unwrap().key_id.as_deref(), Some("C"));
        assert_eq!(read(None).unwrap().key_id.as_deref(), Some("A"));
        assert!(matches!(read(Some("none")), Err(BucketError::Credentials(_))));
    }
}
