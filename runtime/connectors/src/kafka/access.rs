//! How to reach a cluster and log in: read once from the options, used by librdkafka and by the
//! raw client alike, so that both always agree.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use millstream_connect::Result;
use millstream_spec::connector::kafka::{Sasl, SaslMechanism, Tls};

use super::failure;

/// Port of a server that is written without one.
const DEFAULT_PORT: u16 = 9092;
/// How long a connection may take until it is there, and logged in.
const SETUP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a broker may take for an answer.
pub(crate) const SOCKET_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest secret file that is read, bytes.
const SECRET_BYTES_MAX: u64 = 64 * 1_024;

/// Address of a broker as a name or IP address and a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Endpoint {
    /// Host name, IPv4 or IPv6 address without brackets.
    pub(crate) host: String,
    /// TCP port.
    pub(crate) port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// How to reach a cluster and log in.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    /// Where to begin, at least one.
    pub(crate) servers: Vec<Endpoint>,
    /// TLS, if the brokers want it.
    pub(crate) tls: Option<Tls>,
    /// Login, if the brokers want one.
    pub(crate) sasl: Option<Sasl>,
    /// How long to try to reach a broker.
    pub(crate) connect_timeout: Duration,
}

impl Access {
    /// Checks the options of the node `node`.
    ///
    /// # Errors
    /// `bootstrap_servers` names no server, or one that is not `host:port`.
    pub(crate) fn new(
        node: &str,
        bootstrap_servers: &str,
        security: (Option<&Tls>, Option<&Sasl>),
        connect_timeout: Duration,
    ) -> Result<Self> {
        let servers: Vec<Endpoint> = bootstrap_servers
            .split(',')
            .map(str::trim)
            .filter(|server| !server.is_empty())
            .map(|server| parse_endpoint(server).ok_or_else(|| failure::not_a_server(node, server)))
            .collect::<Result<_>>()?;
        if servers.is_empty() {
            return Err(failure::not_a_server(node, bootstrap_servers));
        }
        Ok(Self {
            servers,
            tls: security.0.cloned(),
            sasl: security.1.cloned(),
            connect_timeout,
        })
    }

    /// The servers as librdkafka and people write them.
    pub(crate) fn bootstrap(&self) -> String {
        let servers: Vec<String> = self.servers.iter().map(ToString::to_string).collect();
        servers.join(",")
    }

    /// The options of librdkafka that say the same. Reads the password file.
    ///
    /// # Errors
    /// The password file cannot be read.
    pub(crate) fn librdkafka(&self) -> Result<Vec<(&'static str, String)>> {
        let protocol = match (&self.tls, &self.sasl) {
            (None, None) => "PLAINTEXT",
            (Some(_), None) => "SSL",
            (None, Some(_)) => "SASL_PLAINTEXT",
            (Some(_), Some(_)) => "SASL_SSL",
        };
        let mut options = vec![
            ("bootstrap.servers", self.bootstrap()),
            ("security.protocol", protocol.to_owned()),
            ("client.id", "millstream".to_owned()),
            ("socket.keepalive.enable", "true".to_owned()),
            // Else every instance asks what to report, and its end waits for a last report.
            ("enable.metrics.push", "false".to_owned()),
            ("reconnect.backoff.ms", "50".to_owned()),
            ("reconnect.backoff.max.ms", "1000".to_owned()),
            // librdkafka's own are 30 s, and 60 s or nearly the transaction's timeout: longer than
            // it takes until another broker has taken over from one that is frozen or cut off.
            (
                "socket.connection.setup.timeout.ms",
                SETUP_TIMEOUT.as_millis().to_string(),
            ),
            ("socket.timeout.ms", SOCKET_TIMEOUT.as_millis().to_string()),
        ];
        if let Some(tls) = &self.tls {
            let files = [
                ("ssl.ca.location", &tls.ca_file),
                ("ssl.certificate.location", &tls.certificate_file),
                ("ssl.key.location", &tls.key_file),
            ];
            options.extend(
                files
                    .into_iter()
                    .filter_map(|(name, file)| file.clone().map(|file| (name, file))),
            );
        }
        if let Some(sasl) = &self.sasl {
            options.push(("sasl.mechanism", mechanism_name(sasl.mechanism).to_owned()));
            options.push(("sasl.username", sasl.username.clone()));
            options.push(("sasl.password", read_password(sasl)?));
        }
        Ok(options)
    }
}

/// The mechanism as Kafka spells it.
pub(crate) const fn mechanism_name(mechanism: SaslMechanism) -> &'static str {
    match mechanism {
        SaslMechanism::Plain => "PLAIN",
        SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
        SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
    }
}

