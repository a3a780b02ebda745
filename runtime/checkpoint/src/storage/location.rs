//! Addresses of checkpoint storage.

use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};

/// A checked storage address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Location {
    /// `file:///path`, or `file://./path` from the working directory
    File {
        /// Absolute, or beginning with `./`; without `..`.
        directory: PathBuf,
    },
    /// `s3://bucket/prefix`
    S3 {
        /// Name of the bucket.
        bucket: String,
        /// Without `/` at either end; may be empty.
        prefix: String,
    },
    /// `hdfs://namenode:port/path`, or `hdfs://nameservice/path`
    Hdfs {
        /// Host and port of a NameNode, or the name of a name service.
        authority: String,
        /// Without `/` at either end; may be empty.
        path: String,
    },
}

impl Location {
    /// Reads an address.
    ///
    /// # Errors
    /// [`Error::Address`].
    pub(crate) fn parse(uri: &str) -> Result<Self> {
        let wrong = |reason: &str| Error::Address {
            uri: without_secret(uri),
            reason: reason.to_owned(),
        };
        if let Some(path) = uri.strip_prefix("file://") {
            let directory = PathBuf::from(path);
            let below_working_directory =
                path.strip_prefix("./").is_some_and(|rest| !rest.is_empty());
            if !path.starts_with('/') && !below_working_directory {
                return Err(wrong(
                    "a file address has three slashes and an absolute path, as in file:///var/lib/millstream, or begins with file://./",
                ));
            }
            if directory
                .components()
                .any(|part| part == Component::ParentDir)
            {
                return Err(wrong("the path must not contain `..`"));
            }
            return Ok(Self::File { directory });
        }
        if let Some(rest) = uri.strip_prefix("s3://") {
            if has_query(rest) {
                return Err(wrong(
                    "it has a query behind `?`, as a presigned URL, which holds keys: write \
                     s3://bucket/path, and give credentials to the process in its environment",
                ));
            }
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.is_empty() {
                return Err(wrong("write s3://bucket or s3://bucket/path"));
            }
            if bucket.contains('@') {
                return Err(wrong(
                    "keys do not belong in an address: write s3://bucket/path, and give \
                     credentials to the process in its environment",
                ));
            }
            return Ok(Self::S3 {
                bucket: bucket.to_owned(),
                prefix: prefix.trim_matches('/').to_owned(),
            });
        }
        if let Some(rest) = uri.strip_prefix("hdfs://") {
            return hdfs(rest).map_err(wrong);
        }
        Err(wrong(
            "use s3://bucket/path, hdfs://namenode:port/path or file:///path",
        ))
    }

    /// Error for an address that this build has no client for.
    #[cfg(not(all(feature = "s3", feature = "hdfs")))]
    pub(crate) fn not_built(&self, uri: &str, _: &super::StorageOptions) -> Error {
        let (name, feature) = match self {
            Self::S3 { .. } => ("S3", "s3"),
            Self::Hdfs { .. } => ("HDFS", "hdfs"),
            Self::File { .. } => ("directories", "file"),
        };
        Error::Address {
            uri: uri.to_owned(),
            reason: format!(
                "this build has no {name} (cargo feature `{feature}`); use file:///path"
            ),
        }
    }
}

/// What stands behind `hdfs://`, or what is wrong with it.
fn hdfs(rest: &str) -> std::result::Result<Location, &'static str> {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if authority.contains('@') {
        return Err(
            "a user does not belong in an address: write hdfs://namenode:port/path, and name the user \
             in HADOOP_USER_NAME of the process",
        );
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    if host.is_empty() || port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err(
            "name the NameNode and its port, as in hdfs://namenode:8020/path, or the name service, as in \
             hdfs://nameservice/path",
        );
    }
    let path = path.trim_matches('/');
    if path.split('/').any(|part| matches!(part, "." | "..")) {
        return Err("the path must not contain `.` or `..`");
    }
    Ok(Location::Hdfs {
        authority: authority.to_owned(),
        path: path.to_owned(),
    })
}

/// Whether what follows the scheme has a query. An object's name may contain a `?`.
fn has_query(rest: &str) -> bool {
    let host = rest.split('/').next().unwrap_or_default();
    host.contains('?') || KEYS.iter().any(|key| rest.contains(key))
}

/// What queries of presigned URLs begin with.
const KEYS: [&str; 2] = ["?X-Amz-", "?AWSAccessKeyId"];

