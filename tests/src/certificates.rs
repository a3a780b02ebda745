//! Authorities and the certificates that they sign, made by `openssl`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// An authority of certificates.
#[derive(Debug)]
pub struct Authority {
    directory: PathBuf,
}

impl Authority {
    /// Makes `ca.pem` and `ca.key` in a directory.
    #[track_caller]
    pub fn make(directory: &Path) -> Self {
        let arguments = "req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=tests -keyout ca.key \
                         -out ca.pem";
        openssl(directory, arguments);
        Self {
            directory: directory.to_owned(),
        }
    }

    /// PEM file with its own certificate.
    pub fn file(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// Signs a certificate for names such as `DNS:localhost,IP:127.0.0.1`: PEM files of the certificate
    /// and of its key.
    #[track_caller]
    pub fn sign(&self, names: &str) -> (PathBuf, PathBuf) {
        let extensions = format!("basicConstraints=CA:FALSE\nsubjectAltName={names}\n");
        std::fs::write(self.directory.join("extensions"), extensions)
            .expect("the directory is ours");
        for arguments in [
            "req -newkey rsa:2048 -nodes -subj /CN=tests -keyout signed.key -out signed.csr",
            "x509 -req -in signed.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 \
             -extfile extensions -out signed.crt",
        ] {
            openssl(&self.directory, arguments);
        }
        let at = |name: &str| self.directory.join(name);
        (at("signed.crt"), at("signed.key"))
    }

    /// The files of a process of a job: `ca.crt`, `tls.crt` and `tls.key`, in a directory of the name that
    /// the certificate is for.
    #[track_caller]
    pub fn sign_process(&self, name: &str) -> PathBuf {
        let (certificate, key) = self.sign(&format!("DNS:{name}"));
        let directory = self.directory.join(name);
        std::fs::create_dir_all(&directory).expect("the directory is ours");
        for (from, to) in [
            (self.file(), "ca.crt"),
            (certificate, "tls.crt"),
            (key, "tls.key"),
        ] {
            std::fs::copy(from, directory.join(to)).expect("the directory is ours");
        }
        directory
    }
}

#[track_caller]
fn openssl(directory: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(directory)
        .output()
        .expect("openssl starts");
    assert!(
        output.status.success(),
        "openssl {arguments}:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
