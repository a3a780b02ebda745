//! What can go wrong between here and a NameNode, in words.

use std::time::Duration;

use hdfs_native::HdfsError;

/// Error of HDFS, by what somebody does about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The address or the configuration of Hadoop names no NameNode.
    #[error("{0}")]
    Configuration(String),
    /// The NameNode takes no writes for the time being.
    #[error(
        "the NameNode is in safe mode: it takes no writes until enough DataNodes have reported, or until somebody who has turned it on turns it off (`hdfs dfsadmin -safemode get`). It says: {0}"
    )]
    SafeMode(String),
    /// The user may not do this.
    #[error(
        "{0}: give the user the right to it, or name another user in HADOOP_USER_NAME of this process"
    )]
    Denied(String),
    /// The NameNode does not believe who this is.
    #[error(
        "authentication failed: {0}. With Kerberos, this process needs a ticket (KRB5CCNAME), or MILLSTREAM_HDFS_PRINCIPAL and MILLSTREAM_HDFS_KEYTAB, the library libgssapi_krb5, and `hadoop.security.authentication` in core-site.xml of HADOOP_CONF_DIR"
    )]
    Authentication(String),
    /// Nobody has answered in time.
    #[error("no answer within {0:?}")]
    NoAnswer(Duration),
    /// There is no such file.
    #[error("there is no {0}")]
    NotFound(String),
    /// A directory has the name.
    #[error("{0} is a directory")]
    IsDirectory(String),
    /// Another file has the name.
    #[error("{0} exists already")]
    Exists(String),
    /// A directory is not empty.
    #[error("{0} is not empty")]
    NotEmpty(String),
    /// Anything else, which may be over the next time.
    #[error("{0}")]
    Other(String),
}

/// Result of everything in this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Exceptions of Hadoop by their class.
const NOT_FOUND: [&str; 2] = [
    "java.io.FileNotFoundException",
    "org.apache.hadoop.fs.PathNotFoundException",
];
const NOT_EMPTY: &str = "org.apache.hadoop.fs.PathIsNotEmptyDirectoryException";
const SAFE_MODE: &str = "org.apache.hadoop.hdfs.server.namenode.SafeModeException";
const DENIED: [&str; 2] = [
    "org.apache.hadoop.security.AccessControlException",
    "org.apache.hadoop.security.authorize.AuthorizationException",
];

impl Error {
    /// Whether the same request may be answered otherwise in a moment.
    pub(crate) const fn is_passing(&self) -> bool {
        matches!(self, Self::SafeMode(_) | Self::NoAnswer(_) | Self::Other(_))
    }

    /// Whether the service has answered that it does not, and trying again does not help before
    /// somebody changes rights or credentials.
    pub const fn is_refusal(&self) -> bool {
        matches!(self, Self::Denied(_) | Self::Authentication(_))
    }
}

impl From<HdfsError> for Error {
    fn from(error: HdfsError) -> Self {
        match error {
            HdfsError::FileNotFound(path) => Self::NotFound(path),
            HdfsError::AlreadyExists(text) => Self::Exists(first_line(&text)),
            HdfsError::IsADirectoryError(path) => Self::IsDirectory(path),
            HdfsError::RPCError(class, text) | HdfsError::FatalRPCError(class, text) => {
                answered(&class, &text)
            }
            error @ (HdfsError::SASLError(_)
            | HdfsError::GSSAPIError(..)
            | HdfsError::NoSASLMechanism) => Self::Authentication(error.to_string()),
            error @ (HdfsError::InvalidArgument(_)
            | HdfsError::UrlParseError(_)
            | HdfsError::XmlParseError(_)) => Self::Configuration(error.to_string()),
            HdfsError::DataTransferError(text) => {
                // The client shows all that it knows of the DataNodes.
                let text = text.split('[').next().unwrap_or_default();
                Self::Other(text.trim_end_matches([':', ' ']).to_owned())
            }
            error => Self::Other(error.to_string()),
        }
    }
}

/// What a NameNode has answered. Its text goes on with a stack trace.
fn answered(class: &str, text: &str) -> Error {
    let text = first_line(text);
    // A NameNode that has just become active wraps its safe mode into what asks to come again.
    if class == SAFE_MODE || text.contains("safe mode") {
        Error::SafeMode(text)
    } else if NOT_FOUND.contains(&class) {
        Error::NotFound(text)
    } else if class == NOT_EMPTY {
        Error::NotEmpty(text)
    } else if DENIED.contains(&class) {
        if text.contains("authentication") || text.contains("SIMPLE") {
            Error::Authentication(text)
        } else {
            Error::Denied(text)
        }
    } else {
        let class = class.rsplit('.').next().unwrap_or(class);
        Error::Other(format!("{class}: {text}"))
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_name_node_says_is_told_apart_and_said_without_its_stack() {
        let says = |class: &str, text: &str| {
            Error::from(HdfsError::RPCError(class.to_owned(), text.to_owned()))
        };
        let safe = says(
            SAFE_MODE,
            "Cannot create file/x. Name node is in safe mode.\nIt was turned on manually.",
        );
        assert!(
            matches!(&safe, Error::SafeMode(text) if !text.contains('\n')),
            "{safe:?}"
        );
        assert!(safe.is_passing() && !safe.is_refusal());
        let denied = says(
            DENIED[0],
            "Permission denied: user=eve, access=WRITE, inode=\"/\":root:supergroup:drwxr-xr-x",
        );
        assert!(denied.to_string().contains("HADOOP_USER_NAME"), "{denied}");
        assert!(denied.is_refusal() && !denied.is_passing());
        let simple = says(
            DENIED[0],
            "SIMPLE authentication is not enabled.  Available:[TOKEN, KERBEROS]",
        );
        assert!(matches!(simple, Error::Authentication(_)), "{simple:?}");
        assert_eq!(
            says(NOT_FOUND[0], "rename source /a is not found.\n\tat x"),
            Error::NotFound("rename source /a is not found.".to_owned())
        );
        let other = says("java.io.IOException", "could only be written to 0 of the 1");
        assert_eq!(
            other.to_string(),
            "IOException: could only be written to 0 of the 1"
        );
        assert!(other.is_passing());
        let lost = HdfsError::DataTransferError("All DataNodes failed: [Info { .. }]".to_owned());
        assert_eq!(Error::from(lost).to_string(), "All DataNodes failed");
    }
}