/// An address for people: without what stands before an `@` in the place of the host, which may be
/// a user name and a password, and without the query of a URL.
pub fn without_secret(uri: &str) -> String {
    let (scheme, rest) = uri.split_once("://").unwrap_or(("", uri));
    let is_url = matches!(scheme, "http" | "https") || (scheme == "s3" && has_query(rest));
    let (rest, query) = match rest.split_once('?') {
        Some((rest, _)) if is_url => (rest, "?…"),
        _ => (rest, ""),
    };
    let host_end = rest.find('/').unwrap_or(rest.len());
    let (host, path) = rest.split_at(host_end);
    let scheme = uri
        .find("://")
        .map_or("", |end| uri.get(..end + 3).unwrap_or_default());
    match host.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}…@{host}{path}{query}"),
        None => format!("{scheme}{rest}{query}"),
    }
}

/// Whether two addresses name the same place, as far as can be seen from here: a directory has
/// many names.
pub(crate) fn is_same_place(one: &str, other: &str) -> bool {
    match (Location::parse(one), Location::parse(other)) {
        (Ok(Location::File { directory: one }), Ok(Location::File { directory: other })) => {
            let plain = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
            let real = |path: &Path| path.canonicalize().ok();
            plain(&one) == plain(&other) || real(&one).is_some_and(|one| real(&other) == Some(one))
        }
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

/// Splits an address at its last `/`: the folder and the name in it.
pub(crate) fn split_last(uri: &str) -> Option<(&str, &str)> {
    let (folder, name) = uri.trim_end_matches('/').rsplit_once('/')?;
    let whole = !name.is_empty() && !folder.ends_with('/') && !folder.ends_with(':');
    whole.then_some((folder, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        assert_eq!(
            Location::parse("file:///var/lib/x").unwrap(),
            Location::File {
                directory: "/var/lib/x".into()
            }
        );
        assert_eq!(
            Location::parse("file://./.run/x").unwrap(),
            Location::File {
                directory: "./.run/x".into()
            }
        );
        for (uri, prefix) in [
            ("s3://bucket", ""),
            ("s3://bucket/", ""),
            ("s3://bucket/a/b/", "a/b"),
        ] {
            let expected = Location::S3 {
                bucket: "bucket".to_owned(),
                prefix: prefix.to_owned(),
            };
            assert_eq!(Location::parse(uri).unwrap(), expected, "{uri}");
        }
        for (uri, authority, path) in [
            ("hdfs://namenode:8020/a/b/", "namenode:8020", "a/b"),
            ("hdfs://analytics/a", "analytics", "a"),
            ("hdfs://analytics", "analytics", ""),
        ] {
            let expected = Location::Hdfs {
                authority: authority.to_owned(),
                path: path.to_owned(),
            };
            assert_eq!(Location::parse(uri).unwrap(), expected, "{uri}");
        }
    }

    #[test]
    fn other_addresses_are_refused_with_what_is_allowed() {
        for uri in [
            "",
            "/var/lib",
            "file://relative",
            "file://./",
            "file://./../a",
            "file:///a/../b",
            "s3:///prefix",
            "hdfs:///path",
            "hdfs://:8020/path",
            "hdfs://namenode:port/path",
            "hdfs://namenode:8020/a/../b",
        ] {
            let error = Location::parse(uri).unwrap_err();
            assert!(error.to_string().contains(&format!("`{uri}`")), "{error}");
        }
    }

    #[test]
    fn keys_in_an_address_are_refused_and_not_repeated() {
        let error = Location::parse("s3://AKIAKEY:wJalr@bucket/x").unwrap_err();
        let text = error.to_string();
        assert!(text.contains("`s3://…@bucket/x`"), "{text}");
        assert!(!text.contains("AKIA") && !text.contains("wJalr"), "{text}");
        assert_eq!(without_secret("s3://bucket/a@b"), "s3://bucket/a@b");
        assert_eq!(without_secret("s3://bucket/a?b"), "s3://bucket/a?b");
        assert_eq!(without_secret("/a/b"), "/a/b");
        let error = Location::parse("hdfs://alice@namenode:8020/x").unwrap_err();
        assert!(error.to_string().contains("HADOOP_USER_NAME"), "{error}");
        for uri in [
            "s3://bucket?X-Amz-Signature=secret",
            "s3://bucket/a/b?X-Amz-Credential=secret&x=/y",
        ] {
            let text = Location::parse(uri).unwrap_err().to_string();
            assert!(text.contains("query") && !text.contains("secret"), "{text}");
        }
    }

    #[test]
    fn the_last_segment_is_split_off() {
        assert_eq!(split_last("s3://b/p/x"), Some(("s3://b/p", "x")));
        assert_eq!(split_last("file:///p/x/"), Some(("file:///p", "x")));
        assert_eq!(split_last("s3://b"), None);
        assert_eq!(split_last("nothing"), None);
    }
}
