//! Connections to the stores: where they are and how they are trusted is told by the environment and the files that the stores' own
//! tools read.

use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::list::PaginatedListStore;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use tokio::runtime::Runtime;

use crate::address::{Address, Scheme};
use crate::error::BucketError;
use crate::profile::Profile;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a store may be silent; also how long a whole pack may take to be sent.
const SILENCE: Duration = Duration::from_secs(120);
/// How long a request is repeated that the store is too busy for.
const RETRY: Duration = Duration::from_secs(90);
/// Where machines in the cloud ask for their credentials.
const METADATA: ([u8; 4], u16) = ([169, 254, 169, 254], 80);

/// A store, and its listings page by page.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) pages: Arc<dyn PaginatedListStore>,
    /// Whether listings are in the order of names.
    pub(crate) is_sorted: bool,
    /// Whether the end of an object can be asked for without knowing its length.
    pub(crate) has_tails: bool,
}

impl Connection {
    /// Connects to the store of an address. Nothing is sent yet.
    pub(crate) fn new(address: &Address, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, BucketError> {
        match address.scheme() {
            Scheme::S3 => s3(address, env),
            Scheme::Gs => gs(address, env),
            Scheme::Az => az(address, env),
        }
    }

    fn of<S: ObjectStore + PaginatedListStore>(store: S) -> Self {
        let store = Arc::new(store);
        Self { store: store.clone(), pages: store, is_sorted: true, has_tails: true }
    }
}

/// The threads that all connections of the process share. They are never waited for from one of their own.
pub(crate) fn runtime() -> Result<&'static Runtime, BucketError> {
    static RUNTIME: OnceLock<std::io::Result<Runtime>> = OnceLock::new();
    let made = RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("bucket").enable_all().build()
    });
    made.as_ref().map_err(|error| BucketError::System(std::io::Error::new(error.kind(), error.to_string())))
}

fn unusable(error: &object_store::Error) -> BucketError {
    BucketError::Unusable(error.to_string())
}

fn retries() -> RetryConfig {
    let backoff =
        BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(10), base: 2. };
    RetryConfig { backoff, max_retries: 12, retry_timeout: RETRY }
}

