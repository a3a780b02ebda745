//! An authority and a server certificate, made by `openssl`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Files of a broker's listener with TLS.
#[derive(Debug)]
pub(super) struct Certificates {
    /// PEM file of the authority.
    pub(super) authority: PathBuf,
}

impl Certificates {
    /// Makes `ca.pem` and `server.pem` (key and certificate, for `localhost` and 127.0.0.1) in a
    /// directory.
    pub(super) fn make(directory: &Path) -> Self {
        let extensions = "basicConstraints=CA:FALSE\nsubjectAltName=DNS:localhost,IP:127.0.0.1\n";
        std::fs::write(directory.join("extensions"), extensions)
            .expect("a file in the scratch directory");
        for arguments in [
            "req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=tests -keyout ca.key -out ca.pem",
            "req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout server.key -out server.csr",
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 \
             -extfile extensions -out server.crt",
        ] {
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
        let read = |name: &str| {
            std::fs::read_to_string(directory.join(name)).expect("openssl wrote the file")
        };
        let both = read("server.key") + &read("server.crt");
        std::fs::write(directory.join("server.pem"), both)
            .expect("a file in the scratch directory");
        Self {
            authority: directory.join("ca.pem"),
        }
    }
}