/// The password without the newline that editors leave at the end. Read for every login, so that
/// a rotated one is taken.
///
/// # Errors
/// The file cannot be read, is too large or is not UTF-8.
pub(crate) fn read_password(sasl: &Sasl) -> Result<String> {
    let bytes = read_secret(&sasl.password_file)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| failure::secret_file(&sasl.password_file, "it is not UTF-8"))?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

/// Reads a small file.
///
/// # Errors
/// It cannot be read or is too large.
pub(crate) fn read_secret(file: &str) -> Result<Vec<u8>> {
    let path = Path::new(file);
    let size = std::fs::metadata(path)
        .map_err(|error| failure::secret_file(file, &error.to_string()))?
        .len();
    if size > SECRET_BYTES_MAX {
        let reason = format!("it has {size} bytes, more than {SECRET_BYTES_MAX}");
        return Err(failure::secret_file(file, &reason));
    }
    std::fs::read(path).map_err(|error| failure::secret_file(file, &error.to_string()))
}

fn parse_endpoint(text: &str) -> Option<Endpoint> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        let port = match rest {
            "" => DEFAULT_PORT,
            rest => rest.strip_prefix(':')?.parse().ok()?,
        };
        host.parse::<std::net::Ipv6Addr>().ok()?;
        (host, port)
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host, port.parse().ok()?),
            None => (text, DEFAULT_PORT),
        }
    };
    let is_name = !host.is_empty()
        && host
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || ".-_:".contains(c));
    (is_name && port != 0).then(|| Endpoint {
        host: host.to_owned(),
        port,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(servers: &str) -> Result<Access> {
        Access::new("orders", servers, (None, None), Duration::from_secs(1))
    }

    #[test]
    fn servers_are_names_or_addresses_with_a_port() {
        let access = access("kafka-0.kafka:9093, 10.0.0.1:1,[::1]:9092,broker").unwrap();
        assert_eq!(
            access.bootstrap(),
            "kafka-0.kafka:9093,10.0.0.1:1,[::1]:9092,broker:9092"
        );
    }

    #[test]
    fn anything_else_is_refused_by_name() {
        for servers in [
            "",
            " , ",
            "kafka:",
            ":9092",
            "kafka:0",
            "kafka:66000",
            "SSL://kafka:9092",
            "[::1",
            "[kafka]:1",
            "a b:1",
        ] {
            let error = access(servers).unwrap_err();
            assert!(error.message.contains("orders"), "{servers}: {error}");
        }
    }

    #[test]
    fn the_newline_at_the_end_of_a_password_file_is_not_part_of_the_password() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), " secret \r\n").unwrap();
        let sasl = Sasl {
            mechanism: SaslMechanism::Plain,
            username: "alice".into(),
            password_file: file.path().to_str().unwrap().into(),
        };
        assert_eq!(read_password(&sasl).unwrap(), " secret ");
    }

    #[test]
    fn files_of_tls_are_options_of_librdkafka() {
        let options = |tls: Option<Tls>| {
            let access = Access::new(
                "orders",
                "kafka",
                (tls.as_ref(), None),
                Duration::from_secs(1),
            )
            .unwrap();
            access.librdkafka().unwrap()
        };
        let file = |name: &str| Some(format!("/etc/kafka/{name}"));
        let all = Tls {
            ca_file: file("ca.pem"),
            certificate_file: file("tls.crt"),
            key_file: file("tls.key"),
        };
        let given = options(Some(all));
        for (name, value) in [
            ("security.protocol", "SSL"),
            ("ssl.ca.location", "/etc/kafka/ca.pem"),
            ("ssl.certificate.location", "/etc/kafka/tls.crt"),
            ("ssl.key.location", "/etc/kafka/tls.key"),
        ] {
            assert!(
                given.contains(&(name, value.to_owned())),
                "{name}: {given:?}"
            );
        }
        let names = |options: Vec<(&str, String)>| {
            options
                .iter()
                .filter(|(name, _)| name.starts_with("ssl."))
                .count()
        };
        assert_eq!(names(options(Some(Tls::default()))), 0);
        assert_eq!(names(options(None)), 0);
    }

    #[test]
    fn a_password_file_that_is_missing_is_named() {
        let sasl = Sasl {
            mechanism: SaslMechanism::Plain,
            username: "alice".into(),
            password_file: "/nowhere/password".into(),
        };
        let error = read_password(&sasl).unwrap_err();
        assert!(error.message.contains("/nowhere/password"), "{error}");
    }
}
