use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::*;

async fn read_of(bytes: &[u8]) -> Result<Hello, HelloError> {
    let (mut here, mut there) = tokio::io::duplex(64 * 1_024);
    there.write_all(bytes).await.unwrap();
    drop(there);
    tokio::time::timeout(Duration::from_secs(10), read(&mut here))
        .await
        .unwrap()
}

fn hello() -> Hello {
    Hello {
        job: "lineage".to_owned(),
        attempt: 7,
        from: "a".to_owned(),
        to: "b".to_owned(),
    }
}

#[tokio::test]
async fn a_hello_is_read_back() {
    let mut bytes = Vec::new();
    write(&mut bytes, &hello()).await.unwrap();
    assert_eq!(read_of(&bytes).await.unwrap(), hello());
    for end in 0..bytes.len() {
        assert!(
            matches!(read_of(&bytes[..end]).await, Err(HelloError::Io(_))),
            "{end}"
        );
    }
}

#[tokio::test]
async fn strangers_other_versions_and_endless_messages_are_told_apart() {
    let mut bytes = Vec::new();
    write(&mut bytes, &hello()).await.unwrap();
    let changed = |at: usize, to: [u8; 2]| {
        let mut bytes = bytes.clone();
        bytes[at..at + 2].copy_from_slice(&to);
        bytes
    };
    assert!(matches!(
        read_of(b"GET / HTTP/1.1\r\n\r\n").await,
        Err(HelloError::Stranger)
    ));
    assert!(matches!(
        read_of(&changed(4, [9, 0])).await,
        Err(HelloError::Version(9))
    ));
    assert!(matches!(
        read_of(&changed(6, [255, 255])).await,
        Err(HelloError::TooLong(65_535))
    ));
    assert!(matches!(
        read_of(&changed(8, *b"??")).await,
        Err(HelloError::Unreadable(_))
    ));
    let long = Hello {
        job: "x".repeat(5_000),
        ..hello()
    };
    assert!(matches!(
        write(&mut Vec::new(), &long).await,
        Err(HelloError::TooLong(_))
    ));
}
