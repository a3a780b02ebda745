//! How to reach a server and log in.

use std::time::{Duration, Instant};

use millstream_connect::Result;
use millstream_sinks::{SinkContext, id};
use millstream_spec::connector::PostgresSink;
use millstream_types::{ErrorCode, ErrorKind, Failure};
use tokio_postgres::config::{ChannelBinding, SslMode, TargetSessionAttrs};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};

use crate::failure::Fails;
use crate::tls::{Rustls, read_file};

const DEFAULT_PORT: u16 = 5432;
/// How long a connection may take until it is there.
const SETUP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the other side may be silent until it is taken for gone.
const SILENCE: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How to reach a server, for one part of a sink.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    options: PostgresSink,
    /// What the server calls the connection: for a writer, what names of its transactions begin with.
    application: String,
    pub(crate) fails: Fails,
}

impl Server {
    pub(crate) fn new(sink: &str, options: &PostgresSink, cx: &SinkContext) -> Self {
        let family = id::family(&cx.job, &cx.sink);
        let application = match &cx.writer {
            None => "millstream".to_owned(),
            Some(writer) => {
                let prefix = id::prefix(&family, writer.lineage.as_ref());
                let first = id::TransactionId::new(prefix, writer.attempt, writer.subtask, 0);
                first.of_subtask()
            }
        };
        Self {
            application,
            fails: Fails::new(sink, &options.servers),
            options: options.clone(),
        }
    }

    /// Connects, trying for as long as the options say while the server is not there.
    ///
    /// # Errors
    /// It is not there, or does not let the job in.
    pub(crate) async fn connect(&self) -> Result<Client> {
        let config = self.config()?;
        let deadline = Instant::now() + self.options.connect_timeout.0;
        let mut pause = FIRST_PAUSE;
        loop {
            let failure = match self.connect_once(&config).await {
                Ok(client) => return Ok(client),
                Err(failure) => failure,
            };
            if failure.kind != ErrorKind::Retryable || Instant::now() + pause > deadline {
                return Err(failure);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn connect_once(&self, config: &Config) -> Result<Client> {
        let client = match &self.options.tls {
            None => {
                let (client, connection) = config
                    .connect(NoTls)
                    .await
                    .map_err(|error| self.refused(&error))?;
                drive(connection);
                client
            }
            Some(tls) => {
                let rustls = Rustls::new(tls).map_err(|error| self.unusable(&error))?;
                let (client, connection) = config
                    .connect(rustls)
                    .await
                    .map_err(|error| self.refused(&error))?;
                drive(connection);
                client
            }
        };
        // What is acknowledged must be durable, whatever the role's default is.
        let durable = "SELECT set_config('synchronous_commit', 'on', false) \
                       WHERE current_setting('synchronous_commit') = 'off'";
        let set = client.batch_execute(durable).await;
        set.map_err(|error| self.fails.of("begins", &error))?;
        Ok(client)
    }

    fn config(&self) -> Result<Config> {
        let mut config = Config::new();
        for server in self.options.servers.split(',').map(str::trim) {
            let (host, port) = endpoint(server);
            config.host(host).port(port);
        }
        config
            .user(&self.options.username)
            .dbname(&self.options.database)
            .application_name(&self.application)
            .connect_timeout(SETUP_TIMEOUT)
            .tcp_user_timeout(SILENCE)
            .keepalives_idle(SILENCE / 3)
            .target_session_attrs(TargetSessionAttrs::ReadWrite)
            .channel_binding(ChannelBinding::Disable)
            .ssl_mode(match self.options.tls {
                Some(_) => SslMode::Require,
                None => SslMode::Disable,
            });
        if let Some(file) = &self.options.password_file {
            let mut password = read_file(file).map_err(|error| self.unusable(&error))?;
            for end in [b'\n', b'\r'] {
                password.pop_if(|last| *last == end);
            }
            config.password(password);
        }
        Ok(config)
    }

    fn unusable(&self, error: &str) -> Failure {
        let code = ErrorCode::PostgresAccess;
        self.fails.with(code, ErrorKind::InvalidJob, error)
    }

    /// What it means that a connection is not made.
    fn refused(&self, error: &tokio_postgres::Error) -> Failure {
        let failure = self.fails.of("connects", error);
        let text = &failure.message;
        let is_access = match error.code() {
            Some(code) => *code == SqlState::INVALID_PASSWORD,
            // Found out by the client: certificates, a missing password, no TLS on the other side.
            None => ["certificate", "password", "TLS", "authentication"]
                .iter()
                .any(|word| text.contains(word)),
        };
        if is_access {
            return Failure {
                code: ErrorCode::PostgresAccess,
                kind: ErrorKind::InvalidJob,
                ..failure
            };
        }
        failure
    }
}

/// Host and port of a server as it is written.
fn endpoint(server: &str) -> (&str, u16) {
    let port = |text: &str| text.parse().unwrap_or(DEFAULT_PORT);
    if let Some((host, rest)) = server
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        return (host, port(rest.trim_start_matches(':')));
    }
    match server.split_once(':') {
        Some((host, rest)) => (host, port(rest)),
        None => (server, DEFAULT_PORT),
    }
}

/// Lets a connection go on beside; it ends with its client.
#[expect(
    clippy::disallowed_methods,
    reason = "the client owns what drives its connection"
)]
fn drive<S, T>(connection: tokio_postgres::Connection<S, T>)
where
    tokio_postgres::Connection<S, T>:
        Future<Output = std::result::Result<(), tokio_postgres::Error>>,
    S: Send + 'static,
    T: Send + 'static,
{
    tokio::spawn(async move {
        // Who uses the client is told too, and better.
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection to PostgreSQL ended");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_have_a_port_or_the_usual_one() {
        for (text, expected) in [
            ("db", ("db", 5432)),
            ("db:6432", ("db", 6432)),
            ("[::1]:6432", ("::1", 6432)),
            ("[::1]", ("::1", 5432)),
        ] {
            assert_eq!(endpoint(text), expected);
        }
    }
}
