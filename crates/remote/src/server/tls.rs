//! TLS, by rustls.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use thiserror::Error;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The files of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsOptions {
    /// Certificates in PEM, the server's own first.
    pub cert: PathBuf,
    /// The key of the first, in PEM.
    pub key: PathBuf,
}

/// Why there can be no TLS.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file that cannot be read, or has not in it what it should.
    #[error("{}: holds no {what} in PEM that can be read", .path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// What was said.
        source: pem::Error,
    },
    /// A certificate and a key that do not go together.
    #[error("{}: cannot be used with {}", .cert.display(), .key.display())]
    Unusable {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
        /// What was said.
        source: tokio_rustls::rustls::Error,
    },
}

/// The certificate in use.
pub(super) struct Tls {
    options: TlsOptions,
    config: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// # Errors
    /// [`TlsError`].
    pub(super) fn new(options: TlsOptions) -> Result<Self, TlsError> {
        let config = RwLock::new(read(&options)?);
        Ok(Self { options, config })
    }

    /// Reads the files again. Where they cannot be used, those before them stay in use.
    ///
    /// # Errors
    /// [`TlsError`].
    pub(super) fn reload(&self) -> Result<(), TlsError> {
        let config = read(&self.options)?;
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner)).into()
    }
}

fn read(options: &TlsOptions) -> Result<Arc<ServerConfig>, TlsError> {
    let TlsOptions { cert, key } = options;
    let no_cert = |source| TlsError::Pem { path: cert.clone(), what: "certificate", source };
    let chain =
        CertificateDer::pem_file_iter(cert).map_err(no_cert)?.collect::<Result<Vec<_>, _>>().map_err(no_cert)?;
    let no_key = |source| TlsError::Pem { path: key.clone(), what: "private key", source };
    let secret = PrivateKeyDer::from_pem_file(key).map_err(no_key)?;
    let unusable = |source| TlsError::Unusable { cert: cert.clone(), key: key.clone(), source };
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(unusable)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn files_that_do_not_go_together_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let read = || {
            Tls::new(TlsOptions { cert: folder.path().join("cert.pem"), key: folder.path().join("key.pem") }).map(drop)
        };
        assert!(matches!(read(), Err(TlsError::Pem { what: "certificate", .. })));
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        fs::write(folder.path().join("cert.pem"), made.cert.pem()).unwrap();
        fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        read().unwrap();
        fs::remove_file(folder.path().join("key.pem")).unwrap();
        assert!(matches!(read(), Err(TlsError::Pem { what: "private key", .. })));
        let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        fs::write(folder.path().join("key.pem"), other.signing_key.serialize_pem()).unwrap();
        assert!(matches!(read(), Err(TlsError::Unusable { .. })));
        fs::write(folder.path().join("cert.pem"), "").unwrap();
        assert!(read().is_err());
    }
}
