//! What can go wrong, in words of the person at the terminal, and what to do.

use std::error::Error as _;

/// Why a command could not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// There is no usable kubeconfig.
    #[error("there is no cluster to talk to: {reason}")]
    NoConfiguration {
        /// What is wrong with it.
        reason: String,
    },
    /// The API server does not answer.
    #[error("the API server {server} does not answer: {reason}")]
    Unreachable {
        /// Its address.
        server: String,
        /// What happened.
        reason: String,
    },
    /// The API server does not know the user.
    #[error("the API server {server} does not accept your credentials")]
    Unauthorized {
        /// Its address.
        server: String,
    },
    /// The user may not do it.
    #[error("not allowed: {message}")]
    Forbidden {
        /// What the API server said.
        message: String,
    },
    /// The custom resources are not there.
    #[error("the cluster at {server} does not know StreamJobs")]
    NotInstalled {
        /// Its address.
        server: String,
    },
    /// There is no such object.
    #[error("there is no {kind} `{name}` in namespace `{namespace}`")]
    NotFound {
        /// Its kind.
        kind: &'static str,
        /// The name that was asked for.
        name: String,
        /// The namespace.
        namespace: String,
        /// Names that are there.
        known: Vec<String>,
    },
    /// Somebody else changed the object meanwhile, or it exists already.
    #[error("it was not done: {message}")]
    Conflict {
        /// What the API server said.
        message: String,
    },
    /// The API server refused what was sent, or could not do it.
    #[error("the API server refused it: {message}")]
    Refused {
        /// What it said.
        message: String,
    },
    /// A resource was written by another version.
    #[error("{what} cannot be understood: {reason}")]
    Unreadable {
        /// Which resource.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The job is not in a state for it.
    #[error("{what}")]
    NotNow {
        /// What is so.
        what: String,
        /// What to do.
        hint: String,
    },
    /// What was waited for did not happen.
    #[error("{what}")]
    WaitedInVain {
        /// What did not happen.
        what: String,
        /// What to do.
        hint: String,
    },
    /// The operating system refused something.
    #[error("{what}: {reason}")]
    System {
        /// What could not be done.
        what: String,
        /// What it said.
        reason: String,
    },
    /// The reader of standard output is gone.
    #[error("standard output is closed")]
    ClosedOutput,
}

/// Names that are listed of what there is instead.
const KNOWN_MAX: usize = 10;

impl Problem {
    /// A problem with a client library's error, from the server at that address.
    pub fn of(error: &kube::Error, server: &str) -> Self {
        let server = server.to_owned();
        match error {
            kube::Error::Api(status) => Self::of_status(status, server),
            kube::Error::SerdeError(error) => Self::Unreadable {
                what: "the API server's answer".to_owned(),
                reason: error.to_string(),
            },
            kube::Error::Auth(_) => Self::NoConfiguration {
                reason: chain(error),
            },
            _ => Self::Unreachable {
                server,
                reason: chain(error),
            },
        }
    }

    fn of_status(status: &kube::core::Status, server: String) -> Self {
        let message = status.message.clone();
        match status.code {
            401 => Self::Unauthorized { server },
            403 => Self::Forbidden { message },
            // A missing object has a reason; a missing kind is a page that is not there.
            404 if status.reason != "NotFound" || message.contains("requested resource") => {
                Self::NotInstalled { server }
            }
            409 => Self::Conflict { message },
            502..=504 => Self::Unreachable {
                server,
                reason: message,
            },
            _ => Self::Refused { message },
        }
    }

    /// What a person can do about it.
    pub fn what_to_do(&self) -> String {
        match self {
            Self::NoConfiguration { .. } => "Give a kubeconfig with --kubeconfig or $KUBECONFIG, \
                 and a context with --context; `kubectl config get-contexts` lists them."
                .to_owned(),
            Self::Unreachable { .. } => "Is the cluster up and reachable from here? \
                 `kubectl cluster-info` should say the same; --context chooses another one."
                .to_owned(),
            Self::Unauthorized { .. } => {
                "Log in to the cluster again, or choose another --context.".to_owned()
            }
            Self::Forbidden { .. } => "Ask whoever manages the cluster for a role that allows it; \
                 docs/kubectl-streamjob.md lists what each command needs."
                .to_owned(),
            Self::NotInstalled { .. } => "Install the operator with its Helm chart \
                 (`helm install millstream-operator charts/millstream-operator`), or choose \
                 another --context."
                .to_owned(),
            Self::NotFound {
                known, namespace, ..
            } => instead(known, namespace),
            Self::Conflict { .. } => "Look at it again and repeat the command.".to_owned(),
            Self::Unreadable { .. } => format!(
                "It may have been written by another version than {}: use the plugin of the \
                 operator's version. `kubectl get -o yaml` shows it as it is.",
                env!("CARGO_PKG_VERSION")
            ),
            Self::NotNow { hint, .. } | Self::WaitedInVain { hint, .. } => hint.clone(),
            Self::Refused { .. } | Self::System { .. } | Self::ClosedOutput => String::new(),
        }
    }
}

fn instead(known: &[String], namespace: &str) -> String {
    if known.is_empty() {
        return format!(
            "There is none in `{namespace}`; -n chooses another namespace, \
             `kubectl get streamjobs -A` lists all."
        );
    }
    let more = known.len().saturating_sub(KNOWN_MAX);
    let names = known.iter().take(KNOWN_MAX).cloned().collect::<Vec<_>>();
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    format!("There are: {}{more}.", names.join(", "))
}

/// An error with what caused it, each said once.
fn chain(error: &kube::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        source = error.source();
    }
    text
}
