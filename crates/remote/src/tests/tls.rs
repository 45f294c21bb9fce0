//! TLS.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::bench::{Bench, soon};
use crate::TlsOptions;

/// Writes a certificate for this machine, which vouches for itself.
fn certificate(folder: &Path) -> rcgen::Certificate {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    made.cert
}

fn options(folder: &Path) -> TlsOptions {
    TlsOptions { cert: folder.join("cert.pem"), key: folder.join("key.pem") }
}

/// Asks for the health, trusting one certificate alone.
fn health(bench: &Bench, trusted: &rcgen::Certificate) -> Result<String, std::io::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.der().clone()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    let session = ClientConnection::new(config, ServerName::try_from("localhost").unwrap()).unwrap();
    let mut stream = StreamOwned::new(session, TcpStream::connect(bench.address).unwrap());
    stream.sock.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    match stream.read_to_string(&mut answer) {
        Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => Err(error),
        _ => Ok(answer),
    }
}

#[test]
fn a_certificate_is_used_and_read_again() {
    let mut first = None;
    let bench = Bench::with(|options_, folder| {
        first = Some(certificate(folder));
        options_.tls = Some(options(folder));
    });
    let first = first.unwrap();
    assert!(health(&bench, &first).unwrap().starts_with("HTTP/1.1 200"));
    // What is not encrypted gets no answer.
    let plain = super::bench::raw(bench.address, b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n");
    assert!(!plain.contains("HTTP/1.1"), "{plain}");
    // A torn one is told, and not used.
    let key = fs::read(bench.place("key.pem")).unwrap();
    fs::write(bench.place("key.pem"), b"torn").unwrap();
    bench.reload.notify_one();
    bench.events("problem", 1);
    assert!(health(&bench, &first).unwrap().starts_with("HTTP/1.1 200"));
    fs::write(bench.place("key.pem"), key).unwrap();
    let second = certificate(bench.folder.path());
    bench.reload.notify_one();
    soon(|| health(&bench, &second).is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")));
    assert!(health(&bench, &first).is_err());
}
