use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// The files of a process whose certificate is for a name, signed by an authority.
fn write_files(directory: &Path, authority: &Authority, name: &str) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    std::fs::write(directory.join(AUTHORITY), authority.pem()).unwrap();
    std::fs::write(directory.join(CERTIFICATE), certificate.pem()).unwrap();
    std::fs::write(directory.join(KEY), key.serialize_pem()).unwrap();
}

fn files(authority: &Authority, name: &str) -> TempDir {
    let directory = TempDir::new().unwrap();
    write_files(directory.path(), authority, name);
    directory
}

fn secured(directory: &TempDir) -> Transport {
    Transport::tls(directory.path()).unwrap()
}

/// Connects one end to the other, says a word and hears it again: what each end comes to.
async fn talk(here: &Transport, there: &Transport) -> (io::Result<String>, io::Result<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let client = async {
        let mut stream = here.connect(&address).await?;
        stream.write_all(b"hello").await?;
        stream.shutdown().await?;
        let mut heard = String::new();
        stream.read_to_string(&mut heard).await?;
        Ok(heard)
    };
    let server = async {
        let (stream, _) = listener.accept().await?;
        let mut stream = there.accept(stream).await?;
        let mut heard = [0; 5];
        stream.read_exact(&mut heard).await?;
        stream.write_all(&heard).await?;
        stream.shutdown().await
    };
    tokio::join!(client, server)
}

#[tokio::test]
async fn processes_of_a_job_talk_in_the_clear_and_by_tls() {
    let authority = authority();
    let (one, other) = (files(&authority, "orders"), files(&authority, "orders"));
    for (here, there) in [
        (Transport::plain(), Transport::plain()),
        (secured(&one), secured(&other)),
        (secured(&one), secured(&one)),
    ] {
        let (heard, served) = talk(&here, &there).await;
        served.unwrap();
        assert_eq!(heard.unwrap(), "hello");
    }
}

#[tokio::test]
async fn a_process_of_another_authority_or_name_or_without_tls_is_refused_by_both_ends() {
    let (ours, theirs) = (authority(), authority());
    let own = files(&ours, "orders");
    let strangers = [
        secured(&files_kept(&theirs, "orders")),
        secured(&files_kept(&ours, "payments")),
        Transport::plain(),
    ];
    for stranger in &strangers {
        let (client, server) = talk(stranger, &secured(&own)).await;
        let refused = server.unwrap_err().to_string();
        assert!(refused.starts_with("TLS: "), "{refused}");
        // A client in the clear is cut off before it hears a word.
        assert_ne!(client.unwrap_or_default(), "hello");
        let (client, server) = talk(&secured(&own), stranger).await;
        let refused = client.unwrap_err().to_string();
        assert!(
            refused.contains("do all processes of the job use TLS"),
            "{refused}"
        );
        // One that serves in the clear takes the handshake for words.
        assert_eq!(server.is_ok(), stranger.tls.is_none());
    }
}

/// Files that stay until the end of the process.
fn files_kept(authority: &Authority, name: &str) -> TempDir {
    let mut directory = files(authority, name);
    directory.disable_cleanup(true);
    directory
}

#[tokio::test]
async fn a_renewed_certificate_needs_no_restart() {
    let (old, new) = (authority(), authority());
    let directory = files(&old, "orders");
    let transport = secured(&directory);
    talk(&transport, &transport).await.0.unwrap();
    write_files(directory.path(), &new, "orders");
    talk(&transport, &transport).await.0.unwrap();
    let (left_behind, _) = talk(&secured(&files_kept(&old, "orders")), &transport).await;
    assert!(left_behind.is_err());
}

#[test]
fn a_file_that_is_missing_or_wrong_is_named() {
    let authority = authority();
    let directory = files(&authority, "orders");
    let at = |file: &str| directory.path().join(file);
    let refused = || Transport::tls(directory.path()).unwrap_err().to_string();
    for file in [AUTHORITY, CERTIFICATE, KEY] {
        let good = std::fs::read(at(file)).unwrap();
        for bad in [
            "",
            "not PEM",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            std::fs::write(at(file), bad).unwrap();
            assert!(refused().contains(file), "{file} {bad:?}: {}", refused());
        }
        std::fs::remove_file(at(file)).unwrap();
        assert!(refused().contains(file) && refused().contains("cannot be read"));
        std::fs::write(at(file), good).unwrap();
    }
    let other = files(&authority, "orders");
    std::fs::copy(other.path().join(KEY), at(KEY)).unwrap();
    assert!(
        refused().contains("tls.key: keys may not be consistent"),
        "{}",
        refused()
    );
    let failure = millstream_types::Failure::from(Transport::tls(directory.path()).unwrap_err());
    assert_eq!(failure.code, millstream_types::ErrorCode::TlsFiles);
}

#[test]
fn a_certificate_without_a_name_is_refused() {
    let authority = authority();
    let directory = files(&authority, "10.0.0.1");
    let refused = Transport::tls(directory.path()).unwrap_err().to_string();
    assert!(refused.contains("no DNS name"), "{refused}");
}