/// Plain HTTP is spoken only with a store whose address says so.
fn options(endpoint: Option<&str>) -> ClientOptions {
    ClientOptions::new()
        .with_timeout_disabled()
        .with_read_timeout(SILENCE)
        .with_connect_timeout(CONNECT)
        .with_allow_http(endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")))
}

fn s3(address: &Address, env: &dyn Fn(&str) -> Option<String>) -> Result<Connection, BucketError> {
    let is_set = |name: &str| env(name).is_some_and(|value| !value.is_empty());
    let profile = Profile::read(env)?;
    let given = env("AWS_ENDPOINT_URL_S3").or_else(|| env("AWS_ENDPOINT_URL")).or_else(|| env("AWS_ENDPOINT"));
    let endpoint = given.filter(|endpoint| !endpoint.is_empty()).or(profile.endpoint);
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(address.bucket())
        .with_retry(retries())
        .with_client_options(options(endpoint.as_deref()))
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        // One request for each object is what every store knows.
        .with_disable_bulk_delete(true);
    if let Some(endpoint) = &endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(region) = profile.region.filter(|_| !is_set("AWS_REGION") && !is_set("AWS_DEFAULT_REGION")) {
        builder = builder.with_region(region);
    }
    let elsewhere =
        ["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"];
    let is_told = is_set("AWS_ACCESS_KEY_ID")
        || is_set("AWS_SECRET_ACCESS_KEY")
        || is_set("AWS_SKIP_SIGNATURE")
        || elsewhere.into_iter().any(is_set);
    if !is_told {
        match (profile.key_id, profile.secret, profile.elsewhere) {
            (Some(key_id), Some(secret), _) => {
                builder = builder.with_access_key_id(key_id).with_secret_access_key(secret);
                if let Some(token) = profile.token {
                    builder = builder.with_token(token);
                }
            }
            (None, None, Some(way)) => {
                return Err(BucketError::Credentials(format!(
                    "the profile gets its credentials by {way}, which shard does not follow: \
                     `aws configure export-credentials --format env` prints what to set in the environment"
                )));
            }
            (None, None, None) if is_set("AWS_EC2_METADATA_DISABLED") || !has_metadata() => {
                return Err(BucketError::Credentials(
                    "there are no credentials for S3: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile of \
                     ~/.aws/credentials in AWS_PROFILE"
                        .to_owned(),
                ));
            }
            (None, None, None) => {}
            _ => {
                return Err(BucketError::Credentials(
                    "the profile has one of aws_access_key_id and aws_secret_access_key, and not the other".to_owned(),
                ));
            }
        }
    }
    let mut connection = Connection::of(builder.build().map_err(|error| unusable(&error))?);
    // Directory buckets list in any order.
    connection.is_sorted = !address.bucket().ends_with("--x-s3");
    Ok(connection)
}

/// Whether this is a machine that is given credentials by the cloud it is in: without, asking would take long to fail.
fn has_metadata() -> bool {
    TcpStream::connect_timeout(&SocketAddr::from(METADATA), Duration::from_secs(1)).is_ok()
}

fn gs(address: &Address, env: &dyn Fn(&str) -> Option<String>) -> Result<Connection, BucketError> {
    let emulator = env("STORAGE_EMULATOR_HOST").filter(|host| !host.is_empty());
    let endpoint = match &emulator {
        Some(host) if host.contains("://") => Some(host.clone()),
        Some(host) => Some(format!("http://{host}")),
        None => env("GOOGLE_BASE_URL"),
    };
    let mut builder = GoogleCloudStorageBuilder::from_env()
        .with_bucket_name(address.bucket())
        .with_retry(retries())
        .with_client_options(options(endpoint.as_deref()));
    if let Some(endpoint) = endpoint {
        builder = builder.with_base_url(endpoint.trim_end_matches('/'));
    }
    if emulator.is_some() {
        builder = builder.with_skip_signature(true);
    }
    Ok(Connection::of(builder.build().map_err(|error| unusable(&error))?))
}

fn az(address: &Address, env: &dyn Fn(&str) -> Option<String>) -> Result<Connection, BucketError> {
    let text = env("AZURE_STORAGE_CONNECTION_STRING").unwrap_or_default();
    let part = |name: &str| {
        text.split(';')
            .find_map(|part| part.trim().split_once('=').filter(|(key, _)| *key == name))
            .map(|(_, value)| value)
    };
    let protocol = part("DefaultEndpointsProtocol").unwrap_or("https");
    let by_suffix = part("EndpointSuffix").zip(part("AccountName"));
    let told = part("BlobEndpoint").map(|url| url.trim_end_matches('/').to_owned());
    let told = told.or_else(|| by_suffix.map(|(suffix, account)| format!("{protocol}://{account}.blob.{suffix}")));
    let endpoint = told.clone().or_else(|| env("AZURE_STORAGE_ENDPOINT")).or_else(|| env("AZURE_ENDPOINT"));
    let is_emulator = part("UseDevelopmentStorage").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let mut builder = MicrosoftAzureBuilder::from_env()
        .with_container_name(address.bucket())
        .with_retry(retries())
        .with_client_options(options(endpoint.as_deref()));
    if let Some(account) = part("AccountName") {
        builder = builder.with_account(account);
    }
    if let Some(key) = part("AccountKey") {
        builder = builder.with_access_key(key);
    }
    if let Some(token) = part("SharedAccessSignature") {
        builder = builder.with_config(object_store::azure::AzureConfigKey::SasKey, token);
    }
    if let Some(endpoint) = told {
        builder = builder.with_endpoint(endpoint);
    }
    if is_emulator {
        builder = builder.with_use_emulator(true).with_client_options(options(Some("http://")));
    }
    let connection = Connection::of(builder.build().map_err(|error| unusable(&error))?);
    Ok(Connection { has_tails: false, ..connection })
}
