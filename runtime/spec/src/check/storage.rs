//! Where checkpoints may lie.

use crate::wording::shown;

const HOW: &str = "Write `s3://bucket/path`, `hdfs://namenode:port/path` or `file:///path`";

/// Checks the URI of a checkpoint storage.
pub(super) fn check(storage: &str) -> Result<(), String> {
    let Some((scheme, rest)) = storage.split_once("://") else {
        return Err(without_scheme(storage));
    };
    // Not shown: what stands before the `@` is a secret.
    if rest
        .split('/')
        .next()
        .is_some_and(|host| host.contains('@'))
    {
        return Err(format!(
            "the address contains a user name or keys (`…@`). They do not belong here, where \
             everybody reads them: write `{scheme}://` and the bucket alone, and give credentials \
             to the process in its environment (docs/checkpoints.md)",
            scheme = shown(scheme)
        ));
    }
    // Not shown either.
    let bucket = rest.split('/').next().unwrap_or_default();
    let is_signed = rest.contains("?X-Amz-") || rest.contains("?AWSAccessKeyId");
    if scheme == "s3" && (bucket.contains('?') || is_signed) {
        return Err(format!(
            "the address has a query (`?…`), as a presigned URL. Keys do not belong here, where everybody \
             reads them. {HOW}, and give credentials to the process in its environment \
             (docs/checkpoints.md)"
        ));
    }
    match scheme {
        "s3" => s3(rest),
        "file" => file(rest),
        "hdfs" => hdfs(rest),
        "s3a" | "s3n" => Err(format!(
            "the scheme is {scheme}://, and must be s3://. {HOW}"
        )),
        other => Err(format!(
            "the scheme `{}://` is not known. {HOW}",
            shown(other)
        )),
    }
}

fn without_scheme(storage: &str) -> String {
    if storage.starts_with('/') || storage.starts_with("./") {
        return format!("`{0}` has no scheme. Write `file://{0}`", shown(storage));
    }
    if let Some(path) = storage.strip_prefix("file:/") {
        return format!(
            "`{}` has one slash. Write three: `file:///{}`",
            shown(storage),
            shown(path)
        );
    }
    format!("`{}` has no scheme. {HOW}", shown(storage))
}

fn s3(rest: &str) -> Result<(), String> {
    let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-');
    let is_bucket = (3..=63).contains(&bucket.len())
        && bucket.chars().all(fits)
        && !bucket.starts_with(['.', '-'])
        && !bucket.ends_with(['.', '-'])
        && !bucket.contains("..");
    if !is_bucket {
        return Err(format!(
            "`{}` is not the name of an S3 bucket: 3 to 63 lower-case letters, digits, `.` and \
             `-`, not at the ends. {HOW}",
            shown(bucket)
        ));
    }
    segments(path)
}

fn hdfs(rest: &str) -> Result<(), String> {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    if host.is_empty() || !host.chars().all(fits) || port.is_some_and(|port| !is_port(port)) {
        return Err(format!(
            "`{}` names no NameNode. Write its host and port, as in `hdfs://namenode:8020/path`, or the \
             name service of the cluster, as in `hdfs://nameservice/path`, whose NameNodes stand in \
             hdfs-site.xml of HADOOP_CONF_DIR",
            shown(authority)
        ));
    }
    segments(path)
}

fn file(rest: &str) -> Result<(), String> {
    let relative = || rest.strip_prefix("./").filter(|path| !path.is_empty());
    match rest.strip_prefix('/').or_else(relative) {
        Some(path) => segments(path),
        None => Err(format!(
            "`file://{}` is not absolute. Write three slashes, as in `file:///path`, or \
             `file://./path` for a path from the directory that the process is started in",
            shown(rest)
        )),
    }
}

/// Checks what stands after the first slash. One slash at the end is ignored.
fn segments(path: &str) -> Result<(), String> {
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.is_empty() {
        return Ok(());
    }
    for segment in path.split('/') {
        if segment.is_empty() {
            return Err("the path has two slashes in a row. Write one".to_owned());
        }
        if matches!(segment, "." | "..") {
            return Err(format!(
                "the path has a part `{segment}`, which may lead elsewhere. Write the path without it"
            ));
        }
    }
    if let Some(c) = path
        .chars()
        .find(|c| matches!(c, '?' | '#' | '\\' | '*') || c.is_control())
    {
        let c = shown(&c.to_string());
        return Err(format!(
            "the path contains `{c}`, which is not allowed. Choose another path"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_and_paths_are_storage() {
        for storage in [
            "s3://bucket",
            "s3://my.bucket-1/",
            "s3://bucket/a/b c/",
            "hdfs://namenode:8020/checkpoints",
            "hdfs://analytics/a/b",
            "hdfs://name_service",
            "file:///",
            "file:///tmp/ä/checkpoints",
            "file://./.run/checkpoints",
        ] {
            assert_eq!(check(storage), Ok(()), "{storage}");
        }
    }

    #[test]
    fn everything_else_is_refused_with_what_to_write() {
        for (storage, part) in [
            ("/tmp/x", "Write `file:///tmp/x`"),
            ("checkpoints", "has no scheme"),
            ("hdfs:///x", "names no NameNode"),
            ("hdfs://namenode:/x", "names no NameNode"),
            ("hdfs://namenode:0/x", "names no NameNode"),
            ("hdfs://namenode:8020/a/../b", "a part `..`"),
            ("s3a://bucket/x", "must be s3://"),
            ("gs://bucket/x", "is not known"),
            ("s3://Bucket/x", "not the name of an S3 bucket"),
            ("s3:///x", "not the name of an S3 bucket"),
            ("file://tmp/x", "three slashes"),
            ("file://.", "three slashes"),
            ("file://./", "`file://./path`"),
            ("file://./../etc", "a part `..`"),
            ("file:///tmp/../etc", "a part `..`"),
            ("s3://bucket//x", "two slashes in a row"),
            ("./checkpoints", "Write `file://./checkpoints`"),
            ("file:/tmp/x", "Write three: `file:///tmp/x`"),
            ("s3://bucket/x?versionId=1", "contains `?`"),
        ] {
            let message = check(storage).unwrap_err();
            assert!(message.contains(part), "{storage}: {message}");
        }
    }

    #[test]
    fn a_secret_in_the_address_is_refused_and_not_repeated() {
        for storage in [
            "s3://AKIAKEY:wJalrXUtnFEMI@bucket/x",
            "s3://AKIAKEY@bucket",
            "hdfs://AKIAKEY:wJalrXUtnFEMI@namenode:8020/x",
            "https://AKIAKEY:wJalrXUtnFEMI@host/bucket",
        ] {
            let message = check(storage).unwrap_err();
            assert!(message.contains("do not belong here"), "{message}");
            assert!(!message.contains("AKIA"), "{message}");
            assert!(!message.contains("wJal"), "{message}");
        }
    }
}
